from __future__ import annotations

import traceback

import pytest

from user_input.reason import MAX_LENGTH, reason


def quoted() -> str:
    """A traceback as `traceback` formats it, of an error that was raised from another."""
    try:
        try:
            raise OSError("Error no file named model.safetensors.")
        except OSError as error:
            raise ValueError("cannot load") from error
    except ValueError:
        return traceback.format_exc()


def test_all_lines_of_a_message_are_one_line():
    error = OSError("no route to host.\n\n  Check   the cable\n or see 'https://example.org'.\n")
    assert reason(error) == "no route to host. Check the cable or see 'https://example.org'"


def test_quoted_tracebacks_keep_their_errors_and_lose_their_frames():
    error = ValueError(f"it failed. See the log:\n\n{quoted()}\nthat is all")
    assert reason(error) == (
        "it failed. See the log: OSError: Error no file named model.safetensors. ValueError: cannot load that is all"
    )


def test_what_transformers_writes_around_the_same_error_of_several_classes_is_left_out():
    classes = "(<class 'transformers.A'>, <class 'transformers.B'>)"
    tracebacks = "".join(f"while loading with {name}, an error is thrown:\n{quoted()}\n" for name in "AB")
    error = ValueError(
        f"Could not load model here with any of the following classes: {classes}. See the original errors:\n\n"
        f"{tracebacks}\n"
    )
    assert reason(error) == "OSError: Error no file named model.safetensors. ValueError: cannot load"


@pytest.mark.parametrize("error", [KeyError(), OSError(""), ValueError("\n \n")])
def test_an_error_without_a_message_is_called_by_its_class(error: Exception):
    assert reason(error) == type(error).__name__


def test_of_a_very_long_message_both_ends_are_kept():
    message = reason(ValueError("begin " + "x" * 3 * MAX_LENGTH + " end"))
    assert message.startswith("begin x")
    assert message.endswith("x end")
    assert len(message) < MAX_LENGTH + 10
