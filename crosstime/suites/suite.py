"""A suite: one model at several points of its pretraining, from a folder or from the Hub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from crosstime.display import Display
from crosstime.errors import SuiteError
from crosstime.suites.checkpoint_files import CheckpointFiles, known_weights
from crosstime.suites.checkpoints import (
    COLUMN_DTYPES,
    Checkpoint,
    check_steps,
    checkpoints_in_folder,
    checkpoints_in_repository,
    refuse_missing_suite,
    select_checkpoints,
    unknown_revision,
    warn_of_counts_that_start_again,
)
from crosstime.suites.equal_weights import EqualWeights, find_equal_weights
from crosstime.suites.named_models import named_models
from crosstime.suites.suite_tokenizer import suite_tokenizer
from crosstime.suites.text_start import check_text_start, start_tokens
from crosstime.suites.verify import (
    SHAPE,
    VOCABULARY,
    refuse_equal_weights,
    refuse_other_shapes,
    refuse_problems,
    refuse_small_vocabulary,
)
from crosstime.suites.weights import Weights, folder_state
from user_input.home import expanded

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, repr=False)
class Suite(Display):
    """Checkpoints of one model, in a fixed order, that share a tokenizer and a shape.

    Opening a suite reads only the names of its checkpoints. Configurations, the tokenizer and the digests of weight
    files are read when they are first needed: `verify` checks all of them before the first checkpoint is run.

    Attributes:
        name: short name for figures and folders.
        checkpoints: the checkpoints, in the order given by the caller, or else in the order of training.
        tokenizer_source: where the tokenizer comes from, if it is not that of the checkpoints.
        allow_equal_weights: whether two checkpoints may have the same weight files; results record which do.
        trust_remote_code: whether Python code that the checkpoints bring is run; results record it.
        text_start: how documents of text begin: as the tokenizer begins a text, or with nothing, its BOS or its EOS
            token; see `crosstime.suites.text_start`.
        ordered: whether the checkpoints are points of one training in order, rather than models side by side (`of`).

    Raises:
        SuiteError: there is no checkpoint, a revision occurs twice, or there is no such `text_start`.

    Examples:
        >>> suite = Suite.open("EleutherAI/pythia-1b", ["step512", "step4000", "main"])
        >>> suite["step512"].tokens
        1073741824
    """

    name: str
    checkpoints: tuple[Checkpoint, ...]
    tokenizer_source: str | PreTrainedTokenizerBase | None = None
    allow_equal_weights: bool = False
    trust_remote_code: bool = False
    text_start: str = "tokenizer"
    ordered: bool = True

    def __post_init__(self) -> None:
        check_text_start(self.text_start)
        if not self.checkpoints:
            raise SuiteError(f"suite {self.name!r} needs at least one checkpoint")
        distinct: set[str] = set()
        for revision in self.revisions:
            if revision in distinct:
                raise SuiteError(f"revision {revision!r} is given twice in suite {self.name!r}")
            distinct.add(revision)

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
        allow_equal_weights: bool = False,
        trust_remote_code: bool = False,
        text_start: str = "tokenizer",
    ) -> Suite:
        """Open a suite from a local folder or a Hub repository.

        A folder has one sub-folder for each revision, which `from_pretrained` can read. If it has a ``suite.json``,
        this file holds ``{"name": ..., "revisions": [{"revision": ..., "step": ..., "tokens": ...}, ...]}`` and says
        which sub-folders are checkpoints; otherwise all with a ``config.json`` are. On the Hub, a revision is a branch,
        tag or commit; a revision of another repository is written ``ORG/NAME@REVISION`` (the last checkpoint of BLOOM
        is in a repository of its own).

        Args:
            source: the folder, or the repository id. An existing folder takes precedence.
            revisions: the revisions, in this order. None takes all in the order of training; in a repository these are
                ``main`` and the branches whose name gives a step or a token count (offline, those in the local cache
                of the Hub); a warning names the others. If revisions are given, opening does not contact the Hub.
            name: name of the suite; by default the name in ``suite.json``, or else the last part of `source`.
            tokens: training tokens by revision, for names that do not give them
                (`crosstime.suites.revisions.training_progress`).
            tokens_per_step: training tokens of one optimizer step, for names that give only steps. Where a name gives
                tokens too, both must agree up to rounding.
            tokenizer: folder or repository id of the tokenizer, for checkpoints without one.
            allow_equal_weights: accept checkpoints that share weight files, which `verify` refuses otherwise.
            trust_remote_code: run the Python code that the checkpoints or the tokenizer bring (``auto_map``); without
                it, those that cannot be opened by transformers alone are refused.
            text_start: how documents of text begin: ``tokenizer`` (as the tokenizer begins a text), ``none``, ``bos``
                or ``eos``.

        Raises:
            SuiteError: the folder is missing or holds no checkpoint, a revision is unknown or given twice, or the Hub
                cannot be reached for the list of revisions or lists several of which none says how long it was
                trained; or `tokens_per_step` does not fit the names, or there is no such `text_start`.
        """
        # Check the revisions
        if revisions is not None:
            if isinstance(revisions, str):
                raise SuiteError(f"revisions must be a list of names, not the single string {revisions!r}")
            if not revisions:
                raise SuiteError(f"revisions of {os.fspath(source)!r} must not be an empty list")

        # Find the checkpoints
        location = os.fspath(source)
        folder = expanded(location)
        if folder.is_dir():
            in_folder, stored_name = checkpoints_in_folder(folder, tokens, tokens_per_step)
            checkpoints = select_checkpoints(in_folder, revisions, folder)
            default_name = stored_name or folder.resolve().name
        else:
            refuse_missing_suite(source)
            checkpoints = checkpoints_in_repository(location, revisions, tokens, tokens_per_step)
            default_name = location.rpartition("/")[2]

        # Check the counts
        check_steps(checkpoints, tokens_per_step, repr(location))
        warn_of_counts_that_start_again(checkpoints, repr(location))
        tokenizer_source = None if tokenizer is None else os.fspath(tokenizer)
        return cls(
            name or default_name, checkpoints, tokenizer_source, allow_equal_weights, trust_remote_code, text_start
        )

    @classmethod
    def of(
        cls,
        models: Mapping[str, str | os.PathLike[str] | PreTrainedModel],
        *,
        name: str | None = None,
        tokenizer: str | os.PathLike[str] | PreTrainedTokenizerBase | None = None,
        allow_equal_weights: bool = False,
        trust_remote_code: bool = False,
        text_start: str = "tokenizer",
    ) -> Suite:
        """A suite of models side by side, such as a base and a chat model, under names of your own.

        The models have the same architecture and sizes. Their vocabularies may differ by added tokens, such as those of
        a chat template: every text is then tokenized once, with the tokens that all share. Nothing about the suite
        depends on an order: the report speaks of models, and a feature is specific to some of them or shared, rather
        than emerging.

        Args:
            models: for each name a folder, a repository ``ORG/NAME`` or ``ORG/NAME@REVISION``, the folder or repository
                of a peft adapter, which is opened on the base model that its ``adapter_config.json`` names, or a model
                in memory: a `PreTrainedModel`, a `PeftModel`, or an nnsight `LanguageModel`. A model in memory is
                neither loaded again nor changed, and runs where and in the dtype in which it is.
            name: name of the suite; by default the names of the models.
            tokenizer: folder, repository id or tokenizer, instead of those of the models. Without it, models in memory
                are read with the tokenizer of the others.
            allow_equal_weights: accept two models with the same weights, which `verify` refuses otherwise.
            trust_remote_code: run the Python code that the models bring.
            text_start: see `open`.

        Raises:
            SuiteError: there is no model, one is neither of these, or a name cannot be used.
            InterventionError: a model in memory cannot be used.

        Examples:
            >>> suite = Suite.of({"base": "EleutherAI/pythia-160m", "chat": "ORG/pythia-160m-chat@main"})
            >>> suite.revisions
            ('base', 'chat')
        """
        checkpoints = named_models(models)
        source = os.fspath(tokenizer) if isinstance(tokenizer, str | os.PathLike) else tokenizer
        return cls(
            name or " ".join(models),
            checkpoints,
            source,
            allow_equal_weights,
            trust_remote_code,
            text_start,
            ordered=False,
        )

    @property
    def revisions(self) -> tuple[str, ...]:
        """The names of the checkpoints, in order."""
        return tuple(checkpoint.revision for checkpoint in self.checkpoints)

    def headline(self) -> str:
        """The name of the suite and its checkpoints."""
        noun = "checkpoints" if self.ordered else "models"
        return f"{self.name}, {len(self)} {noun}: {', '.join(self.revisions)}"

    def tables(self) -> dict[str, pd.DataFrame]:
        """Step, tokens and source of each checkpoint; no file is read for this."""
        import pandas as pd

        rows = [checkpoint.as_row() | {"source": checkpoint.source} for checkpoint in self]
        return {"checkpoints": pd.DataFrame(rows).astype(COLUMN_DTYPES)}

    def __len__(self) -> int:
        return len(self.checkpoints)

    def __iter__(self) -> Iterator[Checkpoint]:
        return iter(self.checkpoints)

    def __getitem__(self, revision: str) -> Checkpoint:
        for checkpoint in self.checkpoints:
            if checkpoint.revision == revision:
                return checkpoint
        raise SuiteError(unknown_revision(revision, f"suite {self.name!r}", self.revisions))

    def select(self, revisions: Sequence[str]) -> Suite:
        """The suite of the given revisions, in their order.

        Raises:
            SuiteError: a revision is unknown or given twice, or the list is empty.
        """
        selected = replace(self, checkpoints=tuple(self[revision] for revision in revisions))
        # Share what has been read, and what will be: the tokenizer of all checkpoints is also that of some.
        vars(selected)["_files"] = self._files
        if "tokenizer" in vars(self):
            vars(selected)["tokenizer"] = self.tokenizer
        return selected

    def config(self, revision: str) -> PretrainedConfig:
        """The model configuration of a checkpoint, read once.

        Raises:
            SuiteError: the revision is unknown, or its configuration cannot be read.
        """
        return self._files.config(self[revision])

    def weights(self, revision: str) -> Weights:
        """The weight files of a checkpoint with the SHA-256 of each, read once and again when a file has changed.

        Raises:
            SuiteError: the revision is unknown, or its weight files are missing, incomplete or cannot be read.
        """
        weights = self._files.weights([self[revision]])[revision]
        if isinstance(weights, SuiteError):
            raise SuiteError(str(weights))
        return weights

    def equal_weights(self) -> tuple[EqualWeights, ...]:
        """The groups of checkpoints that share weight files, byte for byte; those without known weights are left out.

        Examples:
            >>> print(*suite.equal_weights())  # doctest: +SKIP
            'step64' and 'step128' have the same weights, byte for byte (model.safetensors)
        """
        return find_equal_weights(self.checkpoints, known_weights(self._files.weights(self.checkpoints)))

    def verify(self, *, distinct: bool = False, weights_here: bool = True) -> None:
        """Check every checkpoint before the first is run; everything that runs a suite does, once for each suite.

        Each must have a configuration, a tokenizer and all of its weight files, complete as far as their size tells;
        type of model, sizes and tokenizer must be the same for all; and no two may share a weight file, byte for byte,
        since one of them then is not what its name says, unless the suite allows it. Two names of one step, such as
        ``main`` and ``step143000`` of Pythia, are only warned about.

        Args:
            distinct: also refuse two names of one step, as in a comparison of checkpoints.
            weights_here: whether the weights are loaded on this machine; those on a server are compared only as far as
                the Hub lists them, and may be missing here.

        Raises:
            SuiteError: names the revisions, the files and the reason.

        Examples:
            >>> Suite.open("suites/tiny-pythia").verify()  # doctest: +SKIP
        """
        options = (self.tokenizer_source, self.allow_equal_weights, self.trust_remote_code, distinct, weights_here)
        state = (self.checkpoints, options, tuple(map(folder_state, self.checkpoints)))
        if state in self._files.verified:
            return

        # Read configurations and weight files of all
        refuse_problems(self._files.problems(self.checkpoints, weights_here=weights_here), len(self), self.name)

        # Compare shapes and tokenizers
        configs = {revision: self.config(revision) for revision in self.revisions}
        refuse_other_shapes(configs, SHAPE, self.name)
        _ = self.tokenizer
        if self.ordered:
            refuse_other_shapes(configs, VOCABULARY, self.name)
        else:
            refuse_small_vocabulary(configs, self.tokenizer, self.name)

        # Compare weights
        if not self.allow_equal_weights:
            # A model that was trained further may have kept a shard of the one that it was made from
            groups = [group for group in self.equal_weights() if self.ordered or group.complete]
            refuse_equal_weights(groups, self.name, distinct=distinct)
        self._files.verified.add(state)

    @property
    def d_model(self) -> int:
        """Width of the residual stream, the same at every checkpoint.

        Raises:
            SuiteError: two checkpoints differ; the message names them.
        """
        return self._files.common_value(self.checkpoints, "hidden_size", "d_model", self.name)

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks, the same at every checkpoint.

        Raises:
            SuiteError: two checkpoints differ; the message names them.
        """
        return self._files.common_value(self.checkpoints, "num_hidden_layers", "the number of layers", self.name)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the suite, which pads on the left and has a pad token (EOS if it had none).

        The tokenizer of every checkpoint is compared with that of the first by `tokenizer_hash`, since a prompt must be
        the same tokens for all of them; the tokens of models side by side are those that all of them share
        (`shared_tokenizer`). A tokenizer that was named on opening is taken as it is.

        Raises:
            SuiteError: a tokenizer is missing or differs (the message names both revisions), or has no EOS token.
        """
        return suite_tokenizer(self.name, self.checkpoints, self.tokenizer_source, self.ordered, self.trust_remote_code)

    @property
    def start_tokens(self) -> tuple[int, ...]:
        """Ids of the tokens with which every document of a text begins; often none.

        Raises:
            SuiteError: there is no tokenizer, or it does not have the token that `text_start` needs.
        """
        return start_tokens(self.tokenizer, self.text_start)

    @property
    def fingerprint(self) -> str:
        """Hash of the revisions, their order, configurations and every byte of their weights, 16 hexadecimal digits.

        A copied suite keeps its fingerprint, and a retrained suite does not; nor does a Hub repository whose branch has
        moved to other weights. A folder without weight files, of a model that is in memory, has its configuration's.

        Raises:
            SuiteError: a configuration or a weight file cannot be read.
        """
        return self._files.fingerprint(self.checkpoints)

    @cached_property
    def _files(self) -> CheckpointFiles:
        return CheckpointFiles(trust_remote_code=self.trust_remote_code)
