"""A checkpoint's tokenizer, whose token ids are those of its tokenizer.json.

transformers opens many tokenizers with a class that it chooses by name, and some of these classes build their own
pre-tokenizer and leave that of tokenizer.json out: OLMo-2's numbers then split into other tokens than in training.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interventions.adapter import find_adapter
from interventions.errors import CheckpointLoadError
from interventions.known_tokenizers import check_known_ids
from interventions.own_code import own_code_refusal
from user_input.home import expanded
from user_input.hub_reach import hub_or_cache, why_unreachable
from user_input.reason import reason

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

FILE = "tokenizer.json"
PROBES = (
    "The authors near the senator laugh.",
    " Hello  world   !",
    "in 2023 and 650841823, 3.14 or 1,000",
    "they don't, I'll; WE'VE",
    "def f(x):\n    return x**2  # x != y\n",
    "one\n\ntwo\r\n\n\n three\t\tfour",
    "naïve café – 生活的真谛是 ปี привет \U0001f60a",
    "<s>[INST] a_b-c/d @e #f </s>",
    "",
)
"""Texts on which tokenizers that look alike differ: blanks, digits, contractions, code, line ends, other scripts."""
_RULES = ("normalizer", "pre_tokenizer", "model")
"""Parts of tokenizer.json that decide the ids of a text without special tokens."""


def read_tokenizer(
    source: str, revision: str | None = None, *, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or Hub repository; its ids are those of ``tokenizer.json``, if there is one.

    An adapter of peft without a tokenizer of its own has that of its base model.

    Where transformers' class for it builds other rules, the tokenizer is opened from ``tokenizer.json`` with the
    special tokens of ``tokenizer_config.json`` instead.

    Args:
        source: the folder or the repository id.
        revision: branch, tag or commit of the repository.
        trust_remote_code: run the repository's own Python code.

    Raises:
        CheckpointLoadError: there is none, it is empty, it needs code of its own, or its class changes ids; the message
            names the class.

    Examples:
        >>> read_tokenizer("suites/tiny-pythia/main")("The author")["input_ids"]  # doctest: +SKIP
        [54, 301]
    """
    from transformers import AutoTokenizer

    name = f"{source}@{revision}" if revision else source
    source, revision = _with_tokenizer(source, revision)
    from_hub = not expanded(source).is_dir()
    place: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    if (folder := expanded(source)).is_dir():
        source, place["local_files_only"] = str(folder), True

    # Open it as transformers does
    path = tokenizer_file(source, revision)
    tokenizer: PreTrainedTokenizerBase | None = None
    try:
        with hub_or_cache() if from_hub else nullcontext():
            tokenizer = AutoTokenizer.from_pretrained(source, **place)
    except Exception as error:  # transformers raises many kinds of errors for missing and damaged files
        if refusal := own_code_refusal(name, error):
            raise CheckpointLoadError(refusal) from error
        if path is None or not _is_fast(path):
            unreachable = why_unreachable() if from_hub else None
            raise CheckpointLoadError(unreachable or reason(error)) from error

    # Compare it with tokenizer.json; a class of the repository's own may do what it likes
    own_class = tokenizer is not None and type(tokenizer).__module__.startswith("transformers_modules")
    if path is not None and not own_class:
        tokenizer = _as_in_file(tokenizer, path, source, place, name)

    # If the files are missing, transformers silently makes an empty tokenizer of the model's class
    if tokenizer is None or set(tokenizer.get_vocab()) <= set(tokenizer.get_added_vocab()):
        raise CheckpointLoadError("its vocabulary is empty")
    check_known_ids(tokenizer, name)
    return tokenizer


def tokenizer_file(source: str, revision: str | None = None) -> Path | None:
    """The path of a checkpoint's ``tokenizer.json`` on this machine, or None if it has none."""
    from transformers.utils.hub import cached_file

    folder = expanded(source)
    if folder.is_dir():
        return folder / FILE if (folder / FILE).is_file() else None
    try:
        with hub_or_cache():
            path = cached_file(
                source,
                FILE,
                revision=revision,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
    except OSError:
        return None
    return None if path is None else Path(path)


def _with_tokenizer(source: str, revision: str | None) -> tuple[str, str | None]:
    """Where the tokenizer of a place is: there, or with the base model of an adapter that has none."""
    adapter = find_adapter(source, revision)
    if adapter is None or tokenizer_file(source, revision) is not None:
        return source, revision
    if (expanded(source) / "tokenizer_config.json").is_file():
        return source, revision
    return adapter.base, adapter.base_revision


def _as_in_file(
    tokenizer: PreTrainedTokenizerBase | None,
    path: Path,
    source: str,
    place: dict[str, Any],
    name: str,
) -> PreTrainedTokenizerBase | None:
    """The tokenizer if it has the rules of a ``tokenizer.json``, or else one that is opened from this file.

    Raises:
        CheckpointLoadError: the file is damaged, or ids differ in spite of it.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    try:
        in_file = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself
        raise CheckpointLoadError(f"{FILE} cannot be read: {reason(error)}") from error

    if tokenizer is None or not _has_rules_of(tokenizer, in_file):
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(source, **place)
        except Exception as error:  # transformers raises many kinds of errors for damaged files
            raise CheckpointLoadError(reason(error)) from error
    if (probe := _difference(tokenizer, in_file)) is not None:
        raise CheckpointLoadError(_changed(name, tokenizer, probe))
    return tokenizer


def _has_rules_of(tokenizer: PreTrainedTokenizerBase, in_file: Tokenizer) -> bool:
    """Whether a tokenizer's rules are those of a file, part for part."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return False
    rules, expected = json.loads(backend.to_str()), json.loads(in_file.to_str())
    return all(rules.get(part) == expected.get(part) for part in _RULES)


def _difference(tokenizer: PreTrainedTokenizerBase, in_file: Tokenizer) -> str | None:
    """The first probe of which a tokenizer makes other ids than the file; None if there is none.

    Tokens that tokenizer_config.json adds to those of the file are left out of the comparison: a probe that has one is
    not expected to agree.
    """
    added = set(tokenizer.get_added_vocab()) - {token.content for token in in_file.get_added_tokens_decoder().values()}
    for probe in PROBES:
        if any(token and token in probe for token in added):
            continue
        ids = tokenizer(probe, add_special_tokens=False, verbose=False)["input_ids"]
        if list(ids) != in_file.encode(probe, add_special_tokens=False).ids:
            return probe
    return None


def _changed(name: str, tokenizer: PreTrainedTokenizerBase, probe: str) -> str:
    return (
        f"{type(tokenizer).__name__}, the class with which transformers opens the tokenizer of {name}, changes token "
        f"ids: those of {probe!r} are not those of {FILE}"
    )


def _is_fast(path: Path) -> bool:
    """Whether a file is a tokenizer that can be opened by itself."""
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_file(str(path))
    except Exception:  # tokenizers raises Exception itself
        return False
    return True
