"""``crosstime evolve`` on a small trained suite."""

from __future__ import annotations

from typer.testing import CliRunner

from crosstime.cli.main import app
from tasks.agreement import sentences

TEXT = list(sentences(300, seed=1))


def test_the_command_line_writes_every_table(learning_suite, learning_crosscoder, tmp_path):
    learning_crosscoder.save(tmp_path / "mine.safetensors")
    text = tmp_path / "text.txt"
    text.write_text("\n".join(TEXT))
    folder = str(next(iter(learning_suite)).source).rpartition("/")[0]
    arguments = ["evolve", folder, str(tmp_path / "mine.safetensors"), "agreement/attractor", "-n", "6"]
    arguments += ["--text", str(text), "--sequences", "6", "--length", "12"]
    arguments += ["--dip", "step10,step40", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"evolution.csv", "life_cycles.csv", "scaling.csv", "dip_agreement_attractor.csv", "facts.csv"} <= names
    assert "life cycle" in result.output
    assert "test of presence" in result.output
    assert "undecided" in result.output
    assert "Decoder directions" in result.output


def test_the_command_line_refuses_what_it_cannot_read(learning_suite, learning_crosscoder, tmp_path):
    learning_crosscoder.save(tmp_path / "mine.safetensors")
    arguments = ["evolve", "nowhere", str(tmp_path / "mine.safetensors"), "agreement/attractor"]
    for extra, sentence in (
        (["--dip", "step10"], "two checkpoints with a comma between"),
        (["--language", "en"], "NAME=FILE"),
    ):
        result = CliRunner().invoke(app, arguments + extra)
        assert sentence in str(result.exception)
