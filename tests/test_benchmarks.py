"""The naive implementations agree with `interventions`; command line and files are as documented."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks import limit, naive, registry  # noqa: E402
from benchmarks.cases import ablation, accuracy, attribution, checkpoints  # noqa: E402
from benchmarks.memory import Footprint  # noqa: E402
from benchmarks.page import page  # noqa: E402
from benchmarks.result import Result, Row  # noqa: E402
from benchmarks.setting import TINY, Setting, build  # noqa: E402
from interventions import Sequences, fetch, log_likelihoods, score  # noqa: E402

CPU = torch.device("cpu")
ROW = {"case", "metric", "ours", "other", "other_name", "ratio", "target", "met"}


@pytest.fixture(scope="module")
def setting() -> Setting:
    return build(TINY, CPU)


@pytest.fixture(scope="module")
def dictionary(setting) -> naive.Dictionary:
    return naive.Dictionary.of(setting.crosscoder, torch.empty(0))


def modules_of(setting: Setting) -> list[torch.nn.Module]:
    return [model.module for model in setting.models]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command_line = [sys.executable, "-m", "benchmarks", *arguments]
    environment = os.environ | {"NO_COLOR": "1"}
    return subprocess.run(command_line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_naive_integrated_gradients_are_those_of_interventions(setting, dictionary):
    layer, budget = setting.site.layer, TINY.max_tokens
    theirs = naive.attribute(modules_of(setting), dictionary, setting.prompts, layer, max_tokens=budget, steps=10)
    for mine, other in zip(attribution.ours(setting, "left", 10), theirs, strict=True):
        assert other.feature.abs().max() > 1e-4
        torch.testing.assert_close(mine.per_feature(), other.feature, rtol=1e-4, atol=1e-6)
        total = mine.error.double().index_add(0, mine.prompt, mine.value.double())
        torch.testing.assert_close(total, other.total, rtol=1e-4, atol=1e-5)


def test_naive_ablations_are_those_of_interventions(setting, dictionary):
    effects = attribution.ours(setting)[0].per_feature()
    features = effects.abs().topk(3).indices.tolist()
    layer = setting.site.layer
    theirs = naive.ablate(modules_of(setting), dictionary, setting.prompts, layer, features, max_tokens=TINY.max_tokens)
    assert theirs.abs().max() > 1e-3
    torch.testing.assert_close(ablation.ours(setting, features), theirs, rtol=0, atol=1e-5)


def test_the_bare_hook_reads_what_fetch_reads(setting):
    model, site = setting.models[0], setting.site
    bare = naive.fetch(model.module, setting.prompts, site.layer, max_tokens=TINY.max_tokens)
    torch.testing.assert_close(bare, fetch(model, setting.prompts, [site])[site], rtol=0, atol=1e-6)


def test_prompts_one_by_one_score_as_in_batches(setting):
    module, prompts = setting.models[0].module, setting.prompts
    torch.testing.assert_close(accuracy.metrics(module, prompts), score(setting.models[0], prompts), rtol=0, atol=1e-5)
    sentences = Sequences(prompts.ids)
    actual = log_likelihoods(setting.models[0], sentences).float()
    assert actual.max() < -1
    torch.testing.assert_close(accuracy.likelihoods(module, sentences), actual, rtol=0, atol=1e-4)


def test_the_naive_metric_is_that_of_an_unpadded_prompt(setting):
    model, prompts = setting.models[0], setting.prompts
    expected = []
    for ids, right, wrong in zip(prompts.ids, prompts.right, prompts.wrong, strict=True):
        last = model.module(torch.tensor([ids])).logits[0, -1]
        expected.append(last[wrong] - last[right])
    actual = torch.zeros(len(prompts))
    for batch in naive.padded(prompts, TINY.max_tokens, CPU):
        assert batch.ids.numel() <= TINY.max_tokens
        actual[batch.rows] = naive.activations(model.module, batch, 1)[1]
    torch.testing.assert_close(actual, torch.stack(expected), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actual, score(model, prompts), rtol=1e-4, atol=1e-5)


def test_the_random_crosscoder_fires_as_often_as_asked(setting):
    codes = setting.crosscoder.decompose(setting.activations())[0].codes
    assert len(codes.value) / codes.n_tokens == pytest.approx(TINY.active, rel=0.05)
    assert setting.crosscoder.b_dec.norm(dim=-1).min() > 1


@pytest.mark.parametrize(
    ("row", "ratio", "met"),
    [
        (Row.less("case", "seconds", 2.0, 8.0, "naive", target=3), 4.0, True),
        (Row.less("case", "seconds", 4.0, 8.0, "naive", target=3), 2.0, False),
        (Row.less("case", "seconds", 4.0, 8.0, "naive"), 2.0, None),
        (Row.more("case", "tokens/s", 9.0, 10.0, "bare", target=0.9), 0.9, True),
        (Row.more("case", "tokens/s", 8.0, 10.0, "bare", target=0.9), 0.8, False),
        (Row.within("case", "difference", 2e-4, 1e-4), 0.5, False),
        (Row.within("case", "difference", 0.0, 1e-4), None, True),
    ],
)
def test_a_ratio_above_one_says_that_ours_is_better(row, ratio, met):
    assert row.ratio == (None if ratio is None else pytest.approx(ratio))
    assert row.met is met


def test_a_quick_result_keeps_the_limits_and_drops_the_targets():
    rows = (Row.less("case", "seconds", 4.0, 8.0, "naive", target=3), Row.within("case", "difference", 1.0, 0.5))
    speed, limit = Result("attribution", "cpu", {}, rows).without_targets().rows
    assert (speed.target, speed.met, speed.ratio) == (None, None, 2.0)
    assert (limit.target, limit.met) == (1.0, False)


def test_every_benchmark_file_is_found_and_has_its_function():
    files = {path.stem for path in (ROOT / "benchmarks" / "cases").glob("*.py")} - {"__init__"}
    assert set(registry.names()) == files >= {"ablation", "accuracy", "attribution", "checkpoints", "fetch"}
    assert all(callable(registry.load(name).benchmark) for name in registry.names())
    assert registry.load("effects-quality") is registry.load("effects_quality")


def test_a_run_of_one_benchmark_writes_its_json(tmp_path, monkeypatch):
    monkeypatch.setattr(attribution, "sizes_for", lambda device, quick: [TINY])
    monkeypatch.setattr(attribution, "footprint", lambda way, *_: Footprint(0, 1 << 20, 0.1, None))
    monkeypatch.setattr(limit, "gemm_rate", lambda *_: 1e9)
    path = attribution.benchmark(True, CPU).write(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["attribution-cpu.json"]
    actual = json.loads(path.read_text())
    assert set(actual) == {"benchmark", "device", "versions", "sizes", "rows"}
    assert (actual["benchmark"], actual["device"]) == ("attribution", "cpu")
    assert actual["sizes"]["features"] == TINY.features
    assert actual["versions"]["torch"] == torch.__version__
    assert actual["rows"]
    assert all(set(row) == ROW for row in actual["rows"])
    assert [row["met"] for row in actual["rows"] if row["other_name"] == "limit"] == [True]


def test_what_a_result_holds_is_counted_once_a_storage():
    tensor = torch.zeros(10)
    assert checkpoints.held((tensor, [tensor[2:], {"not": "looked into"}])) == 40


def test_an_unknown_benchmark_ends_with_code_2_and_the_nearest_name():
    done = command("atribution")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "benchmarks: there is no benchmark 'atribution': did you mean 'attribution'? "
        f"Allowed: {', '.join(registry.names())}."
    )


def test_help_names_the_options():
    done = command("--help")
    assert done.returncode == 0
    for option in ("--quick", "--json", "--profile"):
        assert option in done.stdout


def test_the_page_of_benchmarks_is_made_from_the_results_committed():
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == page()


def test_the_page_says_what_was_missed(tmp_path):
    rows = (Row.less("case", "seconds", 2.0, 8.0, "naive", target=5), Row.alone("case", "MB", 3.0))
    Result("fetch", "cpu", {"prompts": 4}, rows).write(tmp_path)
    text = page(tmp_path)
    assert "| case | seconds | 2 | 8 | naive | 4 | 5 | **missed** |" in text
    assert "| case | MB | 3 |  |  |  |  |  |" in text
    assert "prompts 4. torch" in text
