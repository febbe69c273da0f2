"""What requests to a language model will cost, before they are sent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crosstime.errors import EndpointError

BYTES_PER_TOKEN, TOKENS_PER_MESSAGE = 4, 4
"""Bytes of UTF-8 in a token of text on average, and the tokens that the form of a chat adds to every message."""
REPLY_TOKENS = 150
"""Tokens of a reply of the form that is asked for; a model that reasons first writes many more."""


@dataclass(frozen=True)
class TokenPrices:
    """Prices of a million tokens, in any currency.

    Attributes:
        read: price of a million tokens that the model reads.
        written: price of a million tokens that it writes.

    Raises:
        EndpointError: a price is negative or not finite.
    """

    read: float | int
    written: float | int

    def __post_init__(self) -> None:
        for price in (self.read, self.written):
            if not 0 <= price < float("inf"):
                raise EndpointError(f"the price of a million tokens is a number from 0 on, not {price}")


@dataclass(frozen=True)
class RequestCost:
    """An estimate of what requests cost.

    Attributes:
        requests: number of requests.
        read: tokens that the model reads.
        written: tokens that it writes.
        price: in the currency of the prices; None if they are not known.
    """

    requests: int
    read: int
    written: int
    price: float | None = None

    def __str__(self) -> str:
        price = "" if self.price is None else f", price about {self.price:,.4g}"
        return f"{self.requests:,} requests, about {self.read:,} tokens to read and {self.written:,} to write{price}"


def request_cost(
    requests: Iterable[Mapping[str, Any]], prices: TokenPrices | None = None, *, reply_tokens: int = REPLY_TOKENS
) -> RequestCost:
    """Estimate the tokens and the price of requests.

    ::

        tokens read    = sum over messages of (4 + ceil(bytes of UTF-8 / 4))
        tokens written = 150 for each request

    A tokenizer gives the exact number; for text in Latin letters the estimate is within some tens of percent.

    Args:
        requests: rows with ``messages``, such as those of `write_description_requests`.
        prices: of a million tokens.
        reply_tokens: tokens of one reply.

    Examples:
        >>> requests = [{"messages": [{"role": "user", "content": "eight by"}]}]
        >>> str(request_cost(requests, TokenPrices(2, 10)))
        '1 requests, about 6 tokens to read and 150 to write, price about 0.001512'
    """
    n, read = 0, 0
    for request in requests:
        n += 1
        read += sum(_tokens(message["content"]) for message in _messages(request))
    reply_total = n * reply_tokens
    price = None if prices is None else (read * prices.read + reply_total * prices.written) / 1e6
    return RequestCost(n, read, reply_total, price)


def _messages(request: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    messages: Sequence[Mapping[str, str]] = request["messages"]
    return messages


def _tokens(text: str) -> int:
    return TOKENS_PER_MESSAGE + math.ceil(len(text.encode()) / BYTES_PER_TOKEN)
