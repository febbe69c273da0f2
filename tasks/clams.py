"""CLAMS, agreement in English, French, German, Hebrew and Russian (Mueller et al. 2020, ACL)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from tasks import files
from tasks.errors import DataError, UnknownTaskError
from tasks.minimal_pair import CttCount, MinimalPair
from tasks.task import Task
from user_input.nearest import similar

SUFFIXES = (".txt", ".txt.gz")
CTT_SUFFIXES = (".jsonl", ".jsonl.gz")
CTT_FOLDERS = (".", "clams_data", "data/clams_data")
TOKEN_PREFIX = "_tokenprefix"
"""End of the names of CTT's files that hold pairs whose sentences end with the answer, up to two tokens."""
FOLDER_END = "_evalset"
SETS = (
    "simple_agrmt",
    "vp_coord",
    "long_vp_coord",
    "subj_rel",
    "obj_rel_across_anim",
    "obj_rel_within_anim",
    "prep_anim",
)
"""The sets that every language has; English has more."""


class Clams:
    """Plug-in for ``clams/<language>/<set>``: alternating lines ``True<TAB>sentence`` and ``False<TAB>sentence``.

    French predicates agree in two words (``sont vieux`` / ``est vieux``), of which the first is the answer. In the sets
    on negative polarity (`npi`) the sentences differ in their first word and not in the word that is judged, so these
    sets can be scored by whole sentences only.

    The files that Crosscoding Through Time made of CLAMS for BLOOM's tokenizer, ``<language>_<set>.jsonl`` and
    ``<language>_<set>_tokenprefix.jsonl``, are read as well: their whole sentences, without rows marked ``skip``.
    """

    name = "clams"
    pattern = "clams/<language>/<set>"
    description = "CLAMS, subject-verb agreement from grammars in five languages (Mueller et al. 2020)"
    source = "GitHub: aaronmueller/clams, fetched by hand"
    languages = ("de", "en", "fr", "he", "ru")
    has_patch = False
    path_help = (
        "<set>.txt[.gz], <language>_evalset/, the folder it is in, or a folder with clams/ in it; "
        "<language>_<set>.jsonl, or its folder"
    )
    pairs = "140 to 16,800 a set"
    variants: ClassVar = {"sets": SETS}

    def load(self, rest: str, path: Path | None) -> Task:
        """Read a set of a language from a file under `path`."""
        language, _, name = rest.partition("/")
        if not name or "/" in name:
            raise UnknownTaskError(f"task 'clams/{rest}': the name has the form {self.pattern}")
        if path is None:
            raise DataError(
                f"clams/{rest} needs a local copy: fetch the repository aaronmueller/clams from GitHub "
                "and pass its folder as path="
            )
        file = self._file(language, name, path)
        pairs, skipped = (tuple(_pairs(file)), 0) if not file.name.endswith(CTT_SUFFIXES) else _pairs_of_ctt(file)
        return Task(
            f"clams/{rest}",
            language,
            str(file),
            pairs,
            {files.SKIP: skipped} if skipped else {},
            shared_prefix="npi" not in name.split("_"),
        )

    def _file(self, language: str, name: str, path: Path) -> Path:
        files.must_exist(path)
        if path.is_file():
            return path

        # Find a file of Crosscoding Through Time
        of_ctt = [path / folder for folder in CTT_FOLDERS]
        present = [file for folder in of_ctt if folder.is_dir() for file in folder.iterdir() if _is_of_ctt(file)]
        if present and not any((parent / (language + FOLDER_END)).is_dir() for parent in (path, path / "clams")):
            return files.locate(path, of_ctt, f"{language}_{name}", CTT_SUFFIXES, f"CLAMS set of {language!r}")

        # Find the folder of the language
        name_of_folder = language + FOLDER_END
        if path.resolve().name == name_of_folder:
            folders = [path]
        else:
            folders = [parent / name_of_folder for parent in (path, path / "clams")]
            folders = [folder for folder in folders if folder.is_dir()]

        # Name the languages that are there instead
        if not folders:
            languages = {
                child.name.removesuffix(FOLDER_END)
                for folder in (path, path / "clams")
                if folder.is_dir()
                for child in folder.iterdir()
                if child.name.endswith(FOLDER_END)
            }
            raise DataError(
                f"no folder {name_of_folder} in {path} or {path / 'clams'} for CLAMS language {language!r}: "
                + similar(language, languages)
            )
        return files.locate(path, folders, name, SUFFIXES, f"CLAMS set of {language!r}")


def _pairs(file: Path) -> Iterator[MinimalPair]:
    """Yield a pair for every two lines."""
    right: tuple[str, str] | None = None
    for number, line in files.lines(file):
        if not line.strip():
            continue
        where = f"{file.name}:{number}"
        flag, tab, sentence = line.partition("\t")
        expected = "True" if right is None else "False"
        if not tab or not sentence.strip() or flag != expected:
            raise DataError(f"{where}: expected '{expected}<TAB>sentence', found {line[:60]!r}")
        if right is None:
            right = (where, sentence)
        else:
            yield MinimalPair(right[1], sentence, where=right[0], ctt_count=CttCount("spaced-word"))
            right = None
    if right is not None:
        raise DataError(f"{right[0]}: the last sentence has no 'False' line after it")


def _is_of_ctt(file: Path) -> bool:
    """Whether a file has a name such as ``en_simple_agrmt.jsonl``."""
    language, underscore, _ = file.name.partition("_")
    return bool(underscore) and language in Clams.languages and file.name.endswith(CTT_SUFFIXES)


def _pairs_of_ctt(file: Path) -> tuple[tuple[MinimalPair, ...], int]:
    """The pairs of a JSON Lines file of Crosscoding Through Time, and the number of rows that it marks ``skip``."""
    pairs = []
    skipped = 0
    has_rest = TOKEN_PREFIX in file.name
    for where, row in files.json_lines(file):
        if files.is_skipped(row, where):
            skipped += 1
            continue
        right, wrong = (files.text_field(row, f"sentence_{kind}", where) for kind in ("good", "bad"))
        count = CttCount("rest", (len(right), len(wrong))) if has_rest else CttCount("spaced-word")
        pairs.append(MinimalPair(right, wrong, where=where, ctt_count=count))
    return tuple(pairs), skipped
