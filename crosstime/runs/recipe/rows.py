"""The table of a recipe about rows of parameters: ``[rows]``, in place of tasks and text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from crosstime.errors import RecipeError
from crosstime.runs.recipe.corpus import CorpusRecipe
from crosstime.runs.recipe.crosscoder import CrosscoderRecipe
from crosstime.runs.recipe.limits import at_least
from interventions.errors import InterventionError
from interventions.matrix_names import parse_matrix, site_of_matrix

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_OF_PROMPTS_OR_TEXT = ("select", "ngrams", "effects", "evolve", "dip", "stability", "baselines", "null", "remote")
"""Tables that say how prompts or texts are run through models, which a run on rows of parameters does not do."""


@dataclass(frozen=True)
class RowsRecipe:
    """Rows of weight matrices that the crosscoder is trained on; see `crosstime.parameter_rows`.

    Attributes:
        matrices: ``W_E``, ``W_U``, ``mlp_in.LAYER``, ``mlp_gate.LAYER`` or ``mlp_out.LAYER``, one or several; none in a
            recipe with tasks and a text.
        top: features of each life cycle that the report shows: those that write most of the rows.
        strongest: rows that are listed for each feature, those on which it fires most strongly.
    """

    matrices: list[str] = field(default_factory=list)
    top: int = 10
    strongest: int = 12

    def __post_init__(self) -> None:
        at_least(self, top=1, strongest=1)
        for name in self.matrices:
            try:
                parse_matrix(name)
            except InterventionError as error:
                raise RecipeError(f"matrices: {error}") from error
            if self.matrices.count(name) > 1:
                raise RecipeError(f"matrices: {name} is there twice.")

    @property
    def site(self) -> str:
        """The site of the record: that of the first matrix."""
        return str(site_of_matrix(self.matrices[0]))

    def refuse_others(self, tables: Mapping[str, DataclassInstance]) -> None:
        """Refuse what says how prompts or texts are run through models, unless it is left as it is by default.

        Args:
            tables: the tables of the recipe by name, of which `_OF_PROMPTS_OR_TEXT` are looked at.

        Raises:
            RecipeError: the sentence names the key.
        """
        for name in _OF_PROMPTS_OR_TEXT:
            table, default = tables[name], type(tables[name])()
            for key in fields(table):
                if getattr(table, key.name) != getattr(default, key.name):
                    raise RecipeError(
                        f"{name}.{key.name} has no meaning in a run on rows of parameters, which reads neither prompts "
                        f"nor text: leave [{name}] out."
                    )

    def refuse_text(self, corpus: CorpusRecipe, *, trained_here: bool) -> None:
        """Refuse a text that nothing reads: only a suite that is trained in the run needs one.

        Raises:
            RecipeError: the sentence names the key.
        """
        if trained_here and not corpus.source:
            raise RecipeError("[corpus] needs a key 'source': the text that the suite is trained on.")
        if trained_here and corpus.held_out is not None:
            raise RecipeError("corpus.held_out: a run on rows of parameters evaluates on no text; leave it out.")
        if not trained_here and corpus != CorpusRecipe():
            raise RecipeError("corpus: a run on rows of parameters reads no text; leave [corpus] out.")

    def refuse_trained(self, crosscoder: CrosscoderRecipe, feature_shards: int) -> None:
        """Refuse ways to train a crosscoder that rows of parameters do not have.

        Raises:
            RecipeError: the sentence names the key.
        """
        if crosscoder.seeds:
            raise RecipeError(
                "crosscoder.seeds: one crosscoder at a time is trained on rows of parameters; write seed."
            )
        if crosscoder.validation:
            raise RecipeError("crosscoder.validation must be 0: rows of parameters have no documents to hold out.")
        if feature_shards > 1:
            raise RecipeError("compute.feature_shards must be 1: training on rows of parameters takes one process.")
