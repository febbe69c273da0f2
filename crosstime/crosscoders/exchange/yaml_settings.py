"""A configuration in YAML, read without running or making anything that it names."""

from __future__ import annotations

from pathlib import Path

import yaml

from crosstime.crosscoders.exchange.settings import Settings
from crosstime.errors import CrosscoderError
from user_input.reason import reason

MAX_BYTES = 1 << 20
"""A configuration is small; anchors of a larger file could multiply to any size."""


class _PlainLoader(yaml.SafeLoader):
    """Reads mappings, lists, strings and numbers; tuples become lists, and other objects of Python None."""


_PlainLoader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: loader.construct_sequence(node, deep=True)
)
_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def read_yaml(path: Path) -> Settings:
    """Read a YAML file.

    Raises:
        CrosscoderError: the file is missing or damaged, or does not hold a mapping with names as keys.

    Examples:
        >>> read_yaml(Path("model_cfg.yaml")).integer("n_models")  # doctest: +SKIP
        2
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CrosscoderError(f"{path} has more than a megabyte, and is no configuration")
        text = path.read_text(encoding="utf-8-sig")
        if "&" in text and "*" in text:
            # Aliases can refer to themselves, and are not needed
            raise CrosscoderError(f"{path} has anchors and aliases, which no configuration of this format has")
        value = yaml.load(text, Loader=_PlainLoader)  # a subclass of SafeLoader
    except OSError as error:
        raise CrosscoderError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CrosscoderError(f"{path} is not valid YAML: {reason(error)}") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise CrosscoderError(f"{path} must hold a mapping of names, not a {type(value).__name__}")
    return Settings(str(path), value)
