"""Sizes of models, without loading them: the papers' models by name, others from their configuration on disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from crosstime.errors import RecipeError
from crosstime.machine.storage import read_json
from crosstime.runs.recipe.suite import TINY, SuiteRecipe
from user_input.home import expanded
from user_input.nearest import nearest


@dataclass(frozen=True)
class ModelSize:
    """The sizes of a language model that decide what it costs.

    Attributes:
        d_model: D, width of the residual stream.
        n_layers: decoder blocks.
        vocab_size: rows of the embedding.
        mlp_width: hidden units of a block's MLP.
        gated: whether the MLP has a third matrix, for gates (SwiGLU).
        tied: whether embedding and unembedding are one matrix.
        stored_bytes: bytes of a parameter in the files of a checkpoint.

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
        """All weights, without norms and biases."""
        return self.n_layers * self.block_parameters + self.vocab_size * self.d_model * (1 if self.tied else 2)


KNOWN = {
    "EleutherAI/pythia-70m": ModelSize(512, 6, 50304, 2048, stored_bytes=2),
    "EleutherAI/pythia-160m": ModelSize(768, 12, 50304, 3072, stored_bytes=2),
    "EleutherAI/pythia-410m": ModelSize(1024, 24, 50304, 4096, stored_bytes=2),
    "EleutherAI/pythia-1b": ModelSize(2048, 16, 50304, 8192, stored_bytes=2),
    "EleutherAI/pythia-1.4b": ModelSize(2048, 24, 50304, 8192, stored_bytes=2),
    "EleutherAI/pythia-6.9b": ModelSize(4096, 32, 50432, 16384, stored_bytes=2),
    "google/gemma-2-2b": ModelSize(2304, 26, 256000, 9216, gated=True, tied=True, stored_bytes=2),
    "allenai/OLMo-1B-0724-hf": ModelSize(2048, 16, 50304, 8192, gated=True, tied=True),
    "bigscience/bloom-1b1-intermediate": ModelSize(1536, 24, 250880, 6144, tied=True, stored_bytes=2),
    "bigscience/bloom-1b1": ModelSize(1536, 24, 250880, 6144, tied=True, stored_bytes=2),
}
"""From the models' configurations on the Hub."""


def model_size(suite: SuiteRecipe) -> ModelSize:
    """The size of a suite's model.

    Raises:
        RecipeError: the model is neither known by name nor on disk.
    """
    if suite.source == TINY:
        return ModelSize(suite.tiny.d_model, suite.tiny.n_layers, suite.tiny.vocab_size, 4 * suite.tiny.d_model)
    if suite.models:
        return _size_of_models(list(suite.models.values()))
    if suite.source in KNOWN:
        return KNOWN[suite.source]
    for path in sorted(expanded(suite.source).glob("*/config.json")):
        return _read_config(path)
    raise RecipeError(
        f"the size of {suite.source} is not known, and it is not a folder of checkpoints: "
        f"{nearest(suite.source, KNOWN)}"
    )


def _size_of_models(sources: list[str]) -> ModelSize:
    """The size of models side by side, which is the same for all: that of the first that is known.

    Raises:
        RecipeError: none is known by name or on disk.
    """
    for source in sources:
        # PolyPythias are Pythia with other seeds
        repository = re.sub(r"-seed\d+$", "", source.partition("@")[0])
        if repository in KNOWN:
            return KNOWN[repository]
        if (path := expanded(source) / "config.json").is_file():
            return _read_config(path)
    raise RecipeError(f"the size of {', '.join(sources)} is not known, and none is a folder of a model.")


def _read_config(path: Path) -> ModelSize:
    """The size that a checkpoint's configuration states."""
    config = read_json(path)
    try:
        d_model = int(config.get("hidden_size") or config["n_embed"])
        return ModelSize(
            d_model=d_model,
            n_layers=int(config.get("num_hidden_layers") or config["n_layer"]),
            vocab_size=int(config["vocab_size"]),
            mlp_width=int(config.get("intermediate_size") or 4 * d_model),
            gated=str(config.get("model_type", "")).startswith("olmo"),
            tied=bool(config.get("tie_word_embeddings", config.get("model_type") == "bloom")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise RecipeError(f"cannot read the size of the model from {path}: {error!r}") from error
