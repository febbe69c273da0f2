"""Clean and patch prompts with their answers, as in Sparse Feature Circuits (arXiv 2403.19647)."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from tasks import files, hub
from tasks.errors import DataError
from tasks.joins import warn_of_missing_blanks
from tasks.minimal_pair import CttCount, MinimalPair
from tasks.task import Task

HUB_PATTERN = "pairs/<organisation>/<data set>[/<config>[/<split>]]"
FIELDS = ("clean_prefix", "clean_answer", "patch_answer")
PATCH_FIELD = "patch_prefix"
SENTENCES = ("sentence_good", "sentence_bad")
"""Fields of CTT's files that repeat what the others say."""
SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


class CleanPatch:
    """Plug-in for ``pairs/<file>`` and ``pairs/<organisation>/<data set>[/<config>[/<split>]]``.

    A row has the fields `clean_prefix`, `patch_prefix`, `clean_answer` and `patch_answer`. Prompt and answer are
    concatenated unchanged, so answers contain their own space. Other text fields become labels. Without `patch_prefix`
    in any row the pairs have no patch prompts, as in the files of Crosscoding Through Time; rows with ``"skip": true``
    are left out and counted.
    """

    name = "pairs"
    pattern = f"pairs/<file> or {HUB_PATTERN}"
    description = "clean and patch prompts with one answer each (format of Marks et al. 2024)"
    source = "Hub: any data set with these fields"
    languages = ("as the file says",)
    has_patch = True
    path_help = "<file>.json[l][.gz], its folder, or a folder with pairs/ or sva_pairs/ in it"

    def load(self, rest: str, path: Path | None) -> Task:
        """Read the file `rest` under `path`, or the data set `rest` of the Hub."""
        # Find the rows
        if path is None:
            source, rows = self._hub(rest)
        else:
            folders = (path, path / "pairs", path / "sva_pairs")
            file = files.locate(path, folders, rest, SUFFIXES, "clean and patch pairs")
            source, rows = str(file), files.json_lines(file)

        # Read the pairs
        pairs: list[MinimalPair] = []
        languages = set()
        skipped = 0
        joins = []
        for where, row in rows:
            if files.is_skipped(row, where):
                skipped += 1
                continue
            # A misspelled field is an error; one that is absent from a complete row says that there is no patch prompt.
            others = [name for name in row if name not in FIELDS]
            misspelled = bool(get_close_matches(PATCH_FIELD, others, n=1, cutoff=0.75))
            has_patch = misspelled or not all(field in row for field in FIELDS)
            if pairs and has_patch != (pairs[0].patch_right is not None):
                raise DataError(f"{where}: either all rows have a 'patch_prefix' or none, unlike {pairs[0].where}")
            patch = files.text_field(row, PATCH_FIELD, where) if has_patch else None
            clean, right, wrong = (files.text_field(row, field, where) for field in FIELDS)
            own = (*FIELDS, PATCH_FIELD, *SENTENCES)
            labels = {key: value for key, value in row.items() if key not in own and isinstance(value, str)}
            languages.add(labels.get("language", "und"))
            # A whole sentence that says the same shows that the answer is meant to be a part of a word.
            if row.get("sentence_good") != clean + right:
                joins.append((clean, right, wrong))
            pair = MinimalPair(
                right=clean + right,
                wrong=clean + wrong,
                patch_right=None if patch is None else patch + wrong,
                patch_wrong=None if patch is None else patch + right,
                labels=labels,
                where=where,
                # Without patch prompts these are CTT's own files, whose answers are what its rule left of them.
                ctt_count=CttCount() if has_patch else CttCount("rest", (len(clean + right), len(clean + wrong))),
            )
            pairs.append(pair)
        warn_of_missing_blanks(f"pairs/{rest}", joins)
        language = languages.pop() if len(languages) == 1 else "und"
        return Task(f"pairs/{rest}", language, source, tuple(pairs), {files.SKIP: skipped} if skipped else {})

    def _hub(self, rest: str) -> tuple[str, Iterator[tuple[str, dict[str, object]]]]:
        parts = rest.split("/")
        if not 2 <= len(parts) <= 4 or not all(parts):
            raise DataError(
                f"pairs/{rest} names no data set of the Hub, whose names have the form {HUB_PATTERN}: "
                "pass path= to read a local file"
            )
        dataset = "/".join(parts[:2])
        config, split = [*parts[2:], None, None][:2]
        return dataset, hub.rows(dataset, config, split)
