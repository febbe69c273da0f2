"""A suite: one model at several moments of its pretraining, from a folder or from the Hub."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from huggingface_hub.errors import StrictDataclassError

from crosstime.errors import SuiteError
from crosstime.shown import Shown
from crosstime.suites.checkpoints import Checkpoint, choose, in_folder, in_repository, may_be_repository, unknown
from user_input.first_line import first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

_SAMPLES, _SAMPLE_BYTES = 16, 1 << 16


@dataclass(frozen=True, repr=False)
class Suite(Shown):
    """Checkpoints of one model, in a fixed order, that share a tokenizer and a shape.

    Opening one reads names only; configurations, and then the tokenizer, are read when first asked for,
    and weights never are.

    Attributes:
        name: short name for figures and folders.
        checkpoints: in the caller's order, else the order of training.
        tokenizer_source: where the tokenizer comes from when it is not the checkpoints' own.

    Examples:
        >>> suite = Suite.open("EleutherAI/pythia-1b", ["step512", "step4000", "main"])
        >>> suite["step512"].tokens
        1073741824
    """

    name: str
    checkpoints: tuple[Checkpoint, ...]
    tokenizer_source: str | None = None

    def __post_init__(self) -> None:
        if not self.checkpoints:
            raise SuiteError(f"suite {self.name!r} needs at least one checkpoint")
        seen: set[str] = set()
        for revision in self.revisions:
            if revision in seen:
                raise SuiteError(f"revision {revision!r} is given twice in suite {self.name!r}")
            seen.add(revision)

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str],
        revisions: Sequence[str] | None = None,
        *,
        name: str | None = None,
        tokens: Mapping[str, int] | None = None,
        tokens_per_step: int | None = None,
        tokenizer: str | os.PathLike[str] | None = None,
    ) -> Suite:
        """Open a suite from a local folder or a Hub repository.

        A folder has one sub-folder per revision, each readable by `from_pretrained`. Its ``suite.json``,
        where there is one, holds ``{"name": ..., "revisions": [{"revision": ..., "step": ..., "tokens":
        ...}, ...]}`` and says which sub-folders count; otherwise all with a ``config.json`` do. On the
        Hub a revision is a branch, tag or commit; one of another repository is written ``ORG/NAME@REVISION``
        (the last checkpoint of BLOOM lives in a repository of its own).

        Args:
            source: the folder, or the repository id. A folder of that name goes first.
            revisions: which, in this order; None takes all in order of training, which for a repository
                are ``main`` and the branches whose name tells a step or a token count (offline, of those in
                the Hub's local cache). With revisions given, nothing is asked of the Hub yet.
            name: name of the suite; else the one in ``suite.json``, else the last part of `source`.
            tokens: tokens seen, by revision, for names that do not tell (`crosstime.suites.revisions.progress`).
            tokens_per_step: tokens of one optimizer step, for names that tell only steps.
            tokenizer: folder or repository id of the tokenizer, for checkpoints that come without one.

        Raises:
            SuiteError: the folder is missing or holds no checkpoint, a revision is unknown or given twice,
                or the Hub cannot be reached for the list of revisions.
        """
        if revisions is not None:
            if isinstance(revisions, str):
                raise SuiteError(f"revisions must be a list of names, not the single string {revisions!r}")
            if not revisions:
                raise SuiteError(f"revisions of {os.fspath(source)!r} must not be an empty list")
        location = os.fspath(source)
        folder = Path(location).expanduser()
        if folder.is_dir():
            known, stored_name = in_folder(folder, tokens, tokens_per_step)
            chosen = choose(known, revisions, folder)
            default_name = stored_name or folder.resolve().name
        elif isinstance(source, Path) or not may_be_repository(location):
            raise SuiteError(f"there is no folder {location}, and it is not a Hub repository id (ORG/NAME)")
        else:
            chosen = in_repository(location, revisions, tokens, tokens_per_step)
            default_name = location.rpartition("/")[2]
        return cls(name or default_name, chosen, None if tokenizer is None else os.fspath(tokenizer))

    @property
    def revisions(self) -> tuple[str, ...]:
        """The checkpoints' names, in order."""
        return tuple(checkpoint.revision for checkpoint in self.checkpoints)

    def headline(self) -> str:
        """Its checkpoints."""
        return f"{self.name}, {len(self)} checkpoints: {', '.join(self.revisions)}"

    def tables(self) -> dict[str, pd.DataFrame]:
        """Steps and tokens of each checkpoint; nothing is read for it."""
        rows = [(one.revision, one.step, one.tokens, one.source) for one in self]
        table = pd.DataFrame(rows, columns=["revision", "step", "tokens", "source"])
        return {"checkpoints": table.astype({"step": "Int64", "tokens": "Int64"})}

    def __len__(self) -> int:
        return len(self.checkpoints)

    def __iter__(self) -> Iterator[Checkpoint]:
        return iter(self.checkpoints)

    def __getitem__(self, revision: str) -> Checkpoint:
        for checkpoint in self.checkpoints:
            if checkpoint.revision == revision:
                return checkpoint
        raise SuiteError(unknown(revision, f"suite {self.name!r}", self.revisions))

    def select(self, revisions: Sequence[str]) -> Suite:
        """The suite of these revisions only, in this order.

        Raises:
            SuiteError: a revision is unknown or given twice, or there is none.
        """
        chosen = replace(self, checkpoints=tuple(self[revision] for revision in revisions))
        # What was read of these checkpoints is not read again; a tokenizer that all share is that of some.
        known = {name: value for name, value in vars(self).items() if name in ("tokenizer", "_configs")}
        vars(chosen).update(known)
        return chosen

    def config(self, revision: str) -> PretrainedConfig:
        """The model configuration of a checkpoint, read once.

        Raises:
            SuiteError: the revision is unknown, or its configuration cannot be read.
        """
        checkpoint = self[revision]
        if revision not in self._configs:
            from transformers import AutoConfig

            self._configs[revision] = _load(AutoConfig, "configuration", checkpoint)
        return self._configs[revision]

    @property
    def d_model(self) -> int:
        """Width of the residual stream, the same at every checkpoint.

        Raises:
            SuiteError: two checkpoints differ; the sentence names them.
        """
        return self._agreed("hidden_size", "d_model")

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks, the same at every checkpoint.

        Raises:
            SuiteError: two checkpoints differ; the sentence names them.
        """
        return self._agreed("num_hidden_layers", "the number of layers")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The one tokenizer of the suite, padding on the left, with a pad token (eos where it had none).

        Every checkpoint's tokenizer is compared with the first one's by `tokenizer_hash`, since one
        prompt must be the same tokens for all; a tokenizer named on opening is taken as it is.

        Raises:
            SuiteError: a tokenizer is missing or differs (both revisions are named), or has no eos token.
        """
        from transformers import AutoTokenizer

        if self.tokenizer_source is not None:
            local = Path(self.tokenizer_source).expanduser().is_dir()
            origin = Checkpoint("tokenizer", None, None, self.tokenizer_source, None if local else "main")
            tokenizer = _load(AutoTokenizer, "tokenizer", origin)
        else:
            first, *others = self.checkpoints
            tokenizer = _load(AutoTokenizer, "tokenizer", first)
            expected = tokenizer_hash(tokenizer)
            for other in others:
                if tokenizer_hash(_load(AutoTokenizer, "tokenizer", other)) != expected:
                    raise SuiteError(
                        f"the tokenizers of revisions {first.revision!r} and {other.revision!r} of suite "
                        f"{self.name!r} differ: one suite needs one tokenizer, given as tokenizer=..."
                    )
        if tokenizer.pad_token is None:
            if tokenizer.eos_token is None:
                raise SuiteError(f"the tokenizer of suite {self.name!r} has neither a pad nor an eos token")
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "left"
        return tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with the revisions, their order, configurations and weights.

        For a folder the weight files' sizes and evenly spaced samples of their bytes stand for the
        weights, so a copied suite keeps its fingerprint and a retrained one does not. For the Hub the
        repository id and the commit do, so a branch that moves on does not keep it.
        """
        digest = hashlib.sha256()
        for checkpoint in self.checkpoints:
            read = self.config(checkpoint.revision)
            configuration = read.to_diff_dict()
            for volatile in ("transformers_version", "_name_or_path"):
                configuration.pop(volatile, None)
            digest.update(json.dumps([checkpoint.revision, configuration], sort_keys=True, default=str).encode())
            if checkpoint.hub_revision is None:
                for weights in sorted(Path(checkpoint.source).glob("*.safetensors")):
                    digest.update(_sample(weights))
            else:
                commit = getattr(read, "_commit_hash", None) or checkpoint.hub_revision
                digest.update(f"{checkpoint.source}@{commit}".encode())
        return digest.hexdigest()[:16]

    @cached_property
    def _configs(self) -> dict[str, PretrainedConfig]:
        return {}

    def _agreed(self, attribute: str, label: str) -> int:
        first, *others = self.revisions
        value = getattr(self.config(first).get_text_config(), attribute)
        for other in others:
            if (found := getattr(self.config(other).get_text_config(), attribute)) != value:
                raise SuiteError(
                    f"{label} differs between revisions of suite {self.name!r}: "
                    f"{value} at {first!r}, {found} at {other!r}"
                )
        return int(value)


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of everything that decides which ids a text becomes, and of its first and last token.

    That is the serialized backend of a fast tokenizer, or the vocabulary of a slow one; padding and
    truncation are left out.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rules: dict[str, Any] = {"vocabulary": tokenizer.get_vocab()}
    else:
        rules = json.loads(backend.to_str())
        rules.update(padding=None, truncation=None)
    content = json.dumps([rules, tokenizer.bos_token, tokenizer.eos_token], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


_UNREADABLE = (
    OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, ImportError, StrictDataclassError
)  # fmt: skip
"""What transformers raises at a file that is missing or damaged, recursion without end among it."""


def _load(loader: Any, what: str, checkpoint: Checkpoint) -> Any:
    try:
        loaded = loader.from_pretrained(checkpoint.source, **checkpoint.load_arguments)
        # Where the files are missing, transformers makes an empty tokenizer of the model's kind in silence.
        if what == "tokenizer" and set(loaded.get_vocab()) <= set(loaded.get_added_vocab()):
            raise ValueError("its vocabulary is empty")
        return loaded
    except _UNREADABLE as error:
        where, hint = checkpoint.source, "; name one with tokenizer=..." if what == "tokenizer" else ""
        if checkpoint.hub_revision is not None:
            where, hint = (
                f"{where}@{checkpoint.hub_revision} on the Hub",
                f"{hint}; check name and connection",
            )
        raise SuiteError(
            f"cannot read the {what} of revision {checkpoint.revision!r} from {where}: {first_line(error)}{hint}"
        ) from error


def _sample(path: Path) -> bytes:
    """Hash name, size and evenly spaced pieces: enough to tell training runs apart without reading it all."""
    size = path.stat().st_size
    digest = hashlib.sha256(f"{path.name} {size}".encode())
    with path.open("rb") as file:
        for piece in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE_BYTES) * piece // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.digest()
