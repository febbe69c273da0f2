"""Crosscoders on the Hugging Face Hub: a repository with the weights, a readable configuration and a card."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, PyTorchModelHubMixin

from crosstime.errors import CrosscoderError
from crosstime.machine.storage import write_json
from user_input.first_line import first_line

WEIGHTS, CONFIGURATION = "model.safetensors", "config.json"


class OnHub(PyTorchModelHubMixin):
    """`save_pretrained`, `push_to_hub` and `from_pretrained` of a crosscoder.

    ``model.safetensors`` is what `CrossCoder.save` writes and all that is read; ``config.json`` says the same of the
    crosscoder in words, for people and for the Hub.

    Examples:
        >>> crosscoder.push_to_hub("ORG/NAME", private=True)  # doctest: +SKIP
        >>> CrossCoder.from_pretrained("ORG/NAME", revision="main")  # doctest: +SKIP
    """

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory / WEIGHTS)
        write_json(save_directory / CONFIGURATION, self._facts())

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> OnHub:
        """Load a crosscoder from a folder of `save_pretrained`, or from a repository on the Hub.

        Args:
            source: the folder, or the repository's id.
            revision: branch, tag or commit of the repository.
            cache_dir, token, force_download, local_files_only: as `huggingface_hub.hf_hub_download` takes them; with
                ``local_files_only`` nothing is asked of the Hub.

        Raises:
            CrosscoderError: neither is there, or what is there is no crosscoder.

        Examples:
            >>> CrossCoder.from_pretrained("ORG/NAME", local_files_only=True)  # doctest: +SKIP
        """
        if Path(source).is_dir():
            return cls.load(Path(source) / WEIGHTS)
        from httpx import HTTPError
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HFValidationError

        try:
            path = hf_hub_download(
                str(source), WEIGHTS, revision=revision, cache_dir=cache_dir, token=token,
                force_download=force_download, local_files_only=local_files_only,
            )  # fmt: skip
        except (OSError, HFValidationError, HTTPError) as error:
            raise CrosscoderError(
                f"there is no folder {source}, and the Hub has no crosscoder {source}: {first_line(error)}"
            ) from error
        return cls.load(path)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The repository's README: what the crosscoder is, and how to load it."""
        facts = self._facts()
        return ModelCard(
            "---\nlibrary_name: crosstime\ntags:\n- crosscoder\n- interpretability\n---\n\n"
            f"# Crosscoder of {facts['suite']} at {facts['site']}\n\n"
            f"{facts['n_features']:,} features ({facts['activation']}) of the checkpoints "
            f"{', '.join(facts['revisions'])}, width {facts['d_model']:,}.\n\n"
            "```python\nimport crosstime as ct\n\ncrosscoder = ct.CrossCoder.from_pretrained(\"ORG/NAME\")\n```\n"
        )  # fmt: skip

    def _facts(self) -> dict[str, Any]:
        return asdict(self.origin) | {
            "site": str(self.origin.site), "activation": self.activation.name, "n_features": self.n_features,
            "settings": self.activation.settings(), "n_shared": self.n_shared, "scales": self.scales.tolist(),
        }  # fmt: skip
