from __future__ import annotations

import pytest

from crosstime.activations.data_config import DataConfig
from crosstime.errors import CrosscoderError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"sequence_length": 1}, "sequence_length must be at least 2 tokens, not 1"),
        ({"buffer_tokens": 0}, "buffer_tokens must be at least 1, not 0"),
        ({"buffer_dtype": "bf16"}, "no buffer_dtype 'bf16': did you mean 'bfloat16'"),
        ({"validation": 1.5}, r"validation is a fraction .* not 1\.5"),
    ],
)
def test_a_value_out_of_range_is_named(options: dict, message: str):
    with pytest.raises(CrosscoderError, match=message):
        DataConfig(**options)


def test_the_defaults_are_those_of_the_paper():
    assert (DataConfig().batch_size, DataConfig().sequence_length) == (4096, 1024)
