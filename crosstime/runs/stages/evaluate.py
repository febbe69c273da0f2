"""Measure how well the crosscoder reconstructs activations."""

from __future__ import annotations

from typing import ClassVar

from crosstime.crosscoders.evaluate import evaluate
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.work import Cost
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.stage import Stage
from crosstime.suites.text_sample import TextSample

MAX_SEQUENCES, MAX_NUMBERS = 256, 1 << 29
"""Upper bounds of the sequences that are read, and of the numbers in their activations at all checkpoints."""


class Evaluate(Stage):
    """Writes evaluation.csv."""

    name: ClassVar[str] = "evaluate"
    title: ClassVar[str] = "how good it is"

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """The crosscoder."""
        return ledger.key("train")

    def files(self, recipe: Recipe) -> list[str]:
        """The table."""
        return ["evaluation.csv"]

    def cost(self, sizes: Sizes) -> Cost:
        """Activations of the text, and its losses with the model's, the crosscoder's and zero activations."""
        text, n_layers = sizes.text_pass, sizes.model.n_layers
        n_sequences = evaluation_sequences(text.length, sizes.n_checkpoints, sizes.model.d_model)
        tokens = n_sequences * text.length
        work = text.blocks(sizes.layer + 1, tokens) + 3 * text.logits(tokens)
        work += text.blocks(n_layers + 2 * (n_layers - sizes.layer - 1), tokens) + sizes.decode(tokens)
        return sizes.cost(
            self.name,
            f"{n_sequences} sequences of {text.length:,} tokens, four passes",
            sizes.n_checkpoints * work + sizes.encode(tokens),
            device=sizes.model_bytes + 12 * sizes.max_tokens * sizes.model.vocab_size,
            host=sizes.decomposed_bytes(tokens),
        )

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.evaluate`; on text that it was not trained on, if the recipe has any."""
        text, sample = inputs.corpus(held_out=True), evaluation_sample(inputs)
        table = evaluate(inputs.compared, folder.crosscoder, text, sample=sample, compute=inputs.compute)
        folder.write_table("evaluation", table)


def evaluation_sample(inputs: Inputs) -> TextSample:
    """How much of the text the crosscoder is evaluated on."""
    suite, length = inputs.compared, inputs.recipe.corpus.sequence_length
    return TextSample(evaluation_sequences(length, len(suite), suite.d_model), length)


def evaluation_sequences(length: int, n_checkpoints: int, d_model: int) -> int:
    """Number of sequences that the crosscoder is evaluated on: fewer, if their activations would fill the memory.

    Examples:
        >>> evaluation_sequences(64, 3, 128), evaluation_sequences(1024, 3, 2048), evaluation_sequences(2048, 32, 768)
        (256, 85, 10)
    """
    return max(1, min(MAX_SEQUENCES, MAX_NUMBERS // max(1, length * n_checkpoints * d_model)))
