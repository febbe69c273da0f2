"""Train the suite of checkpoints, if the recipe has a tiny one."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from typing import ClassVar

from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.work import ADAM_BYTES, Cost, ForwardPass, Work
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.stage import Stage
from crosstime.suites.corpus import documents
from crosstime.suites.train_tiny_suite import train_tiny_suite

_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


class MakeSuite(Stage):
    """Trains ``suite/``, a folder of checkpoints."""

    name: ClassVar[str] = "suite"
    title: ClassVar[str] = "a tiny suite of checkpoints"

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """The suite's settings and its text."""
        recipe = inputs.recipe
        return {"tiny": asdict(recipe.suite.tiny), "corpus": inputs.corpus_identity(), "seed": recipe.seed}

    def files(self, recipe: Recipe) -> list[str]:
        """The checkpoints and their index."""
        folders = [f"{RunFolder.SUITE}/step{step}" for step in recipe.suite.tiny.checkpoints]
        return [f"{folder}/{file}" for folder in folders for file in _FILES] + [f"{RunFolder.SUITE}/suite.json"]

    def cost(self, sizes: Sizes) -> Cost:
        """Training a small language model."""
        tiny, parameters = sizes.recipe.suite.tiny, sizes.model.parameters
        steps = tiny.checkpoints[-1]
        tokens = steps * tiny.batch_tokens
        forward = ForwardPass(sizes.model, tiny.sequence_length, tiny.batch_tokens)
        # The weights have gradients too: the products of one more forward pass.
        work = 1.5 * forward.blocks(sizes.model.n_layers, tokens, gradients=True) + 3 * forward.logits(tokens)
        work += Work(moved=ADAM_BYTES * parameters * steps)
        activations = 4 * tiny.batch_tokens * (4 * sizes.model.vocab_size + 40 * sizes.model.d_model)
        return sizes.cost(
            self.name,
            f"{tokens:,} tokens through {parameters:,} parameters",
            work,
            device=16 * parameters + activations,
            host=0,
            disk=4 * parameters * len(tiny.checkpoints),
        )

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.train_tiny_suite`."""
        path = folder.path / folder.SUITE
        shutil.rmtree(path, ignore_errors=True)
        lines, _ = documents(inputs.corpus())
        train_tiny_suite(path, lines, inputs.recipe.suite.tiny)
