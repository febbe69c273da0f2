"""One checkpoint of a causal language model, opened through nnsight and checked part by part."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from nnsight import TransformersModel

from interventions import architectures
from interventions.budget import MAX_TOKENS, give_back
from interventions.errors import CheckpointLoadError, InterventionError, RevisionUnknownError, SiteError
from interventions.prompts import Sequences
from interventions.remote.place import Remote
from interventions.site import Site

if TYPE_CHECKING:
    from nnsight import Envoy
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


_building = threading.Lock()


class Model:
    """A causal LM with named sites. Open one with `Model.open`, or wrap one in memory with `Model.wrap`.

    Parameters never require grad, and dropout is off. What the table of architectures, or the search by
    structure, says about the model is tried on two short sequences when it is opened, so that a wrong
    entry fails here and not in the middle of a run.

    Attributes:
        nnsight: the nnsight model, for traces of one's own.
        tokenizer: its tokenizer, or None.
        n_layers, d_model, vocab_size: sizes.
        components: the components that a `Site` may name here.
        head_is_linear: whether the logits are the unembedding of the final norm's output and nothing more,
            so that two of its rows give a logit difference.
        block_tuple: length of the tuple that a block returns, 0 where it returns a tensor.
        pointwise: modules of the last block that may be given the last position only.
        remote: the server that runs it, or None. Then the weights are there; here are names and shapes only.
        max_tokens: batch budget of everything that runs the model: slots, padding included, in one forward pass. It may
            be set at any time.

    Examples:
        >>> model = Model.open("EleutherAI/pythia-160m", revision="step512")  # doctest: +SKIP
        >>> with Model.open("suites/tiny-pythia/main") as model:  # doctest: +SKIP
        ...     print(model.n_layers, model.d_model)
    """

    def __init__(
        self, nnsight: TransformersModel, name: str, remote: Remote | None = None, max_tokens: int = MAX_TOKENS
    ) -> None:
        self.nnsight = nnsight
        self.name = name
        self.remote = remote
        self.max_tokens = max_tokens
        module: PreTrainedModel = nnsight._module
        module.requires_grad_(False)
        module.eval()
        self.config = module.config
        self.architecture = architectures.find(module)
        self._unembedding_path = architectures.unembedding(module)
        self._embedding_path = architectures.embedding(module)
        self.n_layers = len(module.get_submodule(self.architecture.blocks))
        self.d_model = int(self.config.hidden_size)
        self.vocab_size = int(module.get_output_embeddings().weight.shape[0])

        self._few_logits = "logits_to_keep" in inspect.signature(module.forward).parameters
        self._dtype: torch.dtype | None = None

        from interventions.remote.probing import validate_remotely
        from interventions.validation import validate

        if remote is not None and remote.hosted:
            found, self._dtype = validate_remotely(self)
        else:
            found = validate(self)
        self.block_tuple = found.block_tuple
        self.components = found.components
        # A sandboxed server gives no weights to compute logits from: there every pass runs to the model's own.
        self.head_is_linear = found.head_is_linear and remote is None
        self.pointwise = found.pointwise if remote is None else ()

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
            tokenizer: use this one, for repositories that have none (BLOOM's intermediate checkpoints).
            device: defaults to the GPU if there is one.
            dtype: of the weights and activations.
            trust_remote_code: run the repository's own Python code.
            remote: None runs it here. The URL of an NDIF server, or True for the hosted one, runs it there, in the
                server's dtype; ``"local"`` runs it here the way a server would. See `Remote` for more.
            max_tokens: batch budget, see `Model`.

        Raises:
            CheckpointLoadError: there is no such checkpoint, or its weights cannot be read.
            ArchitectureError: its parts cannot be found or are not as expected.
            RemoteError: the server is not there, or does not run this model.
        """
        where = f"{source}@{revision}" if revision else str(source)
        place = Remote.of(remote)
        if place is not None and place.hosted:
            return cls._named(str(source), revision, where, tokenizer, trust_remote_code, place, max_tokens)
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        options: dict[str, Any] = {"tokenizer": tokenizer} if tokenizer is not None else {}
        if trust_remote_code:
            options["trust_remote_code"] = True
        try:
            with no_progress_bars():
                nnsight = TransformersModel(
                    str(source),
                    revision=revision,
                    task="text-generation",
                    dispatch=True,
                    dtype=dtype,
                    device_map=str(device) if device.type != "cpu" else None,
                    **options,
                )
        except Exception as error:  # whatever a damaged checkpoint makes the loaders raise
            reason = str(error).strip().splitlines()
            raise CheckpointLoadError(
                f"Cannot open checkpoint {where}: {reason[0] if reason else type(error).__name__}"
            ) from error
        return cls(nnsight, where, place, max_tokens)

    @classmethod
    def _named(
        cls,
        source: str,
        revision: str | None,
        where: str,
        tokenizer: PreTrainedTokenizerBase | None,
        trust_remote_code: bool,
        remote: Remote,
        max_tokens: int,
    ) -> Model:
        if Path(source).expanduser().is_dir():
            raise CheckpointLoadError(
                f"{source} is a folder of this machine, which {remote.host} does not have; name a repository of the "
                "Hub instead."
            )
        options: dict[str, Any] = {"tokenizer": tokenizer} if tokenizer is not None else {}
        if trust_remote_code:
            options["trust_remote_code"] = True
        try:
            # Building a model sets torch's default dtype for a moment, for all threads: here always to what it is.
            with _building:
                nnsight = TransformersModel(
                    source, revision=revision, task="text-generation", dtype=torch.get_default_dtype(), **options
                )
                nnsight.to_model_key()
        except Exception as error:  # whatever an unreachable Hub or an odd configuration makes the loaders raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            unknown = "revision" in str(error).lower() or "not a valid git identifier" in str(error)
            kind = RevisionUnknownError if unknown and revision else CheckpointLoadError
            raise kind(f"Cannot find checkpoint {where} on the Hub: {reason}") from error
        return cls(nnsight, where, remote, max_tokens)

    @classmethod
    def wrap(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str = "model",
        *,
        remote: Remote | str | bool | None = None,
        max_tokens: int = MAX_TOKENS,
    ) -> Model:
        """Use a model that is in memory already; `remote` may only be ``"local"``."""
        place = Remote.of(remote)
        if place is not None and place.hosted:
            raise InterventionError(f"A model in memory cannot run at {place.host}; open it by its repository instead.")
        return cls(TransformersModel(model, task="text-generation", tokenizer=tokenizer), name, place, max_tokens)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the weights back; the model cannot be used afterwards."""
        self.nnsight = None
        give_back()

    def __repr__(self) -> str:
        kind = getattr(self.config, "model_type", "?")
        return f"Model({self.name!r}, {kind}, {self.n_layers} layers, d_model {self.d_model})"

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The model's tokenizer."""
        return self.nnsight.tokenizer

    @property
    def module(self) -> PreTrainedModel:
        """The transformers model."""
        return self.nnsight._module

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU for a model on a server, whose inputs are made here."""
        device = next(self.module.parameters()).device
        return torch.device("cpu") if device.type == "meta" else device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights and activations; the server's own for a model there."""
        return self._dtype or next(self.module.parameters()).dtype

    @property
    def gradients(self) -> bool:
        """Whether gradients can be had: always here, and on a server that does not run requests in a sandbox.

        Raises:
            RemoteError: the server was asked, and failed in another way than a sandbox does.
        """
        from interventions.remote.probing import has_gradients

        return self.remote is None or not self.remote.hosted or has_gradients(self)

    @cached_property
    def reads_past(self) -> bool:
        """Whether a pass may begin at the first changed token, with keys and values in the place of those before it."""
        from interventions.validation import reads_past

        return reads_past(self)

    def where(self) -> dict[str, Any]:
        """What `trace` of the nnsight model takes to run the block at the right place."""
        return {} if self.remote is None else {"backend": self.remote.backend(self.nnsight, self.name)}

    @property
    def blocks(self) -> Envoy:
        """The decoder blocks."""
        return self.nnsight.get(self.architecture.blocks)

    @property
    def norm(self) -> Envoy:
        """The norm before the unembedding."""
        return self.nnsight.get(self.architecture.norm)

    @property
    def embedding(self) -> Envoy:
        """The module that runs first; its output tells where, and in what dtype, the model computes."""
        return self.nnsight.get(self._embedding_path)

    @property
    def last_logits(self) -> dict[str, int]:
        """What a pass takes to compute the last token's logits only, where its head is run at all."""
        return {"logits_to_keep": 1} if self._few_logits and not self.head_is_linear else {}

    @property
    def unembedding(self) -> torch.nn.Module:
        """The module that gives logits."""
        return self.module.get_submodule(self._unembedding_path)

    def check_tokens(self, sequences: Sequences) -> None:
        """Refuse token ids that the model has no embedding for, before they become an error on the device.

        Raises:
            InterventionError: names the first such token and its sequence.
        """
        size = self.module.get_input_embeddings().weight.shape[0]
        ids = sequences.tokens
        outside = ((ids < 0) | (ids >= size)).nonzero()
        if len(outside):
            token = int(outside[0])
            raise InterventionError(
                f"Sequence {int(sequences.sequence_of_token[token])} has token {int(ids[token])}, but {self.name} has "
                f"tokens 0 to {size - 1}; was it tokenized for another model?"
            )

    def envoy(self, site: Site) -> Envoy:
        """The nnsight envoy whose output is `site`.

        Raises:
            SiteError: the model has no such layer, or not this component.
        """
        site = site.resolve(self.n_layers)
        block = self.blocks[site.layer]
        if site.component == "resid":
            return block
        path = getattr(self.architecture, site.component)
        if path is None or site.component not in self.components:
            raise SiteError(
                f"{self.name} has no site {site}: what its {site.component} adds to the residual stream was "
                f"not found. It has {', '.join(self.components)}; name the module with interventions.register."
            )
        return block.get(path)


@contextlib.contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing a bar of its own for each checkpoint that is loaded or saved."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
