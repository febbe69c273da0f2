"""The code of the README runs as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import crosstime as ct
import interventions as iv
from tasks.agreement import sentences

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/demo/suite like the demo's, but of a smaller model."""
    root = tmp_path_factory.mktemp("readme")
    config = ct.TinyConfig(
        d_model=32, n_layers=3, steps=256, checkpoints=(0, 64, 256), sequence_length=16, batch_tokens=256
    )
    text = sentences(4_000, seed=0, attractor_share=0.05)
    ct.train_tiny_suite(root / "runs" / "demo" / "suite", text, config)
    return root


def _python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.long
def test_python_of_the_readme_runs_as_written(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    blocks = _python_blocks()
    pretraining, diffing = blocks
    names: dict[str, object] = {}
    exec(compile(pretraining, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "agreement/attractor" in printed
    assert set(names["attribution"].table(names["top"]).revision) == {"step0", "step64", "step256"}
    assert len(names["top"]) >= 5

    # The second block continues the first
    exec(compile(diffing, "README.md", "exec"), names)
    assert "base" in capsys.readouterr().out
    table = names["held_out"].table(names["selection"].top(5))
    assert set(table.revision) == {"base", "chat"}
    assert set(table.class_ie) <= {"base only", "chat only", "shared"}


def test_the_first_screen_of_the_readme_shows_both_uses():
    first_screen = README.splitlines()[:45]
    for call in ("ct.Suite.open(", "ct.Suite.of(", "ct.attribute(", "ct.ablate("):
        assert any(call in line for line in first_screen), call


def test_blocks_that_are_not_run_here_compile_at_least():
    blocks = re.findall(r"^```python no-run\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")


@pytest.mark.slow
def test_every_line_of_what_it_can_do_runs(folder):
    rows = re.findall(r"^\| [^|]+ \| `(iv\.[^`]+)` \|$", README, re.MULTILINE)
    assert len(rows) == README.count("| `iv.")
    suite = folder / "runs" / "demo" / "suite"
    site = iv.Site(1)
    task = ct.tasks.load("agreement/attractor", limit=6)
    with iv.Model.open(suite / "step256") as model, iv.Model.open(suite / "step64") as early:
        prompts = iv.Prompts.of(task.tokenize(model.tokenizer))
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(32, model.d_model, generator=generator)

        def decompose(x: torch.Tensor) -> iv.Decomposition:
            codes = iv.Codes.from_dense(torch.relu(x @ directions.T))
            return iv.Decomposition(x, codes, directions, x.mean(0))

        names = {"iv": iv, "torch": torch, "model": model, "early": early, "prompts": prompts, "site": site}
        names |= {"clean": decompose(iv.fetch(model, prompts, [site])[site]), "ranked_features": [17, 3, 5]}
        names["clean_late"] = names["clean"]
        names["clean_early"] = decompose(iv.fetch(early, prompts, [site])[site])
        for row in rows:
            assert eval(row, names) is not None, row


def test_folders_and_files_of_the_readme_exist():
    linked = re.findall(r"\]\(((?!https?://)[^)#]+)\)", README)
    assert linked
    for link in linked:
        assert (ROOT / link).exists(), link


def test_dependencies_of_the_readme_are_those_of_the_package():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    section = README.partition("## Dependencies")[2]
    for requirement in project["dependencies"]:
        name = re.match(r"[A-Za-z0-9-]+", requirement)[0]
        assert name in section, f"{name} has no reason in the README"
