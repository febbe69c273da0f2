"""Compare the predictions of every checkpoint with unigrams and bigrams of the text."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.work import Cost
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.stage import Stage
from crosstime.suites.ngram_divergence import ngram_divergence
from crosstime.suites.text_sample import TextSample


class Ngrams(Stage):
    """Writes ngrams.csv; part of the recipes that ask for it."""

    name: ClassVar[str] = "ngrams"
    title: ClassVar[str] = "unigrams and bigrams"

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """Checkpoints, text, and how much of it is read."""
        return {
            "suite": inputs.suite.fingerprint,
            "text": inputs.corpus_identity(),
            "seed": inputs.recipe.seed,
            "dtype": inputs.compute.precision,
            **asdict(inputs.recipe.ngrams),
        }

    def files(self, recipe: Recipe) -> list[str]:
        """The table."""
        return ["ngrams.csv"]

    def cost(self, sizes: Sizes) -> Cost:
        """One pass over the text at every checkpoint, with all logits in double precision."""
        text, n_sequences = sizes.text_pass, sizes.recipe.ngrams.sequences
        tokens = n_sequences * text.length
        work = text.blocks(sizes.model.n_layers, tokens) + text.logits(tokens)
        return sizes.cost(
            self.name,
            f"{n_sequences} sequences of {text.length:,} tokens",
            sizes.n_measured * work,
            device=sizes.model_bytes + 12 * sizes.max_tokens * sizes.model.vocab_size,
            host=48 * sizes.max_tokens * sizes.model.vocab_size,
        )

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.ngram_divergence`."""
        table = inputs.recipe.ngrams
        divergence = ngram_divergence(
            inputs.suite,
            inputs.corpus(held_out=inputs.store is not None),
            TextSample(table.sequences, inputs.recipe.corpus.sequence_length),
            counted_sequences=table.counted,
            compute=inputs.compute,
        )
        folder.write_table("ngrams", divergence)
