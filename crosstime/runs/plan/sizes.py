"""The sizes of a run, from which each stage computes its cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from crosstime.crosscoders.open_crosscoder import MEMORY_SHARE, as_crosscoder, path_of
from crosstime.crosscoders.sliced_crosscoder import SLICE_BYTES
from crosstime.machine.dtypes import torch_dtype
from crosstime.runs.plan.model_size import ModelSize
from crosstime.runs.plan.work import Cost, ForwardPass, Number, Work
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.recipe.suite import TINY

PAIRS = {
    "ctt/blimp-sva": 4000,
    "ctt/clams-en-fr": 4760,
    "ctt/multiblimp-all": 2640,
    "blimp": 1000,
    "clams": 5000,
    "multiblimp": 700,
    "pairs": 1000,
    "agreement": 1000,
    "ctt": 490,
}
"""Pairs of a task, by its name or its family's, if the recipe sets no limit; 1,000 of any other."""
PROMPT_TOKENS = 10
ACTIVE, SPARSITY = 128, 32
"""Active features of a token if their number is not fixed: this many, but at most this share of all."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of a run.

    Attributes:
        recipe: the recipe of the run.
        model: size of its model.
        layer: the layer of its site.
        main_memory: bytes of main memory; a crosscoder that would take most of it stays in its files.
        gpu: whether the device is a GPU, whose memory is not the main memory.
        processes: N, processes that train together.
    """

    recipe: Recipe
    model: ModelSize
    layer: int
    main_memory: int
    gpu: bool
    processes: int = 1

    @property
    def feature_shards(self) -> int:
        """R, processes among which the features are divided."""
        return self.recipe.compute.feature_shards

    @property
    def groups(self) -> int:
        """P = N / R, groups of processes that train data-parallel."""
        return self.processes // self.feature_shards

    @property
    def n_checkpoints(self) -> int:
        """C, the compared checkpoints."""
        revisions = self.recipe.compare.revisions
        if revisions is None:
            return self.n_measured if self.recipe.rows.matrices else self.recipe.select.k
        return len(revisions)

    @property
    def n_measured(self) -> int:
        """Checkpoints at which accuracy is measured, which a run on rows compares unless it names some.

        Seven, if that is not known without opening the suite.
        """
        suite = self.recipe.suite
        if suite.revisions is not None:
            return len(suite.revisions)
        if suite.models:
            return len(suite.models)
        if suite.source == TINY:
            return len(suite.tiny.checkpoints)
        revisions = self.recipe.compare.revisions
        return max(7, self.recipe.select.k if revisions is None else len(revisions))

    @cached_property
    def prompts(self) -> list[int]:
        """Prompts of each task."""
        counts = []
        for task in self.recipe.tasks:
            available = PAIRS.get(task.name) or PAIRS.get(task.name.partition("/")[0], 1000)
            counts.append(min(task.limit or available, available))
        return counts

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(self.prompts) * PROMPT_TOKENS

    @property
    def n_selected(self) -> int:
        """Features that are selected: about half of each checkpoint's and task's are its own."""
        return self.recipe.effects.top * (self.n_checkpoints // 2 + 1) * len(self.recipe.tasks)

    @property
    def n_active(self) -> int:
        """Active features of a token."""
        crosscoder = self.recipe.crosscoder
        return int(getattr(crosscoder, "k", max(1, min(ACTIVE, crosscoder.n_features // SPARSITY))))

    @cached_property
    def n_features(self) -> int:
        """F, the size of the dictionary; of a crosscoder on the Hub, that of the recipe."""
        source = self.recipe.crosscoder.source
        if source is not None and path_of(source) is not None:
            return as_crosscoder(source).n_features
        return self.recipe.crosscoder.n_features

    @property
    def n_gates(self) -> int:
        """Codes of a feature on a token: one for all checkpoints, or one at each."""
        return self.n_checkpoints if self.recipe.crosscoder.activation().gate_per_checkpoint else 1

    @property
    def n_rows(self) -> int:
        """T, rows of parameters that the crosscoder is trained on; 0 in a recipe with tasks and a text."""
        model, names = self.model, self.recipe.rows.matrices
        return sum(model.vocab_size if name.startswith("W_") else model.mlp_width for name in names)

    @property
    def rows_bytes(self) -> Number:
        """Bytes of these rows at all checkpoints."""
        return 4 * self.n_rows * self.n_checkpoints * self.model.d_model

    @property
    def n_seeds(self) -> int:
        """Crosscoders that are trained together."""
        return len(self.recipe.crosscoder.seeds) or 1

    @property
    def cdf(self) -> int:
        """C D F, the size of the encoder and of the decoder."""
        return self.n_checkpoints * self.model.d_model * self.n_features

    @property
    def blocks_above(self) -> Number:
        """Blocks of a pass from the site upwards; most of the last block runs at the last token only."""
        return max(0, self.model.n_layers - self.layer - 1 - 0.6)

    @property
    def model_bytes(self) -> Number:
        """Bytes of one checkpoint on the device."""
        return torch_dtype(self.recipe.compute.dtype).itemsize * self.model.parameters

    @property
    def max_tokens(self) -> int:
        """Tokens of one forward pass."""
        return self.recipe.compute.max_tokens or 1

    @property
    def prompt_pass(self) -> ForwardPass:
        """Passes over prompts."""
        return ForwardPass(self.model, PROMPT_TOKENS, self.max_tokens)

    @property
    def text_pass(self) -> ForwardPass:
        """Passes over text."""
        length = self.recipe.corpus.sequence_length
        return ForwardPass(self.model, length, max(self.max_tokens, length))

    def encode(self, tokens: Number) -> Work:
        """Features of tokens, computed once for all checkpoints."""
        return Work(2 * tokens * self.cdf, 4 * (self.cdf + tokens * self.n_gates * self.n_features))

    def decode(self, tokens: Number) -> Work:
        """Reconstructions of tokens at one checkpoint from active features, and the gradient on each of them."""
        products = tokens * self.n_active * self.model.d_model
        return Work(4 * products, 8 * products)

    def decomposed_bytes(self, tokens: Number) -> Number:
        """Bytes of activations, reconstructions and features of tokens, and of the crosscoder."""
        codes = 20 * tokens * self.n_active * self.n_gates
        return 16 * tokens * self.n_checkpoints * self.model.d_model + codes + self.crosscoder_bytes

    @property
    def crosscoder_bytes(self) -> Number:
        """Bytes of the trained crosscoder: whole, or a slice, the decoder at one checkpoint twice, and the norms.

        See `crosstime.crosscoders.open_crosscoder`.
        """
        whole = 8 * self.cdf
        if whole <= MEMORY_SHARE * self.main_memory:
            return whole
        return SLICE_BYTES + 8 * self.n_features * self.model.d_model + 4 * self.n_checkpoints * self.n_features

    def bootstrap(self, n_prompts: Number, columns: Number, resamples: int) -> Work:
        """A bootstrap over the prompts of one task: a product of counts and values in float64."""
        return Work(4 * resamples * n_prompts * columns, 16 * resamples * n_prompts)

    def cost(self, stage: str, what: str, work: Work, device: Number, host: Number, disk: Number = 0) -> Cost:
        """A stage's cost, from what it holds on the device and in main memory; on a CPU these are one memory.

        Args:
            stage, what, work, disk: as in `Cost`.
            device: bytes on the device.
            host: bytes in main memory, besides those of the device.
        """
        if not self.gpu:
            device = host = device + host
        return Cost(stage, what, work, device, max(host, self.model_bytes), disk)
