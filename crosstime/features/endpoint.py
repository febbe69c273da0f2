"""Where a language model is asked: the address of an OpenAI-compatible endpoint, and how it is used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from crosstime.errors import EndpointError

KEY_VARIABLE = "OPENAI_API_KEY"
"""The environment variable with the API key, unless another one is named."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible endpoint: a hosted service, or vLLM, llama.cpp, Ollama and others on a machine of your own.

    The API key is read from the environment when requests are sent. It is never part of this object, of a file, of a
    log or of a message.

    Attributes:
        url: its address, such as ``https://api.openai.com/v1``; requests go to ``URL/chat/completions``.
        model: name of the model, as the endpoint knows it.
        key_variable: the environment variable with the API key; without a value, requests have no key.
        concurrency: number of requests at the same time.
        attempts: how often a request is sent before its failure stops the work.
        timeout: seconds without a byte after which an attempt has failed.
        temperature: of the model's replies; None leaves the choice to the endpoint.

    Raises:
        EndpointError: a value that is not allowed, or an address with a user, a password or a query, which would be
            written to files and messages.

    Examples:
        >>> Endpoint("http://127.0.0.1:8000/v1/", "my-model").requests_url
        'http://127.0.0.1:8000/v1/chat/completions'
    """

    url: str
    model: str
    key_variable: str = KEY_VARIABLE
    concurrency: int = 4
    attempts: int = 5
    timeout: float | int = 120.0
    temperature: float | int | None = None

    def __post_init__(self) -> None:
        # The address is not quoted before it is known to hold no secret
        try:
            parts = urlsplit(self.url)
            secret = "@" in parts.netloc or parts.query or parts.fragment
            valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            secret, valid = None, None
        if secret:
            raise EndpointError(
                "the address of an endpoint has no user, password or query: the API key is read from the environment "
                f"variable {self.key_variable}"
            )
        if not valid:
            raise EndpointError("the address of an endpoint is such as https://HOST/v1 or http://127.0.0.1:8000/v1")

        # Numbers and names
        if not self.model.strip():
            raise EndpointError("an endpoint needs the name of a model")
        for name, least in (("concurrency", 1), ("attempts", 1)):
            if getattr(self, name) < least:
                raise EndpointError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 < self.timeout < float("inf"):
            raise EndpointError(f"timeout must be a positive number of seconds, not {self.timeout}")
        if self.temperature is not None and not 0 <= self.temperature < float("inf"):
            raise EndpointError(f"temperature must be at least 0, not {self.temperature}")

    @property
    def requests_url(self) -> str:
        """Where requests are sent."""
        return f"{self.url.rstrip('/')}/chat/completions"

    def key(self) -> str:
        """The API key, from the environment; empty if there is none.

        Raises:
            EndpointError: the variable holds what cannot be sent in a header; the sentence does not quote it.
        """
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise EndpointError(
                f"the environment variable {self.key_variable} holds no API key: it has other characters"
            )
        return key
