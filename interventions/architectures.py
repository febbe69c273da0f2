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
    pointwise: tuple[str, ...] = ()


TABLE: dict[str, Architecture] = {
    "gpt_neox": Architecture(
        "gpt_neox.layers", "gpt_neox.final_layer_norm", "attention.dense", "mlp", ("attention.dense", "mlp")
    ),
    "olmo": Architecture("model.layers", "model.norm", "self_attn.o_proj", "mlp", ("self_attn.o_proj", "mlp")),
    "olmo2": Architecture(
        "model.layers",
        "model.norm",
        "post_attention_layernorm",
        "post_feedforward_layernorm",
        ("self_attn.o_proj", "mlp"),
    ),
    "bloom": Architecture(
        "transformer.h",
        "transformer.ln_f",
        "self_attention.dense",
        "mlp.dense_4h_to_h",
        ("self_attention.dense", "mlp"),
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
)


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

    The search takes the longest `ModuleList` whose entries are all of one class as the list of blocks, and the first
    module after that list among its siblings whose weight has the model's width as the final norm.

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
    # Take the longest list of equal modules as the blocks
    lists = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and len({type(block) for block in module}) == 1
    ]
    if not lists:
        raise ArchitectureError(_unknown(model_type, "it has no ModuleList of equal blocks"))
    blocks_path, blocks = max(lists, key=lambda item: len(item[1]))

    # Take the first norm after them as the final norm
    norm_path = _norm_after(model, blocks_path)
    if norm_path is None:
        raise ArchitectureError(_unknown(model_type, f"no norm follows its blocks {blocks_path!r}"))

    # Find attention and MLP by their usual names
    block = blocks[0]
    mlp = "mlp" if _has(block, "mlp") else None
    attn = next((path for path in _ATTENTION_OUTPUTS if _has(block, path)), None)
    pointwise = tuple(path for path in (attn, mlp) if path is not None)
    if hasattr(block, "post_feedforward_layernorm"):
        attn, mlp = "post_attention_layernorm", "post_feedforward_layernorm"
    return Architecture(blocks_path, norm_path, attn, mlp, pointwise)


def _path_of(model: PreTrainedModel, module: nn.Module | None, description: str) -> str:
    for path, candidate in model.named_modules():
        if candidate is module and module is not None:
            return path
    raise ArchitectureError(_unknown(model.config.model_type, f"it has no {description}"))


def _norm_after(model: PreTrainedModel, blocks_path: str) -> str | None:
    parent_path, _, name = blocks_path.rpartition(".")
    parent = model.get_submodule(parent_path)
    names = [child for child, _ in parent.named_children()]
    d_model = model.config.hidden_size
    for child in names[names.index(name) + 1 :]:
        scale = getattr(parent.get_submodule(child), "weight", None)
        if scale is not None and tuple(scale.shape) == (d_model,):
            return f"{parent_path}.{child}" if parent_path else child
    return None


def _has(module: nn.Module, path: str) -> bool:
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
