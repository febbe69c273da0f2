"""Follow features over training: when they emerge, how long they stay, and how certain that is."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

from crosstime.evolution.evolve import TextEvidence, evolve
from crosstime.machine.checksum import checksum_of
from crosstime.runs.effect_halves import effect_halves
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.work import Cost, Work
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.stage import Stage
from crosstime.suites.read_lines import text_files
from crosstime.suites.text_sample import TextSample
from interventions import Bootstrap

FOLDER = "evolution"
TABLES = (
    "facts",
    "evolution",
    "rotation",
    "rotation_steps",
    "dimensionality",
    "life_cycles",
    "life_cycle_shares",
    "pairs",
    "specificity",
)
TEXT_TABLES = ("scaling", "presence", "absorption")
KIND_TABLES = ("kinds", "onsets")
LANGUAGE_TABLES = ("languages",)
FORMAT = 2
"""Raised where the tables get other columns, so that a run of an earlier version makes them again."""


class Evolve(Stage):
    """Writes evolution/, a folder of tables; see docs/features.md."""

    name: ClassVar[str] = "evolve"
    title: ClassVar[str] = "features over time"

    def title_of(self, recipe: Recipe) -> str:
        """Models side by side are not points in time."""
        return "features across models" if recipe.suite.models else self.title

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """The effects, and how features are followed."""
        table = inputs.recipe.evolve
        named = text_files(list(table.languages.values()))
        texts = {name: checksum_of(path) for name, path in named.items() if path.is_file()}
        settings = asdict(table)
        # The default is left out, as in runs that were made before there was a choice
        if table.kinds:
            del settings["kinds"]
        return [ledger.key("attribute"), settings, texts, FORMAT]

    def files(self, recipe: Recipe) -> list[str]:
        """The tables."""
        return [f"{FOLDER}/{name}.csv" for name in _table_names(recipe)]

    def cost(self, sizes: Sizes) -> Cost:
        """Passes over text, products of decoder directions, and permutations of effects."""
        table, c, n_prompts, text = sizes.recipe.evolve, sizes.n_checkpoints, sum(sizes.prompts), sizes.text_pass

        # The text; for kinds of features, random sequences, and pairs of repeated sequences and controls
        n_sequences = table.sequences if table.text else 0
        tokens = (4 if table.kinds else 1) * n_sequences * text.length
        work = c * (text.blocks(sizes.layer + 1, tokens) + sizes.decode(tokens)) + sizes.encode(tokens)

        # Decoder directions with one another; permutations of every effect of every prompt, twice; bootstrap
        work += Work(2 * sizes.cdf * sizes.model.d_model, 4 * sizes.cdf)
        work += Work(8 * table.resamples * n_prompts * c * c * sizes.n_selected)
        work += 2 * n_prompts * sizes.bootstrap(1, c * sizes.n_selected, table.resamples)
        return sizes.cost(
            self.name,
            f"{n_sequences} sequences",
            work,
            device=sizes.model_bytes,
            host=sizes.decomposed_bytes(tokens) + sizes.decomposed_bytes(sizes.prompt_tokens),
        )

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.evolve`."""
        recipe, table, crosscoder = inputs.recipe, inputs.recipe.evolve, folder.crosscoder
        halves = [effect_halves(inputs, folder, task) for task in range(len(inputs.tasks))]
        text = TextEvidence(
            corpus=inputs.corpus(held_out=True) if table.text else None,
            languages=table.languages or None,
            sample=TextSample(table.sequences, recipe.corpus.sequence_length),
            kinds=table.kinds,
            transform=inputs.transform,
        )
        tables = evolve(
            inputs.compared,
            crosscoder,
            [held_out for _, held_out in halves],
            features={selection.task: selection.top(recipe.effects.top) for selection, _ in halves},
            text=text,
            bootstrap=Bootstrap(table.resamples, recipe.seed),
            compute=inputs.compute,
        )
        for name in _table_names(recipe):
            folder.write_table(f"{FOLDER}/{name}", tables[name])


def _table_names(recipe: Recipe) -> list[str]:
    """The tables that a recipe asks for."""
    table = recipe.evolve
    text = TEXT_TABLES if table.text else ()
    kinds = KIND_TABLES if table.text and table.kinds else ()
    languages = LANGUAGE_TABLES if table.languages else ()
    return [*TABLES, *text, *kinds, *languages]
