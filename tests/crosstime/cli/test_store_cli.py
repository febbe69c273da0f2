"""The verbs harvest, evaluate and convert: what they write, what they say, and how they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from crosstime.activations.estimate_scales import estimate_scales
from crosstime.activations.store import ActivationStore
from crosstime.cli.main import main
from crosstime.crosscoders import exchange
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.evaluate import evaluate
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from interventions import Site
from tasks.agreement import sentences

TEXT = list(sentences(60, seed=5))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A working folder with a text."""
    (tmp_path / "text.txt").write_text("\n".join(TEXT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def works(monkeypatch, capsys, *arguments: str) -> str:
    """What the command prints; it must end well."""
    monkeypatch.setattr("sys.argv", ["crosstime", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as done:
        main()
    assert not done.value.code
    return capsys.readouterr().out


def refused(monkeypatch, capsys, *arguments: str) -> str:
    """The sentence that the command ends with."""
    monkeypatch.setattr("sys.argv", ["crosstime", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def of(suite: Suite) -> str:
    return str(Path(suite.checkpoints[0].source).parent)


def test_harvest_writes_a_store_and_says_what_is_in_it(brief_suite: Suite, folder: Path, opened, monkeypatch, capsys):
    options = ("--site", "mlp.1", "--length", "8", "--tokens", "210", "--shard-tokens", "100", "-r", "step6,step0")
    output = works(monkeypatch, capsys, "harvest", of(brief_suite), "text.txt", "store", *options)
    store = ActivationStore.open("store")
    assert (store.n_tokens, store.revisions, str(store.site)) == (210, ("step6", "step0"), "mlp.1")
    assert "Activations at mlp.1 of mine" in output
    assert f"{store.scales[0].item():.4g}" in output
    assert store.manifest["text"]["source"] == "text.txt"
    assert "asked for" not in output
    output = works(
        monkeypatch, capsys, "harvest", of(brief_suite), "text.txt", "all", "--length", "8", "--tokens", "9999"
    )
    assert "the text has no more: 9,999 tokens were asked for" in output
    line = refused(
        monkeypatch, capsys, "harvest", of(brief_suite), "text.txt", "store", "--site", "mlp.1", "--length", "9"
    )
    assert line.startswith("crosstime: STORE: the store store was made with other settings: revisions was")


def test_evaluate_averages_over_crosscoders(
    learning_suite: Suite, learning_crosscoder: CrossCoder, folder: Path, opened, monkeypatch, capsys
):
    learning_crosscoder.save("one.safetensors")
    exchange.write(learning_crosscoder, "two", format="ctt")
    size = ("--sequences", "6", "--length", "12")
    output = works(
        monkeypatch, capsys, "evaluate", of(learning_suite), "text.txt", "one.safetensors", "two", *size, "-o", "out"
    )
    expected = evaluate(learning_suite, learning_crosscoder, TEXT, sample=TextSample(6, 12))
    evaluation = pd.read_csv("out/evaluation.csv")
    assert len(evaluation) == 6
    for half in (evaluation[:3], evaluation[3:]):
        measures = half.drop(columns="seed").reset_index(drop=True)
        pd.testing.assert_frame_equal(measures, expected, rtol=1e-4, atol=1e-5)
    means = json.loads(Path("out/evaluation.json").read_text())
    assert [row["revision"] for row in means] == list(learning_suite.revisions)
    assert means[2]["seeds"] == 2
    assert means[2]["ce_clean"] == pytest.approx(expected.ce_clean[2])
    assert means[2]["ce_clean_deviation"] == pytest.approx(0, abs=1e-6)
    assert "Mean ± deviation over 2 seeds" in output
    assert f"{expected.ce_clean[2]:.3f} ± 0.000" in output


def test_convert_goes_to_another_format_and_back(learning_crosscoder: CrossCoder, folder: Path, monkeypatch, capsys):
    learning_crosscoder.save("mine.safetensors")
    output = works(monkeypatch, capsys, "convert", "mine.safetensors", "theirs", "--to", "finetuning")
    assert output == "wrote theirs: 24 features (relu) of step0, step10, step40 at resid.0\n"
    works(monkeypatch, capsys, "convert", "theirs", "again.safetensors", "--revisions", "a,b,c", "--site", "attn.1")
    again = CrossCoder.load("again.safetensors")
    assert (again.origin.revisions, str(again.origin.site)) == (("a", "b", "c"), "attn.1")
    for name in ("W_enc", "W_dec", "b_enc", "b_dec", "scales"):
        assert getattr(again, name).equal(getattr(learning_crosscoder, name))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convert", "gone", "there"), "FROM: there is no crosscoder at gone"),
        (("convert", "text.txt", "there", "--scales", "1,two"), "--scales takes numbers separated by commas"),
        (("convert", "text.txt", "there", "--from", "cct"), "--from: there is no format 'cct': did you mean 'ctt'"),
    ],
)
def test_mistakes_end_in_one_sentence(folder: Path, monkeypatch, capsys, arguments: tuple[str, ...], message: str):
    assert refused(monkeypatch, capsys, *arguments).startswith(f"crosstime: {message}")
    assert not (folder / "there").exists()


def without_scales(crosscoder: CrossCoder, folder: Path) -> None:
    """A file of Crosscoding Through Time that lacks the scales."""
    exchange.write(crosscoder, folder, format="ctt")
    config = json.loads((folder / "0_cfg.json").read_text())
    (folder / "0_cfg.json").write_text(json.dumps(config | {"estimated_act_norm_list": None}))


def test_convert_estimates_the_scales_that_a_file_does_not_keep(
    learning_suite: Suite, learning_crosscoder: CrossCoder, folder: Path, opened, monkeypatch, capsys
):
    without_scales(learning_crosscoder, folder / "theirs")
    line = refused(monkeypatch, capsys, "convert", "theirs", "mine")
    assert "does not keep the scales s_c (estimated_act_norm_list in theirs/0_cfg.json)" in line
    assert opened == []
    source = ("--scales-from", of(learning_suite), "--corpus", "text.txt", "--sequences", "6", "--length", "12")
    output = works(monkeypatch, capsys, "convert", "theirs", "mine", *source)
    scales = estimate_scales(learning_suite, Site(0), TEXT, TextSample(6, 12))
    mine = CrossCoder.load("mine")
    assert mine.scales.tolist() == pytest.approx(scales.tolist())
    assert f"scales: {scales[0]:.6g}, " in output
    assert mine.origin.training[exchange.SCALES_NOTE].endswith("on text.txt, 6 sequences of 12 tokens")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scales", "1,1,1", "--scales-from", "x", "--corpus", "text.txt"), "scales are either given with --scales"),
        (("--scales-from", "x"), "scales are either given with --scales, or estimated with"),
        (("--corpus", "text.txt"), "scales are either given with --scales, or estimated with"),
        (("--scales", "1,2"), "theirs/0.pt: 3 checkpoints need as many positive scales"),
        (("--scales-from", "gone", "--corpus", "text.txt"), "cannot"),
    ],
)
def test_scales_that_cannot_be_had_leave_nothing(
    learning_crosscoder: CrossCoder, folder: Path, opened, monkeypatch, capsys, arguments, message: str
):
    without_scales(learning_crosscoder, folder / "theirs")
    line = refused(monkeypatch, capsys, "convert", "theirs", "mine", *arguments)
    assert message in line
    assert opened == []
    assert not (folder / "mine").exists()


def test_evaluate_takes_scales(
    learning_suite: Suite, learning_crosscoder: CrossCoder, folder: Path, opened, monkeypatch, capsys
):
    without_scales(learning_crosscoder, folder / "theirs")
    arguments = (
        "evaluate",
        of(learning_suite),
        "text.txt",
        "theirs",
        "--sequences",
        "6",
        "--length",
        "12",
        "-o",
        "out",
    )
    assert "does not keep the scales" in refused(monkeypatch, capsys, *arguments)
    assert opened == []
    scales = ",".join(map(str, learning_crosscoder.scales.tolist()))
    works(monkeypatch, capsys, *arguments, "--scales", scales)
    expected = evaluate(learning_suite, learning_crosscoder, TEXT, sample=TextSample(6, 12))
    assert pd.read_csv("out/evaluation.csv").error.tolist() == pytest.approx(expected.error.tolist(), rel=1e-4)
