"""MultiBLiMP 1.0, agreement in 101 languages (Jumelet, Weissweiler, Bisazza 2025, arXiv 2504.02768)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tasks import files, hub
from tasks.errors import UnknownTaskError
from tasks.minimal_pair import CttCount, MinimalPair
from tasks.task import Task
from user_input.nearest import nearest, similar

HUB = "jumelet/multiblimp"
PHENOMENA = ("SV-#", "SV-P", "SV-G", "SP-#", "SP-G")
LABELS = ("phenomenon", "grammatical_feature", "ungrammatical_feature", "distance", "num_attractors", "wo")


class MultiBlimp:
    """Plug-in for ``multiblimp/<language>/<phenomenon>``: one phenomenon of a language, or ``all`` of them.

    Phenomena have the names of the data: ``SV-#``, ``SV-P``, ``SV-G`` for number, person and gender between subject and
    verb, ``SP-#``, ``SP-G`` for number and gender between subject and participle.
    """

    name = "multiblimp"
    pattern = "multiblimp/<language>/<phenomenon|all>"
    description = "MultiBLiMP 1.0, agreement pairs made from treebanks (Jumelet et al. 2025)"
    source = f"Hub: {HUB}"
    languages = ("101 languages by ISO 639-3 code",)
    has_patch = False
    path_help = "data.tsv[.gz], <language>/, the folder it is in, or a folder with multiblimp/ in it"
    pairs = "tens to thousands a language"
    variants: ClassVar = {"phenomena": PHENOMENA}

    def load(self, rest: str, path: Path | None) -> Task:
        """Read a phenomenon of a language from a file under `path`, or from the Hub."""
        # Find the rows
        language, _, phenomenon = rest.partition("/")
        if not phenomenon or "/" in phenomenon:
            raise UnknownTaskError(f"task 'multiblimp/{rest}': the name has the form {self.pattern}")
        if path is None:
            source, rows = f"{HUB}[{language}]", hub.rows(HUB, language)
        else:
            file = self._file(language, path)
            source, rows = str(file), files.tsv_rows(file)

        # Read the pairs
        pairs = []
        present: set[str] = set()
        for where, row in rows:
            phenomenon_of_row = files.text_field(row, "phenomenon", where)
            present.add(phenomenon_of_row)
            if phenomenon in (phenomenon_of_row, "all"):
                pair = MinimalPair(
                    right=files.text_field(row, "sen", where),
                    wrong=files.text_field(row, "wrong_sen", where),
                    labels={name: str(row[name]) for name in LABELS if row.get(name) not in (None, "")},
                    where=where,
                    ctt_count=CttCount("spaced-word"),
                )
                pairs.append(pair)

        # Name the phenomena that are there instead
        if not pairs and present:
            raise UnknownTaskError(
                f"MultiBLiMP {language!r} has no phenomenon {phenomenon!r}: " + nearest(phenomenon, {*present, "all"})
            )
        return Task(f"multiblimp/{rest}", language, source, tuple(pairs))

    def _file(self, language: str, path: Path) -> Path:
        files.must_exist(path)
        if path.is_dir() and path.resolve().name != language:
            for folder in (path / "multiblimp", path):
                if (folder / language).is_dir():
                    path = folder / language
                    break
            else:
                root = path / "multiblimp" if (path / "multiblimp").is_dir() else path
                present = [child.name for child in root.iterdir() if child.is_dir()]
                raise UnknownTaskError(f"no folder {language!r} in {root} for MultiBLiMP: {similar(language, present)}")
        return files.locate(path, (path,), "data", (".tsv", ".tsv.gz"), "MultiBLiMP language")
