"""The examples run as they are written, and their pictures are there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_agreement_is_attributed_to_features_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("example", EXAMPLES / "when_does_agreement_emerge.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    attribution = example.main(tmp_path)
    assert attribution.revisions == ("step0", "step32", "step96")
    assert max(attribution.completeness().values()) < 0.05
    for name in ("accuracy", "effects", "ternary"):
        for kind in ("svg", "png", "pdf"):
            assert (tmp_path / f"{name}.{kind}").stat().st_size > 1000
    assert "class_ie" in capsys.readouterr().out
    shown = attribution._repr_html_()
    assert "<table" in shown
