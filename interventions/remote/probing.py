"""Ask a server what it runs: the parts of a model, their dtype, and whether there are gradients."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import nnsight
import torch
from torch import Tensor

from interventions.errors import ArchitectureError, ServerError
from interventions.prompts import Batch
from interventions.site import Site

if TYPE_CHECKING:
    from interventions.model import Model
    from interventions.validation import Findings

_asked: dict[tuple[str, str], dict[str, Any]] = {}
"""What each server said of each model in this process, so that it is asked once."""
_asking = threading.Lock()


def validate_remotely(model: Model) -> tuple[Findings, torch.dtype]:
    """Try a model on its server with two requests, as `validation.validate` does here.

    Held: that blocks have the width that the configuration says, and that skipping all blocks up to the middle one
    and giving that its own output leaves the last logits unchanged. What attention and MLP add is offered as a site
    where the two make up what the last block adds.

    Raises:
        ArchitectureError: one of the first two does not hold.
        RemoteError: the server is not there, or does not run this model.
    """
    from interventions.validation import Findings

    known = _known(model)
    if "dtype" not in known:
        found = _ask(model)
        known.update(found)
    model.remote.facts.setdefault(model.name, {}).update(dtype=str(known["dtype"]).removeprefix("torch."))
    return Findings(known["block_tuple"], known["components"], False, ()), known["dtype"]


def has_gradients(model: Model) -> bool:
    """Whether the model's server gives gradients: what `Remote.sandboxed` says, else tried with one small request.

    Raises:
        RemoteError: the request failed before it was run.
    """
    if model.remote.sandboxed != "auto":
        return not model.remote.sandboxed
    known = _known(model)
    if "gradients" not in known:
        known["gradients"] = _try_gradient(model)
    model.remote.facts.setdefault(model.name, {}).update(gradients=known["gradients"])
    return known["gradients"]


def forget() -> None:
    """Ask every server again: one may have been started anew in another way."""
    _asked.clear()


def _known(model: Model) -> dict[str, Any]:
    with _asking:
        return _asked.setdefault((model.remote.host, model.nnsight.to_model_key()), {})


def _ask(model: Model) -> dict[str, Any]:
    from interventions.forward import resume
    from interventions.validation import close, probe

    batch = probe(model)
    middle = (model.n_layers - 1) // 2
    found = _look(model, batch, middle)
    hidden, logits = found["hidden"], found["logits"]
    if hidden.shape != (*batch.mask.shape, model.d_model):
        raise ArchitectureError(
            f"{model.name}: block {middle} returns {tuple(hidden.shape)} at {model.remote.host}, expected hidden "
            f"states of shape {(*batch.mask.shape, model.d_model)}; name the blocks with interventions.register."
        )
    tolerance = 1e-4 if hidden.dtype == torch.float32 else 0.05
    components: tuple[str, ...] = ("resid",)
    if len(found["parts"]) == 4:
        entering, attn, mlp, leaving = found["parts"]
        added = (leaving - entering)[batch.mask]
        if attn.shape == mlp.shape == leaving.shape and close((attn + mlp)[batch.mask], added, tolerance):
            components = ("attn", "mlp", "resid")
    model.block_tuple, model.components = int(found["length"]), components
    model.head_is_linear, model.pointwise = False, ()
    model._dtype = hidden.dtype
    if not close(resume(model, batch, Site(middle), hidden), logits, tolerance):
        raise ArchitectureError(
            f"{model.name}: giving block {middle} its own output changes the result at {model.remote.host}, so its "
            "blocks are not what they seem; name them with interventions.register."
        )
    return {"block_tuple": model.block_tuple, "components": components, "dtype": hidden.dtype}


def _look(model: Model, batch: Batch, middle: int) -> dict[str, Any]:
    from interventions.forward import inputs

    architecture, last, root = model.architecture, model.blocks[model.n_layers - 1], model.nnsight
    block, parts = model.blocks[middle], []
    if architecture.attn is not None and architecture.mlp is not None and middle < model.n_layers - 1:
        parts = [last.get(architecture.attn), last.get(architecture.mlp)]
    with root.trace(inputs(batch), use_cache=False, **model.where()):
        output = block.output
        length = len(output) if isinstance(output, tuple) else 0
        seen = []
        if parts:
            seen = [last.input]
            for part in parts:
                seen.append(part.output)
            leaving = last.output
            seen.append(leaving[0] if isinstance(leaving, tuple) else leaving)
        found = {
            "hidden": output[0] if length else output,
            "length": length,
            "parts": seen,
            "logits": root.output.logits[:, -1].clone(),
        }
        found = nnsight.save(found)
    if not isinstance(found["hidden"], Tensor):
        raise ArchitectureError(
            f"{model.name}: block {middle} returns no tensor; name the blocks with interventions.register."
        )
    return found


def _try_gradient(model: Model) -> bool:
    from interventions.forward import gradient
    from interventions.validation import probe

    batch = probe(model)
    x = torch.ones(*batch.mask.shape, model.d_model, dtype=model.dtype)
    one = torch.ones(1)
    try:
        found = gradient(
            model, batch, Site((model.n_layers - 1) // 2), x, 2 * x, one, one, lambda logits: logits.float()[:, 0]
        )
    except ServerError:
        return False
    return bool(found.isfinite().all())
