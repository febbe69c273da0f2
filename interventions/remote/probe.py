"""Test requests to a server: the parts of a model, their dtype, and whether there are gradients."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import nnsight
import torch
from torch import Tensor

from interventions.bare_model import BareModel, Findings
from interventions.errors import ArchitectureError, ServerError
from interventions.forward import gradient, inputs, resume
from interventions.prompts import Batch
from interventions.remote.remote import Remote
from interventions.validation import close, middle_site, tolerance, validation_batch


@dataclass
class _Answers:
    """What a server has answered about one model in this process, so that it is asked only once."""

    findings: Findings | None = None
    gradients: bool | None = None


@dataclass(frozen=True, eq=False)
class _CleanPass:
    """What one unchanged pass of the test sequences returned.

    Attributes:
        hidden: the hidden states that the middle block returns.
        block_tuple: length of the tuple in which it returns them, 0 for a plain tensor.
        sublayers: input, attention, MLP and output of the last block, or nothing.
        logits: the logits of the last token.
    """

    hidden: Tensor
    block_tuple: int
    sublayers: tuple[Tensor, ...]
    logits: Tensor


_answers: dict[tuple[str, str], _Answers] = {}
_answering = threading.Lock()


def validate_remotely(model: BareModel, remote: Remote) -> Findings:
    """Test a model on its server with two requests, as `validation.validate` tests one here.

    1. Blocks return hidden states of the width that the configuration gives.
    2. Skipping all blocks up to the middle one, with its own output in their place, leaves the last logits unchanged.
    3. If the outputs of attention and MLP add up to what the last block adds to the residual stream, they are offered
       as components.

    Raises:
        ArchitectureError: one of the first two does not hold.
        RemoteError: the server cannot be reached, or does not run this model.
    """
    answers = _answers_of(model, remote)
    if answers.findings is None:
        answers.findings = _findings(model, remote)
    remote.facts.setdefault(model.name, {}).update(dtype=str(answers.findings.dtype).removeprefix("torch."))
    return answers.findings


def has_gradients(model: BareModel, remote: Remote) -> bool:
    """Return whether the server gives gradients: what `Remote.sandboxed` says, or the result of a small request.

    Raises:
        RemoteError: the request failed before it ran.
    """
    if remote.sandboxed != "auto":
        return not remote.sandboxed
    answers = _answers_of(model, remote)
    if answers.gradients is None:
        answers.gradients = _test_gradient(model)
    remote.facts.setdefault(model.name, {}).update(gradients=answers.gradients)
    return answers.gradients


def forget() -> None:
    """Discard all answers, for servers that were restarted with other settings."""
    _answers.clear()


def _answers_of(model: BareModel, remote: Remote) -> _Answers:
    with _answering:
        return _answers.setdefault((remote.host, model.nnsight.to_model_key()), _Answers())


def _findings(model: BareModel, remote: Remote) -> Findings:
    """Run the test requests.

    Raises:
        ArchitectureError: a block returns something else than expected.
    """
    # Read an unchanged pass
    batch, site = validation_batch(model), middle_site(model)
    clean = _run_clean(model, batch, site.layer)
    expected = (*batch.mask.shape, model.d_model)
    if clean.hidden.shape != expected:
        raise ArchitectureError(
            f"{model.name}: block {site.layer} returns {tuple(clean.hidden.shape)} at {remote.host}, expected hidden "
            f"states of shape {expected}; name the blocks with interventions.register."
        )
    findings = Findings(block_tuple=clean.block_tuple, dtype=clean.hidden.dtype)
    limit = tolerance(clean.hidden.dtype)

    # Add up what attention and MLP add to the residual stream
    if clean.sublayers:
        entering, attn, mlp, leaving = clean.sublayers
        added = (leaving - entering)[batch.mask]
        if attn.shape == mlp.shape == leaving.shape and close((attn + mlp)[batch.mask], added, limit):
            findings = replace(findings, components=(("attn", "mlp", "resid"),))

    # Resume from the middle block
    if not close(resume(model.with_findings(findings), batch, site, clean.hidden), clean.logits, limit):
        raise ArchitectureError(
            f"{model.name}: giving block {site.layer} its own output changes the result at {remote.host}, so its "
            "blocks are not what they seem; name them with interventions.register."
        )
    return findings


def _run_clean(model: BareModel, batch: Batch, middle: int) -> _CleanPass:
    """Send the first test request.

    Raises:
        ArchitectureError: a block does not return a tensor.
    """
    # Find the modules to read
    architecture, last, root = model.architecture, model.blocks[model.n_layers - 1], model.nnsight
    block, sublayers = model.blocks[middle], []
    if architecture.attn is not None and architecture.mlp is not None and middle < model.n_layers - 1:
        sublayers = [last.get(architecture.attn), last.get(architecture.mlp)]

    # Read their outputs, in the order in which they run
    with root.trace(inputs(batch), use_cache=False, **model.trace_options):
        output = block.output
        block_tuple = len(output) if isinstance(output, tuple) else 0
        outputs = []
        if sublayers:
            outputs = [last.input]
            for sublayer in sublayers:
                outputs.append(sublayer.output)
            leaving = last.output
            outputs.append(leaving[0] if isinstance(leaving, tuple) else leaving)

        # The server returns one saved dictionary.
        result = {
            "hidden": output[0] if block_tuple else output,
            "block_tuple": block_tuple,
            "sublayers": outputs,
            "logits": root.output.logits[:, -1].clone(),
        }
        result = nnsight.save(result)

    if not isinstance(result["hidden"], Tensor):
        raise ArchitectureError(
            f"{model.name}: block {middle} returns no tensor; name the blocks with interventions.register."
        )
    return _CleanPass(result["hidden"], int(result["block_tuple"]), tuple(result["sublayers"]), result["logits"])


def _test_gradient(model: BareModel) -> bool:
    """Return whether a small request for a gradient succeeds."""
    batch = validation_batch(model)
    x = torch.ones(*batch.mask.shape, model.d_model, dtype=model.dtype)
    one_node = torch.ones(1), torch.ones(1)
    try:
        slope = gradient(model, batch, middle_site(model), (x, 2 * x), one_node, lambda logits: logits.float()[:, 0])
    except ServerError:
        return False
    return bool(slope.isfinite().all())
