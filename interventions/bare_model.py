"""A model and the paths of its parts: what a forward pass needs before the model has been validated.

`validation` and `remote.probe` run their test passes on a `BareModel`. Their `Findings`, together with it, make the
`Model` that everything else takes.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from interventions import architectures
from interventions.errors import InterventionError, SiteError
from interventions.positions import Positions
from interventions.site import COMPONENTS, Site

if TYPE_CHECKING:
    from nnsight import Envoy, TransformersModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from interventions.remote.remote import Remote


@dataclass(frozen=True)
class Findings:
    """What the test passes of a newly opened model showed; the defaults claim the least.

    Attributes:
        block_tuple: length of the tuple that a decoder block returns, 0 where it returns a tensor.
        components: for each layer, the components that a `Site` may name; one entry stands for all layers.
        head_is_linear: whether the logits are exactly the unembedding of the final norm's output, so that two rows of
            the unembedding give a logit difference.
        pointwise: paths of the modules of the last block that may run at the last position only.
        equal_lengths: whether batches must hold sequences of one length, because padding changes the results.
        dtype: the dtype in which a server computes; None where it is that of the parameters.
    """

    block_tuple: int = 0
    components: tuple[tuple[str, ...], ...] = (("resid",),)
    head_is_linear: bool = False
    pointwise: tuple[str, ...] = ()
    equal_lengths: bool = False
    dtype: torch.dtype | None = None


class BareModel:
    """An nnsight model with the paths and sizes of its parts, on which forward passes run.

    Parameters never require gradients, and dropout is off.

    Attributes:
        name: source and revision, for messages.
        remote: the server that runs the model, or None.
        findings: what is known of the model's parts.
        config: the transformers configuration.
        architecture: the paths of the model's parts.
        n_layers, d_model, vocab_size: sizes.
        positions: how long a sequence may be.

    Raises:
        ArchitectureError: the model's parts cannot be found.
    """

    def __init__(
        self, nnsight: TransformersModel, name: str, remote: Remote | None = None, findings: Findings | None = None
    ) -> None:
        self._nnsight: TransformersModel | None = nnsight
        self.name = name
        self.remote = remote
        self.findings = findings or Findings()

        module = self.module
        module.requires_grad_(False)
        module.eval()
        self.config = module.config
        self.architecture = architectures.find(module)
        self._unembedding_path = architectures.unembedding(module)
        self._embedding_path = architectures.embedding(module)
        self.n_layers = len(architectures.decoder_blocks(module, self.architecture))
        self.d_model = int(self.config.get_text_config().hidden_size)
        self.vocab_size = int(architectures.weight(self.unembedding).shape[0])
        self.n_embeddings = int(architectures.weight(module.get_input_embeddings()).shape[0])
        self.positions = Positions.of(module, self.config)
        parameters = inspect.signature(module.forward).parameters
        self._keeps_logits = "logits_to_keep" in parameters
        # transformers 5.40 drops the older name; models with code of their own keep it
        self.cache_argument = "cache" if "cache" in parameters else "past_key_values"

    def with_findings(self, findings: Findings) -> BareModel:
        """Return a model that shares all weights and modules with this one, but has other findings."""
        model = copy.copy(self)
        model.findings = findings
        return model

    @property
    def nnsight(self) -> TransformersModel:
        """The nnsight model, for traces of your own.

        Raises:
            InterventionError: the model has been closed.
        """
        if self._nnsight is None:
            raise InterventionError(f"{self.name} has been closed; open it again to use it.")
        return self._nnsight

    @property
    def module(self) -> PreTrainedModel:
        """The transformers model."""
        return self.nnsight._module

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The model's tokenizer, or None."""
        return self.nnsight.tokenizer

    @property
    def device(self) -> torch.device:
        """The device of the weights; the CPU for a model on a server, whose inputs are built here."""
        device = next(self.module.parameters()).device
        return torch.device("cpu") if device.type == "meta" else device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights and activations; for a model on a server, the server's."""
        return self.findings.dtype or next(self.module.parameters()).dtype

    @property
    def components(self) -> tuple[str, ...]:
        """The components that a `Site` may name at some layer."""
        return tuple(name for name in COMPONENTS if any(name in layer for layer in self.findings.components))

    def components_at(self, layer: int) -> tuple[str, ...]:
        """The components that a `Site` may name at a layer; stacks of different blocks have different ones."""
        components = self.findings.components
        return components[layer if len(components) > 1 else 0]

    @property
    def equal_lengths(self) -> bool:
        """Whether batches must hold sequences of one length, because padding changes the results."""
        return self.findings.equal_lengths

    @property
    def block_tuple(self) -> int:
        """Length of the tuple that a decoder block returns, 0 where it returns a tensor."""
        return self.findings.block_tuple

    @property
    def head_is_linear(self) -> bool:
        """Whether the logits are exactly the unembedding of the final norm's output."""
        return self.findings.head_is_linear

    @property
    def pointwise(self) -> tuple[str, ...]:
        """Paths of the modules of the last block that may run at the last position only."""
        return self.findings.pointwise

    @property
    def blocks(self) -> Envoy:
        """The envoys of the decoder blocks."""
        return self.nnsight.get(self.architecture.blocks)

    @property
    def norm(self) -> Envoy:
        """The envoy of the norm before the unembedding."""
        return self.nnsight.get(self.architecture.norm)

    @property
    def embedding(self) -> Envoy:
        """The envoy of the first module that runs; its output has the device and dtype in which the model computes."""
        return self.nnsight.get(self._embedding_path)

    @property
    def unembedding(self) -> torch.nn.Module:
        """The module that computes the logits."""
        return self.module.get_submodule(self._unembedding_path)

    @property
    def last_logits(self) -> dict[str, int]:
        """Model arguments that limit the logits to the last token's, where the model computes logits itself."""
        return {"logits_to_keep": 1} if self._keeps_logits and not self.head_is_linear else {}

    @property
    def trace_options(self) -> dict[str, object]:
        """Arguments of the nnsight model's `trace` that decide where the block runs."""
        if self.remote is None:
            return {}
        from interventions.remote.backend import backend

        return {"backend": backend(self.remote, self.nnsight, self.name)}

    def envoy(self, site: Site) -> Envoy:
        """Return the nnsight envoy whose output is the activation at `site`.

        Raises:
            SiteError: the model has no such layer, or not this component.
        """
        site = site.resolve(self.n_layers)
        block = self.blocks[site.layer]
        if site.component == "resid":
            return block
        if site.component not in self.components:
            raise SiteError(
                f"{self.name} has no site {site}: what its {site.component} adds to the residual stream was "
                f"not found. It has {', '.join(self.components)}; name the module with interventions.register."
            )
        if site.component not in self.components_at(site.layer):
            layers = [layer for layer in range(self.n_layers) if site.component in self.components_at(layer)]
            raise SiteError(
                f"{self.name} has no site {site}: block {site.layer} is a {type(block._module).__name__} that has only "
                f"{', '.join(self.components_at(site.layer))}; {site.component} is at layers "
                f"{', '.join(map(str, layers))}."
            )
        path = self.architecture.path(block._module, site.component)
        return block.get(path)
