"""What each stage of a run costs, from the sizes in its recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from crosstime.runs.plan.known_models import KNOWN, ModelSize
from crosstime.runs.plan.rates import Machine
from crosstime.runs.plan.work import Number, Passes, Work
from crosstime.runs.recipe.recipe import TINY, Recipe
from crosstime.runs.sharding import BLOCK
from crosstime.runs.stages.evaluate import evaluated
from crosstime.suites.compute import DTYPES
from interventions.circuit import SIZES

PAIRS = {
    "ctt/blimp-sva": 4000, "ctt/clams-en-fr": 4760, "ctt/multiblimp-all": 2640, "blimp": 1000, "clams": 5000,
    "multiblimp": 700, "pairs": 1000, "agreement": 1000, "ctt": 490,
}  # fmt: skip
"""Pairs of a task, by its name or its family's, where the recipe sets no limit."""
PROMPT_TOKENS = 10
NODES = 12
"""Quadrature nodes of a prompt, on average, where their number follows from completeness."""
ACTIVE, SPARSITY = 128, 32
"""Active features of a token where their number is not fixed; at most this share of all."""
FIRING = 0.4
"""Share of the prompts in which a feature that matters fires."""
SETS = 5
"""Sets of features that are ablated on a task, controls among them."""
RANKINGS = 6
"""Rankings of features whose first n are kept and taken away, one of them by effect."""
MEAN = 20
"""Bytes of a feature's mean at one token."""
RESAMPLES = 2000
"""Of the bootstrap over ablated prompts."""
STEP = 1_000
"""Calls of a training step."""
WEIGHT_TRAFFIC, ACTIVATION_TRAFFIC = 26, 14
"""Numbers that a training step reads and writes for each weight and activation, matrix products left out."""
CODE_TRAFFIC = {"l1": 12, "jumprelu": 55, "topk": 160, "batchtopk": 600}
"""The same for each code; selecting the largest costs as much as moving so many."""
TOKENIZED, DRAW = 1.3, 0.05
"""Calls that it takes to make a token of a text, and to count how often a resample draws one prompt."""
WRITING = 8
"""How many times as long as moving it in memory it takes to write a byte to disk."""
CHARTS, CHARTS_OF_TASK = 6_000_000, 1_200_000
"""Calls of drawing a report, and of what each task adds."""
PAGE = 5e6
"""Bytes of a report with its charts and tables."""


@dataclass(frozen=True)
class Cost:
    """One stage's cost.

    Attributes:
        stage: its name.
        what: the sizes that decide it, in words.
        flops: floating-point operations of matrix products.
        memory: bytes on the device at once.
        host: bytes of main memory at once, libraries left out; on a CPU the same.
        disk: bytes that it writes or downloads, at their most.
        seconds: on the machine that the plan was made for.
    """

    stage: str
    what: str
    flops: Number
    memory: Number
    host: Number
    disk: Number
    seconds: Number


@dataclass(frozen=True)
class Sizes:
    """The numbers that the stages' costs are made of.

    Attributes:
        recipe: what is to be done.
        size: of its model.
        layer: of the site.
        machine: on which.
    """

    recipe: Recipe
    size: ModelSize
    layer: int
    machine: Machine

    def costs(self) -> list[Cost]:
        """Of all stages, in their order."""
        suite = [self._suite()] if self.recipe.suite.source == TINY else []
        effects = self._attribute(), self._ablate(), self._evolve(), self._explain()
        return [*suite, self._select(), self._train(), self._evaluate(), *effects, self._report()]

    @property
    def checkpoints(self) -> int:
        """C."""
        named = self.recipe.compare.revisions
        return self.recipe.select.k if named is None else len(named)

    @property
    def measured(self) -> int:
        """Checkpoints that accuracy is measured at."""
        suite = self.recipe.suite
        if suite.revisions is not None:
            return len(suite.revisions)
        return len(suite.tiny.checkpoints) if suite.source == TINY else max(7, self.checkpoints)

    @cached_property
    def pairs(self) -> list[int]:
        """Prompts of each task."""
        found = []
        for task in self.recipe.tasks:
            whole = PAIRS.get(task.name) or PAIRS.get(task.name.partition("/")[0], 1000)
            found.append(min(task.limit or whole, whole))
        return found

    @property
    def buffer(self) -> Number:
        """Bytes of the buffer of activations."""
        settings = self.recipe.crosscoder
        return self._held() * self.checkpoints * self.size.d_model * DTYPES[settings.buffer_dtype].itemsize

    @property
    def _filling(self) -> Number:
        """Bytes of the buffer while it is filled: the old and the new one, or the new one and its norms in float32."""
        itemsize = DTYPES[self.recipe.crosscoder.buffer_dtype].itemsize
        return self.buffer * (2 if itemsize == 4 else 1 + 4 / itemsize)

    def _suite(self) -> Cost:
        """Training the tiny suite."""
        tiny, parameters = self.recipe.suite.tiny, self.size.parameters
        steps, tokens = tiny.checkpoints[-1], tiny.checkpoints[-1] * tiny.batch_tokens
        what = f"{tokens:,} tokens through {parameters:,} parameters"
        passes = Passes(self.size, tiny.sequence_length, tiny.batch_tokens)
        # The weights have gradients too: another forward pass' worth of products.
        work = 1.5 * passes.through(self.size.n_layers, tokens, gradients=True) + 3 * passes.logits(tokens)
        work += Work(moved=4 * WEIGHT_TRAFFIC * parameters * steps)
        memory = 16 * parameters + 4 * tiny.batch_tokens * (4 * self.size.vocab_size + 40 * self.size.d_model)
        return self._cost("suite", what, work, memory, 0, 4 * parameters * len(tiny.checkpoints))

    def _select(self) -> Cost:
        """Accuracy at every checkpoint."""
        pairs, size = sum(self.pairs), self.size
        tokens = self.measured * pairs * PROMPT_TOKENS
        work = self.measured * self._prompts.opening() + self._prompts.through(size.n_layers, tokens)
        work += len(self.pairs) * self._resampled(pairs / len(self.pairs), 2 * self.measured)
        # Checkpoints that are on disk already cost nothing there.
        disk = self.measured * size.parameters * size.stored_bytes if size in KNOWN.values() else 0
        return self._cost("select", f"{self.measured} checkpoints, {pairs:,} prompts", work, self._model, 0, disk)

    def _train(self) -> Cost:
        settings, c, text = self.recipe.crosscoder, self.checkpoints, self._text
        tokens, batch = settings.steps * settings.batch_size, settings.batch_size
        what = f"{tokens:,} tokens, C {c}, D {self.size.d_model:,}, F {settings.n_features:,}"
        step = Work(
            10 * batch * self._width,
            4 * (
                2 * WEIGHT_TRAFFIC * self._width + CODE_TRAFFIC[settings.kind] * batch * settings.n_features
                + ACTIVATION_TRAFFIC * batch * c * self.size.d_model
            ),
            STEP,
        )  # fmt: skip
        saves = (settings.steps - 1) // settings.save_every
        state = 24 * self._width + self.buffer
        work = settings.steps * step + Work(moved=saves * WRITING * state)
        fills = 1 + math.ceil(max(0, tokens - self._held()) / max(1, self._held() / 2))
        work += Work(moved=4 * fills * self._filling)
        stored = self.recipe.corpus.store() is not None
        if stored:
            what += ", from a store"
        else:
            read = tokens * text.length / (text.length - 1)
            work += c * (fills * text.opening() + text.through(self.layer + 1, read)) + Work(calls=TOKENIZED * read)
        batch_memory = 4 * batch * (4 * settings.n_features + 8 * c * self.size.d_model)
        on_device = 32 * self._width + batch_memory
        on_device += 0 if stored else self._model
        # While the buffer is filled there is no batch.
        host = self._filling if self.machine.device == "cuda" else max(self.buffer, self._filling - batch_memory)
        # A state replaces the one before it when it is written.
        return self._cost("train", what, work, on_device, host, 8 * self._width + min(saves, 2) * state)

    def _evaluate(self) -> Cost:
        c, length = self.checkpoints, self.recipe.corpus.sequence_length
        sequences = evaluated(length, c, self.size.d_model)
        tokens, text, layers = sequences * length, self._text, self.size.n_layers
        work = 2 * text.opening() + text.through(self.layer + 1, tokens) + 3 * text.logits(tokens)
        work += text.through(layers + 2 * (layers - self.layer - 1), tokens) + self._decoded(tokens)
        logits = 12 * self._at_once * self.size.vocab_size
        what = f"{sequences} sequences of {length:,} tokens, four passes"
        work = c * work + self._encoded(tokens)
        return self._cost("evaluate", what, work, self._model + logits, self._decomposed(tokens))

    def _attribute(self) -> Cost:
        effects, c, prompts = self.recipe.effects, self.checkpoints, sum(self.pairs)
        nodes = 1 if effects.method == "atp" else effects.steps or NODES
        tokens, blocks = prompts * PROMPT_TOKENS, sum(math.ceil(pairs / BLOCK) for pairs in self.pairs)
        what = f"{prompts:,} prompts, {nodes} nodes, {c} checkpoints"
        run = self._prompts
        work = 2 * blocks * run.opening() + run.through(self.layer + 1, tokens) + self._decoded(tokens)
        work += run.upward(self._above, 2 * tokens) + run.upward(self._above, nodes * tokens, gradients=True)
        columns = c * (self._selected + 1)
        resampled = 2 * len(self.pairs) * self._resampled(prompts / len(self.pairs), columns)
        kept = 16 * tokens * self._active * c + 4 * len(self.pairs) * c * self.recipe.crosscoder.n_features
        work = c * work + self._encoded(tokens) + resampled
        host = self._decomposed(tokens) + 24 * effects.resamples * columns
        # The pieces are there until the stage is done.
        return self._cost("attribute", what, work, self._model, host, 2 * kept)

    def _ablate(self) -> Cost:
        c, prompts, run = self.checkpoints, sum(self.pairs), self._prompts
        # Singly where they fire; in sets; and the first n of each ranking alone, and all but them.
        times = self._selected * FIRING + SETS + RANKINGS * 2 * (len(SIZES) + 1)
        work = 2 * len(self.pairs) * run.opening() + run.upward(self._above, times * prompts * PROMPT_TOKENS)
        resampled = 3 * c * len(self.pairs) * self._resampled(prompts / len(self.pairs), 4 * len(SIZES), RESAMPLES)
        what = f"about {self._selected:,} features, {prompts:,} prompts"
        # All features that are not kept are at their means, which are the same numbers at every token.
        means = max(self.pairs) * PROMPT_TOKENS * self.recipe.crosscoder.n_features
        work = c * (work + Work(moved=40 * MEAN * means)) + resampled
        host = self._decomposed(prompts * PROMPT_TOKENS) + MEAN * means
        return self._cost("ablate", what, work, self._model, host)

    def _evolve(self) -> Cost:
        settings, c, text = self.recipe.evolve, self.checkpoints, self._text
        read = settings.sequences if settings.text else 0
        # The text, random sequences, and pairs of repeated ones and controls.
        tokens = 4 * read * text.length
        work = (3 if read else 0) * text.opening() + text.through(self.layer + 1, tokens) + self._decoded(tokens)
        decoders = Work(2 * self._width * self.size.d_model, 40 * self._width)
        # Each permutation puts every effect of every prompt into its place.
        permuted = Work(4 * settings.resamples * sum(self.pairs) * c * c * self._selected)
        resampled = 2 * sum(self.pairs) * self._resampled(1, c * self._selected, settings.resamples)
        prompts = sum(self.pairs) * PROMPT_TOKENS
        host = self._decomposed(tokens) + self._decomposed(prompts)
        work = c * work + self._encoded(tokens) + decoders + permuted + resampled
        return self._cost("evolve", f"{read} sequences", work, self._model, host)

    def _explain(self) -> Cost:
        """As if every task dipped: which of them do is not known before."""
        settings, run = self.recipe.dip, self._prompts
        dipping = [max(self.pairs)] if settings.task else self.pairs
        prompts = sum(min(pairs / 2, settings.prompts) for pairs in dipping)
        tokens = prompts * PROMPT_TOKENS * (2 * settings.draws + 4)
        work = 2 * len(dipping) * run.opening() + run.upward(self._above, tokens)
        what = f"at most {len(dipping)} dip{'s' if len(dipping) > 1 else ''}, {settings.draws} draws"
        return self._cost("explain", what, work, self._model, self._decomposed(sum(self.pairs) * PROMPT_TOKENS))

    def _report(self) -> Cost:
        prompts = sum(self.pairs) * PROMPT_TOKENS
        work = self.checkpoints * self._prompts.opening() + Work(calls=CHARTS + CHARTS_OF_TASK * len(self.pairs))
        return self._cost("report", "charts and tables", work, self._model, self._decomposed(prompts), PAGE)

    def _cost(self, stage: str, what: str, work: Work, device: Number, host: Number, disk: Number = 0) -> Cost:
        if self.machine.device == "cpu":
            device = host = device + host
        return Cost(stage, what, work.flops, device, max(host, self._model), disk, work.seconds(self.machine))

    def _held(self) -> int:
        """Tokens in the buffer."""
        settings = self.recipe.crosscoder
        return min(max(settings.buffer_tokens, settings.batch_size), settings.steps * settings.batch_size)

    @property
    def _width(self) -> int:
        """C D F, half of the crosscoder's weights."""
        return self.checkpoints * self.size.d_model * self.recipe.crosscoder.n_features

    @property
    def _at_once(self) -> int:
        return self.recipe.compute.max_tokens

    @property
    def _prompts(self) -> Passes:
        return Passes(self.size, PROMPT_TOKENS, self._at_once)

    @property
    def _text(self) -> Passes:
        length = self.recipe.corpus.sequence_length
        return Passes(self.size, length, max(self._at_once, length))

    @property
    def _above(self) -> Number:
        """Blocks that a pass from the site upwards goes through; of the last one's MLP only the last token."""
        above = self.size.n_layers - self.layer - 1
        return max(0, above - 0.6)

    @property
    def _model(self) -> Number:
        """Bytes of one checkpoint on the device."""
        return DTYPES[self.recipe.compute.dtype].itemsize * self.size.parameters

    @property
    def _selected(self) -> int:
        """Features that are looked at: about half of each checkpoint's and task's are its own."""
        return self.recipe.effects.top * (self.checkpoints // 2 + 1) * len(self.recipe.tasks)

    @property
    def _active(self) -> int:
        """Active features of a token."""
        settings = self.recipe.crosscoder
        return int(getattr(settings, "k", min(ACTIVE, settings.n_features // SPARSITY)))

    def _encoded(self, tokens: Number) -> Work:
        """Features of tokens, found once for all checkpoints."""
        features = self.recipe.crosscoder.n_features
        return Work(2 * tokens * self._width, 4 * tokens * (30 * features + 300 * self._active))

    def _decoded(self, tokens: Number) -> Work:
        """What one checkpoint makes of active features, and of their directions' products with a gradient."""
        return 2 * Work(2 * tokens * self._active * self.size.d_model, 8 * tokens * self._active * self.size.d_model)

    def _decomposed(self, tokens: Number) -> Number:
        """Bytes of activations, reconstructions and features of tokens, and of the crosscoder."""
        return 16 * tokens * self.checkpoints * self.size.d_model + 20 * tokens * self._active + 8 * self._width

    def _resampled(self, prompts: Number, columns: Number, resamples: int | None = None) -> Work:
        """A bootstrap over the prompts of one task."""
        times = (resamples or self.recipe.effects.resamples) * prompts
        return Work(4 * times * columns, 16 * times, DRAW * times)
