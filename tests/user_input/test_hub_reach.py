"""The Hub is asked once whether it can be reached, and its client does not try every file again."""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from crosstime.errors import CorpusError, SuiteError
from crosstime.suites.read_lines import read_lines
from crosstime.suites.suite import Suite
from interventions.adapter import find_adapter
from tasks import DataError, load
from user_input import hub_reach
from user_input.hub_reach import hub_or_cache, why_unreachable
from user_input.nearest import similar


@pytest.fixture
def closed_port(monkeypatch, tmp_path: Path):
    """An endpoint at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("an attempt is made again"))
    monkeypatch.setattr(hub_reach, "_answers", {})
    huggingface_hub.close_session()
    yield endpoint
    huggingface_hub.close_session()


def test_what_reads_from_an_unreachable_hub_says_so_at_once(closed_port: str, caplog):
    because = rf"the Hub at {closed_port} cannot be reached: .*[Cc]onnection"
    with caplog.at_level(logging.WARNING):
        suite = Suite.open("somebody/model", ["main"])
        with pytest.raises(SuiteError, match=because):
            suite.config("main")
        with pytest.raises(SuiteError, match=because):
            _ = suite.tokenizer
        assert find_adapter("somebody/model") is None
        with pytest.raises(CorpusError, match=because):
            next(iter(read_lines("hf:somebody/text")))
        with pytest.raises(DataError, match=because):
            load("blimp/wh_island")
    assert not [record for record in caplog.records if "etry" in record.getMessage()]
    assert not constants.HF_HUB_OFFLINE


def test_the_answer_holds_for_a_minute(closed_port: str, monkeypatch):
    first = why_unreachable()
    assert first is not None
    monkeypatch.setattr("huggingface_hub.get_session", lambda: pytest.fail("asked again"))
    assert why_unreachable() == first
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    with pytest.raises(pytest.fail.Exception, match="asked again"):
        why_unreachable()


def test_an_offline_client_is_not_asked(closed_port: str, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.get_session", lambda: pytest.fail("asked"))
    with hub_or_cache():
        assert constants.HF_HUB_OFFLINE
    assert why_unreachable() is None


def test_a_missing_file_is_not_answered_with_a_list_of_the_folder(tmp_path: Path):
    for name in ("letters.jsonl", "diary.jsonl", "pairs.jsonl"):
        (tmp_path / name).write_text("{}")
    for path, hint in (("pair.jsonl", "did you mean 'pairs.jsonl'?"), ("zebra", "check the path")):
        with pytest.raises(DataError) as caught:
            load(f"pairs/mine={tmp_path / path}")
        assert str(caught.value).endswith(hint)
        assert "diary" not in str(caught.value)
    with pytest.raises(DataError) as caught:
        load("pairs/zebra", tmp_path)
    assert "diary" not in str(caught.value)
    assert similar("x", []) == "check the path"
