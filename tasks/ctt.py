"""The selections of pairs that *Crosscoding Through Time* measures, as named tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tasks.blimp import Blimp
from tasks.clams import Clams
from tasks.errors import UnknownTaskError
from tasks.minimal_pair import MinimalPair
from tasks.multiblimp import MultiBlimp
from tasks.quotas import Quotas
from tasks.task import Task
from user_input.nearest import nearest

SEED = 42
BLIMP = (
    "distractor_agreement_relational_noun",
    "distractor_agreement_relative_clause",
    "irregular_plural_subject_verb_agreement_1",
    "regular_plural_subject_verb_agreement_1",
)
CLAMS = {
    "long_vp_coord": 300,
    "obj_rel_across_anim": 400,
    "obj_rel_within_anim": 400,
    "prep_anim": 400,
    "simple_agrmt": 80,
    "subj_rel": 400,
    "vp_coord": 400,
}
MULTIBLIMP = {
    "eng": {"SV-#": 100, "SV-P": 290},
    "fra": {"SV-#": 100, "SV-P": 290},
    "spa": {"SV-#": 100, "SV-P": 290},
    "por": {"SV-#": 100, "SV-G": 100, "SV-P": 290},
    "arb": {"SV-#": 100, "SV-G": 100, "SV-P": 290},
    "hin": {"SV-#": 100, "SV-G": 100, "SV-P": 290},
}
PRESETS = ("blimp-sva", "clams-en-fr", *(f"multiblimp-{language}" for language in MULTIBLIMP), "multiblimp-all")


class Ctt:
    """Plug-in for ``ctt/blimp-sva``, ``ctt/clams-en-fr``, ``ctt/multiblimp-<language>`` and ``-all``.

    - BLiMP: every pair of the four one-prefix agreement paradigms.
    - CLAMS: of each set and language up to 300 (`long_vp_coord`), 80 (`simple_agrmt`) or 400 pairs; sentences begin
      with a capital letter.
    - MultiBLiMP: of each language up to 100 pairs on number, 100 on gender (Portuguese, Arabic, Hindi) and 290 on
      person.

    All use the rule ``"ctt"`` of `Task.tokenize`, which counts tokens as the paper's code does for each data set; the
    numbers count pairs that the rule keeps, drawn with seed 42. The numbers, the seed and the rule are those of the
    paper. Of CLAMS and MultiBLiMP the pairs are not, since its code shuffles with another library.

    Source: Bayazit, Mueller, Bosselut, Crosscoding Through Time (arXiv 2509.05291) and the code published with it.
    """

    name = "ctt"
    pattern = "ctt/<blimp-sva|clams-en-fr|multiblimp-LANGUAGE|multiblimp-all>"
    description = "the selections of Crosscoding Through Time (Bayazit et al. 2025)"
    source = "as blimp, clams and multiblimp"
    languages = ("en", "fr", "eng", "fra", "spa", "por", "arb", "hin")
    has_patch = False
    path_help = "a folder with blimp/, clams/ and multiblimp/ in it, or that family's own folder"
    pairs = "4,000; up to 4,760; up to 490 a language"

    def load(self, rest: str, path: Path | None) -> Task:
        """Read the selection `rest` with the families of which it consists."""
        if rest not in PRESETS:
            raise UnknownTaskError(f"ctt has no selection {rest!r}: {nearest(rest, PRESETS)}")
        parts: list[tuple[Task, int | None]]
        if rest == "blimp-sva":
            parts = [(Blimp().load(name, path), None) for name in BLIMP]
        elif rest == "clams-en-fr":
            parts = [
                (_capitalized(Clams().load(f"{language}/{name}", path)), most)
                for name, most in CLAMS.items()
                for language in ("en", "fr")
            ]
        else:
            name = rest.removeprefix("multiblimp-")
            parts = [
                (MultiBlimp().load(f"{language}/{phenomenon}", path), most)
                for language in (MULTIBLIMP if name == "all" else (name,))
                for phenomenon, most in MULTIBLIMP[language].items()
            ]
        return _joined(f"ctt/{rest}", parts)


def _joined(name: str, parts: Sequence[tuple[Task, int | None]]) -> Task:
    """Join tasks into one, with their names as labels of the pairs and their largest numbers of pairs as quotas."""
    languages = {task.language for task, _ in parts}
    sources = list(dict.fromkeys(task.source for task, _ in parts))
    most = {task.name: count for task, count in parts if count is not None}
    skipped: Counter[str] = Counter()
    for task, _ in parts:
        skipped.update(task.skipped)
    return Task(
        name,
        languages.pop() if len(languages) == 1 else "mul",
        sources[0] + (f" and {len(sources) - 1} more" if len(sources) > 1 else ""),
        tuple(replace(pair, labels={**pair.labels, "part": task.name}) for task, _ in parts for pair in task.pairs),
        skipped,
        rule="ctt",
        quotas=Quotas("part", most, SEED) if most else None,
    )


def _capitalized(task: Task) -> Task:
    def change(pair: MinimalPair) -> MinimalPair:
        return replace(pair, right=pair.right.capitalize(), wrong=pair.wrong.capitalize())

    return replace(task, pairs=tuple(change(pair) for pair in task.pairs))
