"""Crosscoders on the Hugging Face Hub: a repository with the weights, a readable configuration and a model card."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import ModelCard, PyTorchModelHubMixin

from crosstime.errors import CrosscoderError
from crosstime.machine.storage import write_json
from crosstime.suites.hub_errors import hub_errors
from user_input.home import expanded
from user_input.hub_reach import hub_or_cache, why_unreachable
from user_input.reason import reason

WEIGHTS, CONFIGURATION = "model.safetensors", "config.json"

Module = TypeVar("Module", bound="OnHub")

_CARD = """---
library_name: crosstime
tags:
- crosscoder
- interpretability
---

# Crosscoder of {suite} at {site}

{n_features:,} features ({activation}) of the checkpoints {revisions}, width {d_model:,}.

```python
import crosstime as ct

crosscoder = ct.CrossCoder.from_pretrained("ORG/NAME")
```
"""


class OnHub(PyTorchModelHubMixin):
    """`save_pretrained`, `push_to_hub` and `from_pretrained` for a crosscoder.

    ``model.safetensors`` is the file that `CrossCoder.save` writes, and the only one that is read. ``config.json``
    describes the crosscoder for people and for the Hub.

    Examples:
        >>> crosscoder.push_to_hub("ORG/NAME", private=True)  # doctest: +SKIP
        >>> CrossCoder.from_pretrained("ORG/NAME", revision="main")  # doctest: +SKIP
    """

    def save(self, path: str | Path) -> None:
        """Write the crosscoder to one file; the class that uses this mixin does it."""
        raise NotImplementedError

    @classmethod
    def load(cls: type[Module], path: str | Path) -> Module:
        """Read what `save` wrote; the class that uses this mixin does it."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """The crosscoder described in plain values; the class that uses this mixin does it."""
        raise NotImplementedError

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory / WEIGHTS)
        write_json(save_directory / CONFIGURATION, self.facts())

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the file describes the model, so there are no **model_kwargs
        cls: type[Module],
        source: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> Module:
        """Load a crosscoder from a folder that `save_pretrained` wrote, or from a repository on the Hub.

        Args:
            source: the folder, or the id of the repository.
            revision: branch, tag or commit of the repository.
            cache_dir, token, force_download, local_files_only: as for `huggingface_hub.hf_hub_download`; with
                ``local_files_only`` the Hub is not contacted.

        Raises:
            CrosscoderError: there is no such folder or repository, or it does not hold a crosscoder.

        Examples:
            >>> CrossCoder.from_pretrained("ORG/NAME", local_files_only=True)  # doctest: +SKIP
        """
        folder = expanded(source)
        if folder.is_dir():
            return cls.load(folder / WEIGHTS)

        from huggingface_hub import hf_hub_download

        try:
            # The client tries a Hub that cannot be reached six times, and writes a line about each
            with nullcontext() if local_files_only else hub_or_cache():
                path = hf_hub_download(
                    str(source),
                    WEIGHTS,
                    revision=revision,
                    cache_dir=cache_dir,
                    token=token,
                    force_download=force_download,
                    local_files_only=local_files_only,
                )
        except hub_errors() as error:
            unreachable = None if local_files_only else why_unreachable()
            raise CrosscoderError(
                f"there is no folder {source}, and the Hub has no crosscoder {source}: {unreachable or reason(error)}"
            ) from error
        return cls.load(path)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The README of the repository: what the crosscoder is, and how to load it."""
        facts = self.facts()
        return ModelCard(_CARD.format(**facts | {"revisions": ", ".join(facts["revisions"])}))
