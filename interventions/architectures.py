"""Where the parts of a causal language model lie: a small table, and a search for what is not in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from interventions.errors import ArchitectureError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Architecture:
    """Paths of the parts that interventions touch, relative to the model or to one block.

    Attributes:
        blocks: path of the list of decoder blocks.
        norm: path of the norm between the last block and the unembedding.
        attn: path in a block of the module whose output the attention adds to the residual stream.
        mlp: the same for the MLP. Both are the module *after* any norm of the sublayer's output (OLMo-2)
            and *before* the residual is added (BLOOM adds it inside its attention and MLP modules).
        pointwise: paths in a block of modules that work at every position by themselves and whose outputs are added
            to the residual stream, in the order in which they run: in the last block they may be given the last
            position only.

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
"""Architectures by `config.model_type`; `register` adds to it."""

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
    """Teach `interventions` an architecture that it cannot find by structure.

    Examples:
        >>> register("my_model", Architecture("decoder.blocks", "decoder.norm"))
        >>> TABLE.pop("my_model").blocks
        'decoder.blocks'
    """
    TABLE[model_type] = architecture


def find(model: PreTrainedModel) -> Architecture:
    """The architecture of `model`: its table entry, else what its structure shows.

    By structure, the blocks are the longest `ModuleList` whose entries are all of one class, and the
    norm is the module that follows that list among its siblings and has a weight of the model's width.

    Raises:
        ArchitectureError: no such list, or no such norm; the message says what to register.
    """
    model_type = getattr(model.config, "model_type", type(model).__name__)
    entry = TABLE.get(model_type)
    if entry is not None:
        _get(model, entry.norm, model_type)
        blocks = _get(model, entry.blocks, model_type)
        if not isinstance(blocks, nn.ModuleList) or not len(blocks):
            raise ArchitectureError(
                f"The table says that {entry.blocks!r} is the list of decoder blocks of architecture {model_type!r}, "
                f"but it is a {type(blocks).__name__}, not a ModuleList of blocks."
            )
        for path in (entry.attn, entry.mlp, *entry.pointwise):
            if path is not None:
                _get(blocks[0], path, model_type, inside=f"block {entry.blocks}.0")
        return entry

    lists = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and len({type(block) for block in module}) == 1
    ]
    if not lists:
        raise ArchitectureError(_unknown(model_type, "it has no ModuleList of equal blocks"))
    blocks_path, blocks = max(lists, key=lambda item: len(item[1]))
    norm_path = _norm_after(model, blocks_path)
    if norm_path is None:
        raise ArchitectureError(_unknown(model_type, f"no norm follows its blocks {blocks_path!r}"))
    block = blocks[0]
    mlp = "mlp" if _has(block, "mlp") else None
    attn = next((path for path in _ATTENTION_OUTPUTS if _has(block, path)), None)
    pointwise = tuple(path for path in (attn, mlp) if path is not None)
    if hasattr(block, "post_feedforward_layernorm"):
        attn, mlp = "post_attention_layernorm", "post_feedforward_layernorm"
    return Architecture(blocks_path, norm_path, attn, mlp, pointwise)


def unembedding(model: PreTrainedModel) -> str:
    """Path of the module that turns the normed last hidden state into logits.

    Raises:
        ArchitectureError: the model has no output embeddings.
    """
    return _path_of(model, model.get_output_embeddings(), "output embeddings (an LM head)")


def embedding(model: PreTrainedModel) -> str:
    """Path of the module that turns token ids into vectors, the first that runs.

    Raises:
        ArchitectureError: the model has no input embeddings.
    """
    return _path_of(model, model.get_input_embeddings(), "input embeddings")


def _path_of(model: PreTrainedModel, module: nn.Module | None, what: str) -> str:
    for path, candidate in model.named_modules():
        if candidate is module and module is not None:
            return path
    raise ArchitectureError(_unknown(model.config.model_type, f"it has no {what}"))


def _norm_after(model: nn.Module, blocks_path: str) -> str | None:
    parent_path, _, name = blocks_path.rpartition(".")
    parent = model.get_submodule(parent_path)
    names = [child for child, _ in parent.named_children()]
    width = model.config.hidden_size
    for child in names[names.index(name) + 1 :]:
        weight = getattr(parent.get_submodule(child), "weight", None)
        if weight is not None and tuple(weight.shape) == (width,):
            return f"{parent_path}.{child}" if parent_path else child
    return None


def _has(module: nn.Module, path: str) -> bool:
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True


def _get(module: nn.Module, path: str, model_type: str, inside: str = "this model") -> nn.Module:
    try:
        return module.get_submodule(path)
    except AttributeError:
        raise ArchitectureError(
            f"The table says that architecture {model_type!r} has a module {path!r}, but {inside} has not; "
            f"its modules are {', '.join(name for name, _ in module.named_children())}."
        ) from None


def _unknown(model_type: str, why: str) -> str:
    return (
        f"Cannot find the parts of architecture {model_type!r}: {why}. Say where they are with "
        f"interventions.register({model_type!r}, Architecture(blocks=..., norm=...)); known: {', '.join(TABLE)}."
    )
