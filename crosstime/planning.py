"""What a run would cost, from its sizes alone: no model is opened, nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass

from crosstime.compute import DTYPES
from crosstime.known_models import KNOWN, ModelSize, refuse_broken, size_of
from crosstime.machine import Machine
from crosstime.recipe import TINY, Recipe
from crosstime.stages.evaluating import SEQUENCES
from interventions import Site

Number = int | float
PAIRS = {
    "ctt/blimp-sva": 4000, "ctt/clams-en-fr": 4760, "ctt/multiblimp-all": 2640, "blimp": 1000, "clams": 5000,
    "multiblimp": 700, "pairs": 1000, "agreement": 1000, "ctt": 490,
}  # fmt: skip
"""Pairs of a task, by its name or its family's, where the recipe sets no limit."""
PROMPT_TOKENS = 10
NODES = 12
"""Quadrature nodes of a prompt, on average, where their number follows from completeness."""
BACKWARD = 3
"""Cost of a forward and a backward pass, in forward passes."""
CODES = 128
"""Active features of a token that effects are kept of."""
EFFICIENCY = {"cpu": 0.7, "cuda": 0.5}
"""Share of the speed of large matrix products that training reaches."""
PASS_SECONDS = {"cpu": 0.004, "cuda": 0.02}
"""What a forward pass costs beside its arithmetic, however small it is."""


@dataclass(frozen=True)
class Cost:
    """One stage's cost.

    Attributes:
        stage: its name.
        what: the sizes that decide it, in words.
        flops: Numbering-point operations.
        memory: bytes on the device at once.
        disk: bytes that it writes or downloads.
        seconds: on the machine that the plan was made for.
    """

    stage: str
    what: str
    flops: Number
    memory: Number
    disk: Number
    seconds: Number


@dataclass(frozen=True)
class Plan:
    """What a recipe would cost on a machine.

    Attributes:
        costs: one a stage.
        host_memory: bytes of main memory at once, the buffer of activations among them.
        size: of the model.
        machine: which.
        objections: why this machine cannot hold it; empty where it can.
    """

    costs: tuple[Cost, ...]
    host_memory: Number
    size: ModelSize
    machine: Machine
    objections: tuple[str, ...]

    @property
    def seconds(self) -> Number:
        """Of all stages."""
        return sum(cost.seconds for cost in self.costs)


def plan(recipe: Recipe, machine: Machine) -> Plan:
    """Estimate what a recipe costs on a machine, from the sizes in it.

    ::

        forward of T tokens through n blocks     2 T n P           P: weights of a block; the unembedding adds 2 T V D
        training step of B tokens                B (C forward + 10 C D F)
        crosscoder in training                   16 bytes a weight (weight, gradient, two moments): 32 C D F bytes
        effects of N prompts of S tokens         3 N S nodes C forward(blocks above the site)

    Raises:
        RecipeError: the model's size is not known.
        SuiteError: a checkpoint that is known to be broken.
        SiteError: a layer that the model does not have.

    Examples:
        >>> machine = Machine("cuda", "one GPU", 5e13, 10**11, 8 * 10**10, 10**12)
        >>> " ".join(cost.stage for cost in plan(Recipe.named("ctt-pythia-1b"), machine).costs)
        'select train evaluate attribute ablate evolve report'
    """
    refuse_broken(recipe)
    size = size_of(recipe)
    layer = Site.parse(recipe.compare.site).resolve(size.n_layers).layer
    sizes = _Sizes(recipe, size, layer, machine)
    costs = tuple(cost for cost in (sizes.suite(), sizes.select(), *sizes.later()) if cost is not None)
    settings = recipe.crosscoder
    held = min(max(settings.buffer_tokens, settings.batch_size), settings.steps * settings.batch_size)
    buffer = held * sizes.checkpoints * size.d_model * DTYPES[settings.buffer_dtype].itemsize
    host = buffer + 4 * size.parameters + 2e9
    return Plan(costs, host, size, machine, tuple(_objections(costs, host, machine)))


def _objections(costs: tuple[Cost, ...], host: Number, machine: Machine) -> list[str]:
    found = []
    needed = host if machine.device != "cpu" else host + max(cost.memory for cost in costs)
    if needed > machine.memory:
        found.append(f"it needs {in_bytes(needed)} of main memory, and this machine has {in_bytes(machine.memory)}")
    if machine.device != "cpu":
        most = max(costs, key=lambda cost: cost.memory)
        if most.memory > machine.device_memory:
            found.append(
                f"stage {most.stage} needs {in_bytes(most.memory)} on the GPU, which has "
                f"{in_bytes(machine.device_memory)}"
            )
    disk = sum(cost.disk for cost in costs)
    if disk > machine.disk:
        found.append(f"it needs {in_bytes(disk)} of disk, and {in_bytes(machine.disk)} are free")
    return found


@dataclass(frozen=True)
class _Sizes:
    """The numbers that the stages' costs are made of."""

    recipe: Recipe
    size: ModelSize
    layer: int
    machine: Machine

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

    @property
    def pairs(self) -> int:
        """Prompts of all tasks."""
        total = 0
        for task in self.recipe.tasks:
            whole = PAIRS.get(task.name) or PAIRS.get(task.name.partition("/")[0], 1000)
            total += min(task.limit or whole, whole)
        return total

    def cost(
        self, stage: str, what: str, flops: Number, memory: Number, disk: Number = 0.0, passes: Number = 0.0
    ) -> Cost:
        """A stage's cost with its time: arithmetic at the machine's speed, and what every pass costs beside it."""
        machine = self.machine
        seconds = flops / (machine.flops * EFFICIENCY[machine.device]) + passes * PASS_SECONDS[machine.device]
        return Cost(stage, what, flops, memory, disk, seconds)

    def suite(self) -> Cost | None:
        """Training the tiny suite."""
        if self.recipe.suite.source != TINY:
            return None
        tiny = self.recipe.suite.tiny
        tokens, parameters = tiny.checkpoints[-1] * tiny.batch_tokens, self.size.parameters
        what = f"{tokens:,} tokens through {parameters:,} parameters"
        disk = 4 * parameters * len(tiny.checkpoints)
        return self.cost("suite", what, 6 * tokens * parameters, 16 * parameters, disk, 3 * tiny.checkpoints[-1])

    def select(self) -> Cost:
        """Accuracy at every checkpoint."""
        tokens = self.measured * self.pairs * PROMPT_TOKENS
        what = f"{self.measured} checkpoints, {self.pairs:,} prompts"
        flops, passes = 2 * tokens * self.size.parameters, self._passes(tokens)
        # Checkpoints that are on disk already cost nothing there.
        disk = self.measured * self.size.parameters * self.size.stored_bytes if self.size in KNOWN.values() else 0
        return self.cost("select", what, flops, self._model(), disk, passes)

    def later(self) -> list[Cost]:
        """The stages that need the crosscoder."""
        return [self._train(), self._evaluate(), self._attribute(), self._ablate(), self._evolve(), self._report()]

    def _train(self) -> Cost:
        settings, size, c = self.recipe.crosscoder, self.size, self.checkpoints
        tokens = settings.steps * settings.batch_size
        width = c * size.d_model * settings.n_features
        harvest = c * 2 * tokens * (self.layer + 1) * size.block_parameters
        what = f"{tokens:,} tokens, C {c}, D {size.d_model:,}, F {settings.n_features:,}"
        # Weights, gradients and two moments; codes, their gradients and one more of the size; a batch and its twin.
        batch = 4 * settings.batch_size * (3 * settings.n_features + 3 * c * size.d_model)
        memory = 16 * 2 * width + batch + self._model()
        saved = 12 * 2 * width + 4 * settings.buffer_tokens * c * size.d_model
        passes = settings.steps + self._passes(c * tokens)
        return self.cost("train", what, harvest + 10 * width * tokens, memory, saved, passes)

    def _evaluate(self) -> Cost:
        tokens = SEQUENCES * self.recipe.corpus.sequence_length
        what = f"{SEQUENCES} sequences of {self.recipe.corpus.sequence_length:,} tokens, four passes"
        flops = 4 * self.checkpoints * 2 * tokens * self.size.parameters
        kept = 4 * tokens * self.checkpoints * self.size.d_model
        return self.cost("evaluate", what, flops, self._model() + kept, 0, 4 * self._passes(self.checkpoints * tokens))

    def _attribute(self) -> Cost:
        effects = self.recipe.effects
        nodes = 1 if effects.method == "atp" else effects.steps or NODES
        tokens = self.pairs * PROMPT_TOKENS * self.checkpoints
        what = f"{self.pairs:,} prompts, {nodes} nodes, {self.checkpoints} checkpoints"
        flops = BACKWARD * nodes * 2 * tokens * self._above()
        return self.cost("attribute", what, flops, self._model(), 24 * tokens * CODES, nodes * self._passes(tokens))

    def _ablate(self) -> Cost:
        # About half of each checkpoint's and task's features are its own; each is ablated where it fires: half of it.
        features = self.recipe.effects.top * max(1, self.checkpoints // 2 + 1) * len(self.recipe.tasks)
        tokens = features * self.pairs * PROMPT_TOKENS * self.checkpoints / 2
        what = f"about {features:,} features, {self.pairs:,} prompts"
        return self.cost("ablate", what, 2 * tokens * self._above(), self._model(), 0, self._passes(tokens))

    def _evolve(self) -> Cost:
        settings = self.recipe.evolve
        read = settings.sequences if settings.text else 0
        tokens = read * self.recipe.corpus.sequence_length
        size, c, width = self.size, self.checkpoints, self.size.d_model * self.recipe.crosscoder.n_features
        flops = c * 2 * tokens * ((self.layer + 1) * size.block_parameters + 2 * width)
        passes = 1 + self._passes(c * tokens)
        return self.cost("evolve", f"{read} sequences", flops, self._model() + 8 * c * width, 0, passes)

    def _report(self) -> Cost:
        return Cost("report", "charts and tables", 0, self._model(), 2e7, 20.0)

    def _above(self) -> int:
        """Weights that a pass from the site upwards goes through, a few rows of the unembedding left out."""
        return (self.size.n_layers - self.layer - 1) * self.size.block_parameters

    def _model(self) -> Number:
        """One checkpoint on the device."""
        return DTYPES[self.recipe.compute.dtype].itemsize * self.size.parameters

    def _passes(self, tokens: Number) -> Number:
        return tokens / self.recipe.compute.max_tokens


def in_bytes(count: Number) -> str:
    """A number of bytes for people.

    Examples:
        >>> in_bytes(2.5e9)
        '2.5 GB'
    """
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def in_time(seconds: Number) -> str:
    """A span of time for people.

    Examples:
        >>> in_time(7200)
        '2 h'
    """
    for unit, scale in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * scale or (unit != "days" and seconds >= scale):
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.2g} s"
