"""Paths of the parts of a causal language model: a table of known architectures, and a search by structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from interventions.errors import ArchitectureError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Architecture:
    """Paths of the modules that interventions read and write, relative to the model or to one block.

    Attributes:
        blocks: path of the list of decoder blocks.
        norm: path of the norm between the last block and the unembedding.
        attn: path, within a block, of the module whose output the attention adds to the residual stream.
        mlp: path, within a block, of the module whose output the MLP adds to the residual stream. Both modules come
            *after* any norm of the sublayer's output (OLMo-2) and *before* the residual is added (BLOOM adds it inside
            its attention and MLP modules).
        plain_mlp: path of that module in blocks that lack `mlp`, where blocks differ: in OLMo Hybrid, only those with
            attention have a norm after the MLP.
        mixer: path, within a block that has no attention, of the module that takes its place (a recurrence, a
            convolution). It is no site; with it, the MLP of such a block is validated.
        pointwise: paths, within a block, of the modules that compute every position independently and whose outputs
            are added to the residual stream, in the order in which they run. In the last block they need to run at the
            last position only.

    Examples:
        >>> TABLE["bloom"].attn
        'self_attention.dense'
    """

    blocks: str
    norm: str
    attn: str | None = None
    mlp: str | None = None
    plain_mlp: str | None = None
    mixer: str | None = None
    pointwise: tuple[str, ...] = ()

    def path(self, block: nn.Module, component: str) -> str | None:
        """Return the path of a component within a block; None if the block does not have it."""
        candidates = {"attn": (self.attn,), "mlp": (self.mlp, self.plain_mlp)}[component]
        return next((path for path in candidates if has(block, path)), None)


TABLE: dict[str, Architecture] = {
    "gpt_neox": Architecture(
        "gpt_neox.layers",
        "gpt_neox.final_layer_norm",
        "attention.dense",
        "mlp",
        pointwise=("attention.dense", "mlp"),
    ),
    "olmo": Architecture(
        "model.layers", "model.norm", "self_attn.o_proj", "mlp", pointwise=("self_attn.o_proj", "mlp")
    ),
    "olmo2": Architecture(
        "model.layers",
        "model.norm",
        "post_attention_layernorm",
        "post_feedforward_layernorm",
        pointwise=("self_attn.o_proj", "mlp"),
    ),
    "bloom": Architecture(
        "transformer.h",
        "transformer.ln_f",
        "self_attention.dense",
        "mlp.dense_4h_to_h",
        pointwise=("self_attention.dense", "mlp"),
    ),
}
"""Known architectures by `config.model_type`; `register` adds entries."""

_ATTENTION_OUTPUTS = (
    "self_attn.o_proj",
    "attention.dense",
    "self_attention.dense",
    "attn.c_proj",
    "attn.out_proj",
    "self_attn.out_proj",
    "self_attn.dense",
    "attn.attention.out_proj",
)
_MLPS = ("mlp", "feed_forward", "block_sparse_moe", "fc2")
_MIXERS = ("linear_attn", "mamba", "conv", "temporal_block", "mixer")


def register(model_type: str, architecture: Architecture) -> None:
    """Add an architecture that the search by structure does not find.

    Args:
        model_type: the `model_type` of the model's configuration.
        architecture: the paths of its modules.

    Examples:
        >>> register("my_model", Architecture("decoder.blocks", "decoder.norm"))
        >>> TABLE.pop("my_model").blocks
        'decoder.blocks'
    """
    TABLE[model_type] = architecture


def find(model: PreTrainedModel) -> Architecture:
    """Return the architecture of a model: its table entry, or else the result of a search by structure.

    The search takes the outermost `ModuleList` with as many entries as the configuration of the text model has layers
    as the list of blocks (of a model with several towers, the one beside the token embedding), and the first norm after
    that list among its siblings as the final norm; if there is none after it, the last one before it.

    Raises:
        ArchitectureError: a path of the table entry does not exist, or the search finds no list of blocks or no norm;
            the message says what to register.
    """
    model_type = getattr(model.config, "model_type", type(model).__name__)
    entry = TABLE.get(model_type)
    if entry is None:
        return _search(model, model_type)

    # Check the paths of the table entry
    _submodule(model, entry.norm, model_type)
    block = decoder_blocks(model, entry)[0]
    for path in (entry.attn, entry.mlp, *entry.pointwise):
        if path is not None:
            _submodule(block, path, model_type, parent=f"block {entry.blocks}.0")
    return entry


def decoder_blocks(model: PreTrainedModel, architecture: Architecture) -> nn.ModuleList:
    """Return the list of decoder blocks.

    Raises:
        ArchitectureError: there is no module at this path, or it is not a list of blocks.
    """
    model_type = getattr(model.config, "model_type", type(model).__name__)
    blocks = _submodule(model, architecture.blocks, model_type)
    if not isinstance(blocks, nn.ModuleList) or not len(blocks):
        raise ArchitectureError(
            f"The table says that {architecture.blocks!r} is the list of decoder blocks of architecture "
            f"{model_type!r}, but it is a {type(blocks).__name__}, not a ModuleList of blocks."
        )
    return blocks


def unembedding(model: PreTrainedModel) -> str:
    """Return the path of the module that maps the normed last hidden state to logits.

    Raises:
        ArchitectureError: the model has no output embeddings.
    """
    return _path_of(model, model.get_output_embeddings(), "output embeddings (an LM head)")


def embedding(model: PreTrainedModel) -> str:
    """Return the path of the module that maps token ids to vectors; it is the first module that runs.

    Raises:
        ArchitectureError: the model has no input embeddings.
    """
    return _path_of(model, model.get_input_embeddings(), "input embeddings")


def weight(module: nn.Module) -> Tensor:
    """Return the weight of a module that has one, such as an embedding or a linear layer.

    Raises:
        ArchitectureError: the module has no weight.
    """
    tensor = getattr(module, "weight", None)
    if not isinstance(tensor, Tensor):
        raise ArchitectureError(f"A {type(module).__name__} has no weight; expected an embedding or a linear layer.")
    return tensor


def _search(model: PreTrainedModel, model_type: str) -> Architecture:
    """Find the parts of a model by its structure."""
    # Take the list of blocks, and the first norm after them as the final norm
    blocks_path = _blocks_path(model)
    if blocks_path is None:
        n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", "an unknown number of")
        raise ArchitectureError(_unknown(model_type, f"it has no ModuleList of {n_layers} blocks"))
    norm_path = _norm_beside(model, blocks_path)
    if norm_path is None:
        raise ArchitectureError(_unknown(model_type, f"no norm stands beside its blocks {blocks_path!r}"))

    # Find attention, MLP and what takes the place of attention by their usual names; blocks may differ
    blocks = list(model.get_submodule(blocks_path).children())
    attn, mlp, mixer = (_first_path(blocks, paths) for paths in (_ATTENTION_OUTPUTS, _MLPS, _MIXERS))
    pointwise = tuple(path for path in (attn, mlp) if path is not None and has(blocks[-1], path))
    plain_mlp = None
    if any(hasattr(block, "post_feedforward_layernorm") for block in blocks):
        attn, mlp, plain_mlp = "post_attention_layernorm", "post_feedforward_layernorm", mlp
    return Architecture(blocks_path, norm_path, attn, mlp, plain_mlp, mixer, pointwise)


def _blocks_path(model: PreTrainedModel) -> str | None:
    """Return the path of the list of decoder blocks, None if there is none."""
    lists = {
        path: module for path, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module)
    }
    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    paths = [path for path, module in lists.items() if len(module) == n_layers]
    if not paths:
        # A configuration without a number of layers: the longest list of equal modules
        equal = [path for path, module in lists.items() if len({type(block) for block in module}) == 1]
        return max(equal, key=lambda path: len(lists[path]), default=None)

    # Lists inside blocks (experts, adapters) may have the same length, and so may the blocks of another tower
    beside, _, _ = embedding(model).rpartition(".")
    inside = [path for path in paths if path.startswith(f"{beside}." if beside else "")]
    return min(inside or paths, key=lambda path: path.count("."))


def _first_path(blocks: list[nn.Module], paths: tuple[str, ...]) -> str | None:
    """Return the first of the paths that some block has."""
    return next((path for path in paths if any(has(block, path) for block in blocks)), None)


def _path_of(model: PreTrainedModel, module: nn.Module | None, description: str) -> str:
    for path, candidate in model.named_modules():
        if candidate is module and module is not None:
            return path
    raise ArchitectureError(_unknown(model.config.model_type, f"it has no {description}"))


def _norm_beside(model: PreTrainedModel, blocks_path: str) -> str | None:
    """Return the path of the first norm after the blocks among their siblings, or else the last one before them."""
    parent_path, _, name = blocks_path.rpartition(".")
    siblings = list(model.get_submodule(parent_path).named_children())
    width = model.config.get_text_config().hidden_size
    names = [child for child, _ in siblings]
    norms = [child for child, module in siblings if _is_norm(module, width)]
    after = [child for child in norms if names.index(child) > names.index(name)]
    if not norms:
        return None
    child = after[0] if after else norms[-1]
    return f"{parent_path}.{child}" if parent_path else child


def _is_norm(module: nn.Module, width: int) -> bool:
    """Return whether a module scales vectors of this width, or is a norm without a weight."""
    scale = getattr(module, "weight", None)
    if isinstance(scale, Tensor):
        return tuple(scale.shape) == (width,)
    return "norm" in type(module).__name__.lower() and not list(module.parameters())


def has(module: nn.Module, path: str | None) -> bool:
    """Return whether a module has a submodule of this path."""
    if path is None:
        return False
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True


def _submodule(module: nn.Module, path: str, model_type: str, parent: str = "this model") -> nn.Module:
    try:
        return module.get_submodule(path)
    except AttributeError:
        raise ArchitectureError(
            f"The table says that architecture {model_type!r} has a module {path!r}, but {parent} has not; "
            f"its modules are {', '.join(name for name, _ in module.named_children())}."
        ) from None


def _unknown(model_type: str, reason: str) -> str:
    return (
        f"Cannot find the parts of architecture {model_type!r}: {reason}. Say where they are with "
        f"interventions.register({model_type!r}, Architecture(blocks=..., norm=...)); known: {', '.join(TABLE)}."
    )
