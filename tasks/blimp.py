"""BLiMP, English minimal pairs in 67 paradigms (Warstadt et al. 2020, arXiv 1912.00582)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tasks import files, hub
from tasks.errors import UnknownTaskError
from tasks.minimal_pair import CttCount, MinimalPair
from tasks.task import Task
from user_input.nearest import nearest

HUB = "nyu-mll/blimp"
LABELS = {"field": "field", "term": "linguistics_term"}
"""The field of the data that each label holds."""

ONE_PREFIX = (
    "anaphor_gender_agreement",
    "anaphor_number_agreement",
    "animate_subject_passive",
    "determiner_noun_agreement_1",
    "determiner_noun_agreement_irregular_1",
    "determiner_noun_agreement_with_adj_irregular_1",
    "determiner_noun_agreement_with_adjective_1",
    "distractor_agreement_relational_noun",
    "distractor_agreement_relative_clause",
    "irregular_past_participle_verbs",
    "irregular_plural_subject_verb_agreement_1",
    "npi_present_1",
    "npi_present_2",
    "principle_A_c_command",
    "principle_A_case_1",
    "principle_A_case_2",
    "principle_A_domain_1",
    "principle_A_domain_2",
    "regular_plural_subject_verb_agreement_1",
    "wh_island",
)
"""Paradigms whose two sentences are equal up to the answer, by the field `one_prefix_method` of the data."""

WHOLE_SENTENCES = (
    "adjunct_island",
    "animate_subject_trans",
    "causative",
    "complex_NP_island",
    "coordinate_structure_constraint_complex_left_branch",
    "coordinate_structure_constraint_object_extraction",
    "determiner_noun_agreement_2",
    "determiner_noun_agreement_irregular_2",
    "determiner_noun_agreement_with_adj_2",
    "determiner_noun_agreement_with_adj_irregular_2",
    "drop_argument",
    "ellipsis_n_bar_1",
    "ellipsis_n_bar_2",
    "existential_there_object_raising",
    "existential_there_quantifiers_1",
    "existential_there_quantifiers_2",
    "existential_there_subject_raising",
    "expletive_it_object_raising",
    "inchoative",
    "intransitive",
    "irregular_past_participle_adjectives",
    "irregular_plural_subject_verb_agreement_2",
    "left_branch_island_echo_question",
    "left_branch_island_simple_question",
    "matrix_question_npi_licensor_present",
    "only_npi_licensor_present",
    "only_npi_scope",
    "passive_1",
    "passive_2",
    "principle_A_domain_3",
    "principle_A_reconstruction",
    "regular_plural_subject_verb_agreement_2",
    "sentential_negation_npi_licensor_present",
    "sentential_negation_npi_scope",
    "sentential_subject_island",
    "superlative_quantifiers_1",
    "superlative_quantifiers_2",
    "tough_vs_raising_1",
    "tough_vs_raising_2",
    "transitive",
    "wh_questions_object_gap",
    "wh_questions_subject_gap",
    "wh_questions_subject_gap_long_distance",
    "wh_vs_that_no_gap",
    "wh_vs_that_no_gap_long_distance",
    "wh_vs_that_with_gap",
    "wh_vs_that_with_gap_long_distance",
)
"""All other paradigms, which can be scored only by the likelihood of whole sentences."""


class Blimp:
    """Plug-in for ``blimp/<paradigm>``: the original JSON Lines or the copy on the Hub.

    Every paradigm can be loaded and scored by whole sentences. Only in the one-prefix paradigms do the two sentences
    share everything before the answer; the others cannot be tokenized into prompts. A local folder may also hold
    paradigms of your own.
    """

    name = "blimp"
    pattern = "blimp/<paradigm>"
    description = "BLiMP, 67 paradigms of 1,000 pairs (Warstadt et al. 2020); prompts in one-prefix paradigms"
    source = f"Hub: {HUB}"
    languages = ("en",)
    has_patch = False
    path_help = "<paradigm>.jsonl[.gz], its folder, or a folder with blimp/ in it"
    pairs = "1,000 a paradigm"
    variants: ClassVar = {"one-prefix": ONE_PREFIX, "whole sentences only": WHOLE_SENTENCES}

    def load(self, rest: str, path: Path | None) -> Task:
        """Read the paradigm `rest` from a file under `path`, or from the Hub."""
        # Find the rows
        if "/" in rest:
            raise UnknownTaskError(f"task 'blimp/{rest}': a BLiMP paradigm has no slash in its name")
        if path is None:
            known = (*ONE_PREFIX, *WHOLE_SENTENCES)
            if rest not in known:
                raise UnknownTaskError(f"BLiMP has no paradigm {rest!r}: {nearest(rest, known)}")
            source, rows = f"{HUB}[{rest}]", hub.rows(HUB, rest, "train")
        else:
            file = files.locate(path, (path, path / "blimp"), rest, (".jsonl", ".jsonl.gz"), "BLiMP paradigm")
            source, rows = str(file), files.json_lines(file)

        # Read the pairs
        pairs = []
        shared_prefix, skipped = True, 0
        for where, row in rows:
            if files.is_skipped(row, where):
                skipped += 1
                continue
            pair = MinimalPair(
                right=files.text_field(row, "sentence_good", where),
                wrong=files.text_field(row, "sentence_bad", where),
                labels={label: str(row[field]) for label, field in LABELS.items() if field in row},
                where=where,
                ctt_count=CttCount("rest", _answer_ends(row)),
            )
            pairs.append(pair)
            # The data say whether a pair has a prompt; a file of the user's own without this field is assumed to.
            shared_prefix &= bool(row.get("one_prefix_method", rest not in WHOLE_SENTENCES))
        reasons = {files.SKIP: skipped} if skipped else {}
        return Task(f"blimp/{rest}", "en", source, tuple(pairs), reasons, shared_prefix=shared_prefix)


def _answer_ends(row: Mapping[str, object]) -> tuple[int, int] | None:
    """Where the answers end in the sentences, by the original data; the copy on the Hub does not say it.

    An answer can be of several words, such as "gets a job".
    """
    ends = []
    for kind in ("good", "bad"):
        sentence, prefix, word = (
            row.get(f) for f in (f"sentence_{kind}", "one_prefix_prefix", f"one_prefix_word_{kind}")
        )
        if not isinstance(sentence, str) or not isinstance(prefix, str) or not isinstance(word, str):
            return None
        beginning = f"{prefix.strip()} {word.strip()}"
        if not word.strip() or not sentence.startswith(beginning):
            return None
        ends.append(len(beginning))
    return ends[0], ends[1]
