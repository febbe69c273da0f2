"""Sizes of models, without loading them: those of the papers by name, others from their configuration on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosstime.errors import RecipeError, SuiteError
from crosstime.machine.storage import read_json
from crosstime.runs.recipe.recipe import TINY, Recipe
from user_input.nearest import nearest


@dataclass(frozen=True)
class ModelSize:
    """What a plan needs to know of a model.

    Attributes:
        d_model: D, width of the residual stream.
        n_layers: decoder blocks.
        vocab_size: rows of the embedding.
        mlp_width: hidden units of a block's MLP.
        gated: whether the MLP has a third matrix, for gates (SwiGLU).
        tied: whether embedding and unembedding are one matrix.
        stored_bytes: of a parameter in the files of a checkpoint.

    Examples:
        >>> round(ModelSize(2048, 16, 50304, 8192).parameters / 1e9, 2)
        1.01
    """

    d_model: int
    n_layers: int
    vocab_size: int
    mlp_width: int
    gated: bool = False
    tied: bool = False
    stored_bytes: int = 4

    @property
    def block_parameters(self) -> int:
        """Weights of one block's matrices: attention 4 D², MLP 2 or 3 D times its width."""
        return self.d_model * (4 * self.d_model + (3 if self.gated else 2) * self.mlp_width)

    @property
    def parameters(self) -> int:
        """All weights, norms and biases left out."""
        return self.n_layers * self.block_parameters + self.vocab_size * self.d_model * (1 if self.tied else 2)


KNOWN = {
    "EleutherAI/pythia-70m": ModelSize(512, 6, 50304, 2048, stored_bytes=2),
    "EleutherAI/pythia-160m": ModelSize(768, 12, 50304, 3072, stored_bytes=2),
    "EleutherAI/pythia-410m": ModelSize(1024, 24, 50304, 4096, stored_bytes=2),
    "EleutherAI/pythia-1b": ModelSize(2048, 16, 50304, 8192, stored_bytes=2),
    "EleutherAI/pythia-1.4b": ModelSize(2048, 24, 50304, 8192, stored_bytes=2),
    "EleutherAI/pythia-6.9b": ModelSize(4096, 32, 50432, 16384, stored_bytes=2),
    "allenai/OLMo-1B-0724-hf": ModelSize(2048, 16, 50304, 8192, gated=True, tied=True),
    "bigscience/bloom-1b1-intermediate": ModelSize(1536, 24, 250880, 6144, tied=True, stored_bytes=2),
    "bigscience/bloom-1b1": ModelSize(1536, 24, 250880, 6144, tied=True, stored_bytes=2),
}
"""From the models' configurations on the Hub."""

BROKEN = {"bigscience/bloom-1b1-intermediate": ("global_step400000",)}
"""Checkpoints on the Hub whose weights are damaged."""


def refuse_broken(recipe: Recipe) -> None:
    """Refuse checkpoints that are known to be damaged.

    Raises:
        SuiteError: with the checkpoint.
    """
    for revision in BROKEN.get(recipe.suite.source, ()):
        if revision in (recipe.suite.revisions or []) or revision in (recipe.compare.revisions or []):
            raise SuiteError(
                f"checkpoint {revision} of {recipe.suite.source} is broken on the Hub, and its numbers would mean "
                f"nothing: take the one before or after it"
            )


def size_of(recipe: Recipe) -> ModelSize:
    """Size of a recipe's model.

    Raises:
        RecipeError: the model is neither known by name nor on disk.
    """
    source = recipe.suite.source
    if source == TINY:
        tiny = recipe.suite.tiny
        return ModelSize(tiny.d_model, tiny.n_layers, tiny.vocab_size, 4 * tiny.d_model)
    if source in KNOWN:
        return KNOWN[source]
    for path in sorted(Path(source).expanduser().glob("*/config.json")):
        return _configured(path)
    raise RecipeError(
        f"the size of {source} is not known, and it is not a folder of checkpoints: {nearest(source, KNOWN)}"
    )


def _configured(path: Path) -> ModelSize:
    config: dict[str, Any] = read_json(path)
    try:
        width = int(config.get("hidden_size") or config["n_embed"])
        layers = int(config.get("num_hidden_layers") or config["n_layer"])
        return ModelSize(
            width, layers, int(config["vocab_size"]), int(config.get("intermediate_size") or 4 * width),
            gated=str(config.get("model_type", "")).startswith("olmo"),
            tied=bool(config.get("tie_word_embeddings", config.get("model_type") == "bloom")),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise RecipeError(f"cannot read the size of the model from {path}: {error!r}") from error
