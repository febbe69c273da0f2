"""Crosscoders of other tools do here what they do there, and come back from every format as they went.

The other tools' functions are written out below, from their definitions, in float64, and run on files made by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from random_crosscoders import D, F, activations, crosscoder_of, same_function
from safetensors.torch import load_file, save_file
from seeded_randn import randn
from torch import Tensor

from crosstime.crosscoders import exchange
from crosstime.crosscoders.exchange.format_names import WRITABLE_FORMATS
from crosstime.crosscoders.exchange.hooks import hook_of, site_of
from crosstime.errors import CrosscoderError
from interventions import Site

HELD = {
    "crosstime": [(n, name) for n in (1, 2, 3) for name in ("relu", "topk", "batchtopk", "jumprelu")],
    "ctt": [(n, name) for n in (1, 2, 3) for name in ("relu", "batchtopk")],
    "ckkissane": [(2, "relu")],
    "finetuning": [(n, name) for n in (1, 2, 3) for name in ("relu", "batchtopk")],
    # A top-k by norms comes back with other codes: test_exchange_autoencoders.py
    "saelens": [(1, name) for name in ("relu", "batchtopk", "jumprelu")],
}
CASES = [(format, *case) for format, cases in HELD.items() for case in cases]


@pytest.mark.parametrize(("format", "n", "name"), CASES)
def test_a_crosscoder_comes_back_from_a_format_as_it_went(tmp_path: Path, format: str, n: int, name: str):
    original = crosscoder_of(n, name)
    path = tmp_path / ("mine.safetensors" if format == "crosstime" else "mine")
    exchange.write(original, path, format=format)
    assert exchange.detect(path) == format
    actual = exchange.read(path)
    same_function(actual, original)
    assert actual.origin.suite == "tiny"
    assert (actual.origin.revisions, actual.origin.site) == (original.origin.revisions, original.origin.site)
    assert actual.origin.training["seed"] == 7
    if format != "saelens":
        # On the scale of training, so that decoder norms are those of before.
        assert torch.equal(actual.scales, original.scales)
        torch.testing.assert_close(actual.decoder_norms(), original.decoder_norms())


@pytest.mark.parametrize("format", WRITABLE_FORMATS)
def test_only_the_promised_files_are_written(tmp_path: Path, format: str):
    original = crosscoder_of({"ckkissane": 2, "saelens": 1}.get(format, 3))
    exchange.write(original, tmp_path / "mine", format=format)
    files = {
        "crosstime": {"mine"},
        "ctt": {"mine", "0.pt", "0_cfg.json"},
        "ckkissane": {"mine", "cc_weights.pt", "cfg.json"},
        "finetuning": {"mine", "model.safetensors", "config.json"},
        "saelens": {"mine", "sae_weights.safetensors", "cfg.json"},
        "llamascopium": {"mine", "sae_weights.safetensors", "config.json"},
    }
    assert {path.name for path in tmp_path.rglob("*")} == files[format]


def their_crosscoder(tensors: dict[str, Tensor], x: Tensor, threshold: float | None) -> tuple[Tensor, Tensor]:
    """CTT's and ckkissane's encode and decode; a threshold on codes times the sum of decoder norms, if there is one."""
    W_enc, b_enc, W_dec, b_dec = (tensors[name].double() for name in ("W_enc", "b_enc", "W_dec", "b_dec"))
    codes = (torch.einsum("tcd,cdf->tf", x.double(), W_enc) + b_enc).relu()
    if threshold is not None:
        codes = codes * (codes * W_dec.norm(dim=2).sum(1) > threshold)
    return codes, torch.einsum("tf,fcd->tcd", codes, W_dec) + b_dec


def random_tensors(n: int) -> dict[str, Tensor]:
    return {
        "W_enc": randn(n, D, F, seed=1),
        "b_enc": randn(F, seed=2),
        "W_dec": randn(F, n, D, seed=3),
        "b_dec": randn(n, D, seed=4),
    }


@pytest.mark.parametrize("threshold", [None, 9.0])
def test_a_ctt_release_does_what_its_authors_code_does(tmp_path: Path, threshold: float | None):
    tensors, scales = random_tensors(2), [0.4, 3.0]
    extra = {} if threshold is None else {"k": torch.tensor(5, dtype=torch.int), "threshold": torch.tensor(threshold)}
    for number in (0, 3, 12):
        torch.save({name: tensor * (1 + number) for name, tensor in tensors.items()} | extra, tmp_path / f"{number}.pt")
        config = {
            "dict_size": F,
            "d_in": D,
            "n_models": 2,
            "seed": 153,
            "model_name": "allenai/OLMo-1B-0724-hf",
            "revision_list": "step1000-tokens2B_step600000-tokens1258B",
            "hook_point": "blocks.9.hook_resid_pre",
            "estimated_act_norm_list": scales,
            "batch_topk_final": None if threshold is None else 5,
        }
        (tmp_path / f"{number}_cfg.json").write_text(json.dumps(config))
    last = exchange.read(tmp_path)
    assert last.origin.revisions == ("step1000-tokens2B", "step600000-tokens1258B")
    assert (last.origin.suite, last.origin.site) == ("allenai/OLMo-1B-0724-hf", Site(8))
    for actual, factor in ((last, 13), (exchange.read(tmp_path / "0.pt"), 1)):
        x = activations(2)
        # Their model sees activations that are scaled already.
        scaled = x * torch.tensor(scales).reshape(1, 2, 1)
        codes, reconstruction = their_crosscoder({k: v * factor for k, v in tensors.items()}, scaled, threshold)
        torch.testing.assert_close(actual.encode(x).double(), codes, rtol=1e-4, atol=1e-4)
        unscaled = reconstruction / torch.tensor(scales).reshape(1, 2, 1)
        torch.testing.assert_close(actual(x).double(), unscaled, rtol=1e-4, atol=1e-3)


def test_pythias_joined_revisions_are_taken_apart(tmp_path: Path):
    torch.save(random_tensors(3), tmp_path / "0.pt")
    config = {"revision_list": "step128-step512-main", "hook_point": "blocks.3.hook_mlp_out"}
    config["estimated_act_norm_list"] = [1.0, 2.0, 3.0]
    (tmp_path / "0_cfg.json").write_text(json.dumps(config))
    actual = exchange.read(tmp_path)
    assert actual.origin.revisions == ("step128", "step512", "main")
    assert actual.origin.site == Site(3, "mlp")


@pytest.mark.parametrize(
    ("joined", "revisions"),
    [
        ("global_step10000-global_step100000-main", ("global_step10000", "global_step100000", "main")),
        ("global_step1000-global_step10000", ("global_step1000", "global_step10000")),
        ("global_step10000_global_step100000_main", ("global_step10000", "global_step100000", "main")),
        ("stage1-step1000-stage2-step5-main", ("stage1-step1000", "stage2-step5", "main")),
        ("stage2-ingredient1-step1000-tokens3B_main", ("stage2-ingredient1-step1000-tokens3B", "main")),
        ("step1000-tokens4B-step2000-tokens8B-main", ("step1000-tokens4B", "step2000-tokens8B", "main")),
        ("stage1-step-40000-step-125000", ("stage1-step-40000", "step-125000")),
        ("checkpoint-500_checkpoint-1000", ("checkpoint-500", "checkpoint-1000")),
        ("step_500-step_1375-main", ("step_500", "step_1375", "main")),
        ("base-chat", ("base", "chat")),
        ("before_after-more", None),
        ("pre-training-post-training", None),
        ("base-stage1-step1000", None),
        ("step512-step4000-main-extra", None),
    ],
)
def test_joined_revisions_are_split_into_names_that_families_use(tmp_path: Path, joined: str, revisions):
    count = len(revisions or (1, 2))
    torch.save(random_tensors(count), tmp_path / "0.pt")
    config = {"revision_list": joined, "hook_point": "blocks.3.hook_mlp_out"}
    config["estimated_act_norm_list"] = [1.0] * count
    (tmp_path / "0_cfg.json").write_text(json.dumps(config))
    if revisions is not None:
        assert exchange.read(tmp_path).origin.revisions == revisions
    else:
        with pytest.raises(
            CrosscoderError, match=rf"0_cfg\.json: revision_list '{joined}' splits into 2 names in .* way"
        ):
            exchange.read(tmp_path)
        assert exchange.read(tmp_path, revisions=["a", "b"]).origin.revisions == ("a", "b")


def test_the_names_with_their_model_settle_how_joined_revisions_are_split(tmp_path: Path):
    torch.save(random_tensors(2), tmp_path / "0.pt")
    names = ("pre-training", "post-training_2")
    config = {"revision_list": "-".join(names), "model_name": "a/b-c", "hook_point": "blocks.3.hook_mlp_out"}
    config["model_type"] = "-".join(f"a/b-c/{name}" for name in names)
    config["estimated_act_norm_list"] = [1.0, 2.0]
    (tmp_path / "0_cfg.json").write_text(json.dumps(config))
    assert exchange.read(tmp_path).origin.revisions == names


def test_a_ckkissane_crosscoder_takes_the_scales_that_are_given(tmp_path: Path):
    tensors = random_tensors(2)
    torch.save({name: tensor.bfloat16() for name, tensor in tensors.items()}, tmp_path / "cc_weights.pt")
    config = {"dict_size": F, "model_name": "gemma-2-2b", "hook_point": "blocks.14.hook_resid_pre", "enc_dtype": "bf16"}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    actual = exchange.read(tmp_path, revisions=["base", "chat"], scales=[0.28, 0.24])
    assert (actual.origin.revisions, actual.origin.site) == (("base", "chat"), Site(13))
    x, scales = activations(2), torch.tensor([0.28, 0.24]).reshape(1, 2, 1)
    rounded = {name: tensor.bfloat16().float() for name, tensor in tensors.items()}
    codes, reconstruction = their_crosscoder(rounded, x * scales, None)
    torch.testing.assert_close(actual.encode(x).double(), codes, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actual(x).double(), reconstruction / scales, rtol=1e-4, atol=1e-4)


def finetuning_state(n: int) -> dict[str, Tensor]:
    return {
        "encoder.weight": randn(n, D, F, seed=1),
        "encoder.bias": randn(F, seed=2),
        "decoder.weight": randn(n, F, D, seed=3),
        "decoder.bias": randn(n, D, seed=4),
    }


def their_finetuning(state: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """`BatchTopKCrossCoder` in use: normalise, encode, cut at the threshold, decode, denormalise."""
    state, x = {name: tensor.double() for name, tensor in state.items()}, x.double()
    mean, g = state.get("activation_mean"), state.get("activation_global_scale")
    if mean is not None:
        x = (x - mean) * g.unsqueeze(-1)
    codes = (torch.einsum("tcd,cdf->tf", x, state["encoder.weight"]) + state["encoder.bias"]).relu()
    if "threshold" in state:
        decoder = state["decoder.weight"]
        number = int(state.get("code_normalization_id", 1))
        norms = {
            1: decoder.norm(dim=2).sum(0),
            2: decoder.transpose(0, 1).flatten(1).norm(dim=1),
            4: torch.ones(F).double(),
        }[number]
        codes = codes * (codes * norms > state["threshold"])
    out = torch.einsum("tf,cfd->tcd", codes, state["decoder.weight"]) + state["decoder.bias"]
    return codes, out if mean is None else out / g.unsqueeze(-1) + mean


@pytest.mark.parametrize("threshold", [None, 4.0])
@pytest.mark.parametrize("normalization", [1, 2, 4])
@pytest.mark.parametrize("normalized", [False, True])
def test_a_finetuning_crosscoder_does_what_its_authors_code_does(
    tmp_path: Path, threshold: float | None, normalization: int, normalized: bool
):
    state = finetuning_state(2) | {"code_normalization_id": torch.tensor(normalization)}
    if threshold is not None:
        state |= {"k": torch.tensor(4, dtype=torch.int), "threshold": torch.tensor(threshold)}
    if normalized:
        deviation = randn(2, D, seed=8).abs() + 0.1
        state |= {
            "activation_mean": randn(2, D, seed=7),
            "activation_std": deviation,
            "target_rms": torch.tensor(1.0),
            "activation_global_scale": 1 / deviation.square().sum(-1).sqrt(),
        }
    x = activations(2) * 2
    codes, reconstruction = their_finetuning(state, x)
    assert 0.05 < (codes > 0).double().mean() < 0.95
    torch.save(state, tmp_path / "ae.pt")
    (tmp_path / "folder").mkdir()
    save_file(state, tmp_path / "folder" / "model.safetensors")
    (tmp_path / "folder" / "config.json").write_text(json.dumps({"dict_size": F, "k": 4}))
    for path in (tmp_path / "ae.pt", tmp_path / "folder"):
        assert exchange.detect(path) == "finetuning"
        actual = exchange.read(path, site="resid.13")
        torch.testing.assert_close(actual.encode(x).double(), codes, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(actual(x).double(), reconstruction, rtol=1e-4, atol=1e-4)


def test_a_normaliser_that_was_never_set_changes_nothing(tmp_path: Path):
    state = finetuning_state(2)
    unset = {name: torch.full((2, D), torch.nan) for name in ("activation_mean", "activation_std")}
    torch.save(
        state | unset | {"activation_global_scale": torch.ones(2), "target_rms": torch.tensor(1.0)}, tmp_path / "a.pt"
    )
    actual = exchange.read(tmp_path / "a.pt", site="resid.0")
    codes, _ = their_finetuning(state, activations(2))
    torch.testing.assert_close(actual.encode(activations(2)).double(), codes, rtol=1e-4, atol=1e-5)


def test_a_written_finetuning_state_does_what_its_authors_code_makes_of_it(tmp_path: Path):
    original = crosscoder_of(2, "batchtopk")
    exchange.write(original, tmp_path / "theirs", format="finetuning")
    state = load_file(tmp_path / "theirs" / "model.safetensors")
    assert state["encoder.weight"].shape == (2, D, F)
    assert state["decoder.weight"].shape == (2, F, D)
    codes, reconstruction = their_finetuning(state, activations(2))
    torch.testing.assert_close(original.encode(activations(2)).double(), codes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(original(activations(2)).double(), reconstruction, rtol=1e-4, atol=1e-4)
    # Its own constructor would compute the same scale from the deviations.
    g = state["target_rms"] / (state["activation_std"].square().sum(-1) + 1e-8).sqrt()
    torch.testing.assert_close(g, original.scales)


@pytest.mark.parametrize("site", [Site(0), Site(7), Site(3, "attn"), Site(2, "mlp")])
def test_hook_points_name_the_site_they_were_made_from(site: Site):
    assert site_of(hook_of(site)) == site_of(hook_of(site, before=True)) == site
