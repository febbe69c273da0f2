"""One checkpoint of a causal language model, opened through nnsight and validated before it is used."""

from __future__ import annotations

import copy
import threading
import warnings
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from nnsight import TransformersModel

from interventions.bare_model import BareModel, Findings
from interventions.budget import free_memory
from interventions.default_budget import MAX_TOKENS
from interventions.errors import CheckpointLoadError, InterventionError, RevisionUnknownError
from interventions.given_model import KINDS, given_model
from interventions.load_model import load_model, read_config
from interventions.own_code import own_code_refusal
from interventions.prompts import Sequences
from interventions.read_tokenizer import read_tokenizer
from interventions.remote.probe import has_gradients, validate_remotely
from interventions.remote.remote import Remote
from interventions.shared_weights import with_shared_weights
from interventions.site import Site
from interventions.validation import continues_from_cache, continues_from_tokens, validate
from user_input.home import expanded
from user_input.reason import reason

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_building = threading.Lock()
"""Held while a model is built without weights, which changes torch's default dtype for all threads."""


class Model(BareModel):
    """A causal LM with named sites. Open one with `Model.open`, or wrap one in memory with `Model.wrap`.

    Parameters never require gradients, and dropout is off. Opening a model runs it on two short sequences to check
    what the table of architectures, or the search by structure, says about it, so that a wrong entry fails here and
    not in the middle of a run.

    Attributes:
        nnsight: the nnsight model, for traces of your own.
        tokenizer: its tokenizer, or None.
        n_layers, d_model, vocab_size: sizes.
        components: the components that a `Site` may name at some layer; `components_at` has those of one layer.
        head_is_linear: whether the logits are exactly the unembedding of the final norm's output, so that two rows of
            the unembedding give a logit difference.
        block_tuple: length of the tuple that a decoder block returns, 0 where it returns a tensor.
        pointwise: paths of the modules of the last block that may run at the last position only.
        equal_lengths: whether batches hold sequences of one length only, because the model does not ignore padding.
        remote: the server that runs the model, or None. With a server, the weights are there, and only names and shapes
            are here.
        max_tokens: batch budget of everything that runs the model: slots, padding included, in one forward pass. It may
            be set at any time.

    Examples:
        >>> model = Model.open("EleutherAI/pythia-160m", revision="step512")  # doctest: +SKIP
        >>> with Model.open("suites/tiny-pythia/main") as model:  # doctest: +SKIP
        ...     print(model.n_layers, model.d_model)
    """

    def __init__(
        self,
        nnsight: TransformersModel,
        name: str,
        findings: Findings,
        remote: Remote | None = None,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        super().__init__(nnsight, name, remote, findings)
        self.max_tokens = max_tokens
        self._continues: dict[Site, bool] = {}

    @classmethod
    def open(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        trust_remote_code: bool = False,
        remote: Remote | str | bool | None = None,
        max_tokens: int = MAX_TOKENS,
    ) -> Model:
        """Load a checkpoint from a folder or a Hub repository, or name one that a server is to run.

        Args:
            source: a folder that `from_pretrained` reads, or a repository id.
            revision: branch, tag or commit of the repository.
            tokenizer: used instead of the repository's, for repositories that have none (BLOOM's intermediate
                checkpoints).
            device: defaults to the GPU if there is one.
            dtype: of the weights and activations.
            trust_remote_code: run the repository's own Python code.
            remote: None runs the model here. The URL of an NDIF server, or True for the hosted one, runs it there, in
                the server's dtype; ``"local"`` runs it here the way a server would. See `Remote` for more.
            max_tokens: batch budget, see `Model`.

        Raises:
            CheckpointLoadError: there is no such checkpoint, its weights cannot be read or do not match its
                configuration, it needs code of its own, or it computes NaN or infinity.
            ArchitectureError: its parts cannot be found or are not as expected.
            RemoteError: the server cannot be reached, or does not run this model.
        """
        name = f"{source}@{revision}" if revision else str(source)
        server = Remote.of(remote)
        if server is not None and server.hosted:
            nnsight = _build_without_weights(
                str(source), revision, tokenizer, server, trust_remote_code=trust_remote_code
            )
        else:
            nnsight = _load(
                str(source), revision, tokenizer, device=device, dtype=dtype, trust_remote_code=trust_remote_code
            )
        return cls.validated(nnsight, name, server, max_tokens)

    @classmethod
    def wrap(
        cls,
        model: object,
        tokenizer: PreTrainedTokenizerBase | None = None,
        name: str = "model",
        *,
        remote: Remote | str | bool | None = None,
        max_tokens: int = MAX_TOKENS,
    ) -> Model:
        """Use a model that is already in memory, where and as it is: also if it is quantised, or on several devices.

        It is neither loaded again nor changed: training mode, `requires_grad`, hooks and the padding side of its
        tokenizer stay as they are, because only its weights are shared (`interventions.shared_weights`).

        Args:
            model: a transformers `PreTrainedModel`, a peft `PeftModel` with its adapters, or an nnsight `LanguageModel`
                or `TransformersModel`, which loads its weights if it has not done so.
            tokenizer: its tokenizer; by default that of the nnsight model, or else the one of the place that the model
                was loaded from.
            name: for messages.
            remote: only ``"local"``, which runs it the way a server would.
            max_tokens: batch budget, see `Model`.

        Raises:
            InterventionError: it is no such model, has no weights, or is to run on a server.
            CheckpointLoadError: no tokenizer is given, and none is found; or the model computes NaN or infinity.
            ArchitectureError: its parts cannot be found or are not as expected.

        Examples:
            >>> model = Model.wrap(LanguageModel("openai-community/gpt2"))  # doctest: +SKIP
            >>> model = Model.wrap(AutoModelForCausalLM.from_pretrained(folder, device_map="auto"))  # doctest: +SKIP
        """
        server = Remote.of(remote)
        if server is not None and server.hosted:
            raise InterventionError(
                f"A model in memory cannot run at {server.host}; open it by its repository instead."
            )
        source = given_model(model)
        if source is None:
            raise InterventionError(f"A model in memory is {KINDS}, not a {type(model).__name__}.")

        # Find its tokenizer
        own = tokenizer or source.tokenizer
        if own is None:
            own = _read_tokenizer(source.model.name_or_path or name, None, trust_remote_code=False)

        # On a machine with a GPU, a pipeline moves models there that are not told to stay
        module = with_shared_weights(source.model)
        stay = {} if hasattr(module, "hf_device_map") else {"device": module.device}
        nnsight = TransformersModel(module, task="text-generation", tokenizer=copy.deepcopy(own), **stay)
        return cls.validated(nnsight, name, server, max_tokens)

    @classmethod
    def validated(
        cls, nnsight: TransformersModel, name: str, remote: Remote | None = None, max_tokens: int = MAX_TOKENS
    ) -> Model:
        """Run the test passes on an nnsight model and, if they succeed, make a `Model` of it.

        Raises:
            ArchitectureError: its parts cannot be found or are not as expected.
            CheckpointLoadError: it computes NaN or infinity.
            RemoteError: the server cannot be reached, or does not run this model.
        """
        if remote is not None and remote.hosted:
            findings = validate_remotely(BareModel(nnsight, name, remote), remote)
        else:
            findings = validate(BareModel(nnsight, name))
        if remote is not None:
            # A sandboxed server gives no weights to compute logits with, so every pass there ends at the model's own.
            findings = replace(findings, head_is_linear=False, pointwise=())
        return cls(nnsight, name, findings, remote, max_tokens)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the weights; the model cannot be used afterwards."""
        self._nnsight = None
        free_memory()

    def __repr__(self) -> str:
        model_type = getattr(self.config, "model_type", "?")
        return f"Model({self.name!r}, {model_type}, {self.n_layers} layers, d_model {self.d_model})"

    @property
    def gradients(self) -> bool:
        """Whether gradients are available: always here, and on a server that does not run requests in a sandbox.

        Raises:
            RemoteError: the server was asked, and failed in another way than a sandbox does.
        """
        return self.remote is None or not self.remote.hosted or has_gradients(self, self.remote)

    def continues_from_cache(self, site: Site) -> bool:
        """Whether a pass upward from a site may start at the first changed token, with a KV cache for those before it.

        Tried once for each site: which blocks run, and whether all of them keep keys and values, depends on it.
        """
        if self.remote is not None or self.equal_lengths:
            return False
        site = site.resolve(self.n_layers)
        if site not in self._continues:
            self._continues[site] = continues_from_cache(self, site)
        return self._continues[site]

    @cached_property
    def continues_from_tokens(self) -> bool:
        """Whether a pass may start behind tokens that sequences share, with a KV cache for those; tried once."""
        return self.remote is None and not self.equal_lengths and continues_from_tokens(self)

    def check_tokens(self, sequences: Sequences) -> None:
        """Reject token ids and positions that the model has no embedding for, before they cause an error on the device.

        Sequences that are longer than those that a model with rotary positions was trained on cause a warning.

        Raises:
            InterventionError: names the first such token and its sequence, or both lengths.
        """
        longest = int(sequences.lengths.max()) if len(sequences) else 0
        if problem := self.positions.problem(longest):
            raise InterventionError(f"{self.name}: {problem}; use shorter sequences.")
        if doubt := self.positions.doubt(longest):
            warnings.warn(f"{self.name}: {doubt}: its results there mean little.", RuntimeWarning, stacklevel=3)
        ids = sequences.tokens
        outside = ((ids < 0) | (ids >= self.n_embeddings)).nonzero()
        if len(outside):
            token = int(outside[0])
            raise InterventionError(
                f"Sequence {int(sequences.sequence_of_token[token])} has token {int(ids[token])}, but {self.name} has "
                f"tokens 0 to {self.n_embeddings - 1}; was it tokenized for another model?"
            )


def _load(
    source: str,
    revision: str | None,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    device: str | torch.device | None,
    dtype: torch.dtype,
    trust_remote_code: bool,
) -> TransformersModel:
    """Load weights onto a device, and the tokenizer unless it is given.

    Raises:
        CheckpointLoadError: there is no such checkpoint, its weights cannot be read or do not match its configuration,
            or it has no tokenizer.
    """
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    module = load_model(source, revision, device=target, dtype=dtype, trust_remote_code=trust_remote_code)
    if tokenizer is None:
        tokenizer = _read_tokenizer(source, revision, trust_remote_code=trust_remote_code)

    # On a machine with a GPU, a pipeline moves models there that are not told to stay.
    stay = {"device": "cpu"} if target.type == "cpu" else {}
    return TransformersModel(module, task="text-generation", tokenizer=tokenizer, **stay)


def _read_tokenizer(source: str, revision: str | None, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a checkpoint.

    Raises:
        CheckpointLoadError: it has none that can be used; the message says how to give another.
    """
    try:
        return read_tokenizer(source, revision, trust_remote_code=trust_remote_code)
    except CheckpointLoadError as error:
        name = f"{source}@{revision}" if revision else source
        raise CheckpointLoadError(
            f"Cannot open the tokenizer of checkpoint {name}: {reason(error)}; give one as tokenizer=..."
        ) from error


def _build_without_weights(
    source: str,
    revision: str | None,
    tokenizer: PreTrainedTokenizerBase | None,
    remote: Remote,
    *,
    trust_remote_code: bool,
) -> TransformersModel:
    """Build the modules of a repository's model without weights, for a server that has them.

    Raises:
        CheckpointLoadError: `source` is a folder, or not a repository of the Hub, or it has no tokenizer.
        RevisionUnknownError: the repository has no such revision.
    """
    if expanded(source).is_dir():
        raise CheckpointLoadError(
            f"{source} is a folder of this machine, which {remote.host} does not have; name a repository of the "
            "Hub instead."
        )
    name = f"{source}@{revision}" if revision else source
    allowed: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        # The configuration comes first, because its error says whether there is such a repository and revision
        read_config(source, allowed)
        if tokenizer is None:
            # nnsight would look for one itself, which fails with some releases of transformers
            tokenizer = _read_tokenizer(source, revision, trust_remote_code=trust_remote_code)
        with _building:
            nnsight = TransformersModel(
                source, task="text-generation", dtype=torch.get_default_dtype(), tokenizer=tokenizer, **allowed
            )
            nnsight.to_model_key()
        return nnsight
    except CheckpointLoadError:
        raise
    except Exception as error:  # an unreachable Hub or an unusual configuration makes loaders raise many kinds
        if refusal := own_code_refusal(name, error):
            raise CheckpointLoadError(refusal) from error
        unknown = "revision" in str(error).lower() or "not a valid git identifier" in str(error)
        kind = RevisionUnknownError if unknown and revision else CheckpointLoadError
        raise kind(f"Cannot find checkpoint {name} on the Hub: {reason(error)}") from error
