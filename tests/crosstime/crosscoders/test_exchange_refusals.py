"""What is wrong with a file of weights is said in one sentence, and nothing in it is ever run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from crosstime.crosscoders import exchange
from crosstime.crosscoders.activation_functions import BatchTopK, JumpReLU, TopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from interventions import Site

D, F = 4, 6


def crosscoder_of(n: int, activation=None, scales=None) -> CrossCoder:
    origin = Origin("tiny", tuple(f"step{c}" for c in range(n)), Site(1), D)
    return CrossCoder(origin, F, scales, activation=activation)


def release(folder: Path, **changed: torch.Tensor | None) -> Path:
    tensors = {
        "W_enc": torch.ones(2, D, F),
        "b_enc": torch.ones(F),
        "W_dec": torch.ones(F, 2, D),
        "b_dec": torch.ones(2, D),
    } | changed
    torch.save({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "0.pt")
    (folder / "0_cfg.json").write_text(
        json.dumps({"hook_point": "blocks.2.hook_resid_pre", "estimated_act_norm_list": [1, 2]})
    )
    return folder


RAN: list[str] = []


class Harmful:
    def __reduce__(self):
        return RAN.append, ("code",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path: Path, save):
    save({"encoder.weight": Harmful()}, tmp_path / "ae.pt")
    with pytest.raises(CrosscoderError, match="is refused: it is a pickle of more than tensors"):
        exchange.read(tmp_path / "ae.pt", site="resid.0")
    assert RAN == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"W_enc": torch.ones(2, F, D)}, r"W_enc does not fit W_dec, .* it has shape \(2, 6, 4\), not \(2, 4, 6\)"),
        ({"b_enc": torch.ones(F + 1)}, r"b_enc does not fit .* shape \(7,\), not \(6,\)"),
        ({"b_dec": torch.ones(D)}, r"b_dec does not fit .* shape \(4,\), not \(2, 4\)"),
        ({"W_dec": torch.ones(F, D)}, r"W_dec has shape \(6, 4\), not \(any, any, any\)"),
        ({"b_dec": None}, "has no tensor b_dec, only W_dec, W_enc, b_enc"),
        ({"W_skip": torch.ones(1)}, "it has an unknown tensor: W_skip"),
        ({"b_enc": torch.full((F,), torch.nan)}, "b_enc has numbers that are not finite"),
        ({"b_enc": torch.ones(F, dtype=torch.complex64)}, "has complex numbers in b_enc"),
        ({"b_enc": torch.ones(F).to_sparse()}, "b_enc is not a plain tensor of numbers"),
        ({"b_enc": torch.zeros(1).expand(10**14)}, "b_enc is not a plain tensor of numbers"),
        ({"threshold": torch.ones(2)}, r"threshold has shape \(2,\), and must be one finite number"),
        ({"threshold": torch.tensor(torch.nan)}, "must be one finite number"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(tmp_path: Path, changed, message: str):
    with pytest.raises(CrosscoderError, match=message):
        exchange.read(release(tmp_path, **changed))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dict_size": 7}, r"0_cfg\.json says dict_size 7, but the weights have 6"),
        ({"n_models": 3}, "says n_models 3, but the weights have 2"),
        ({}, r"does not say at which site .* give it, as site='resid\.8'"),
        ({"hook_point": "blocks.0.hook_resid_pre"}, "is the embedding, before the first block"),
        ({"hook_point": "blocks.3.attn.hook_z"}, r"0_cfg\.json: the hook point 'blocks\.3\.attn\.hook_z' is no site: "),
        ({"hook_point": "blocks.1.hook_resid_pre", "estimated_act_norm_list": [1.0]}, "2 checkpoints need as many"),
        ({"hook_point": "blocks.1.hook_resid_pre", "estimated_act_norm_list": [1.0, -1.0]}, "positive scales"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(tmp_path: Path, config, message: str):
    release(tmp_path)
    (tmp_path / "0_cfg.json").write_text(json.dumps(config))
    with pytest.raises(CrosscoderError, match=message):
        exchange.read(tmp_path)


def test_damaged_files_are_named(tmp_path: Path):
    path = release(tmp_path) / "0.pt"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CrosscoderError, match=r"0\.pt is (damaged|refused)"):
        exchange.read(tmp_path)
    (tmp_path / "0_cfg.json").write_text("{")
    with pytest.raises(CrosscoderError, match=r"0_cfg\.json is not a valid JSON file"):
        exchange.read(tmp_path)
    (tmp_path / "mine.safetensors").write_bytes(b"no")
    with pytest.raises(CrosscoderError, match=r"mine\.safetensors is not a valid safetensors file"):
        exchange.read(tmp_path / "mine.safetensors")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CrosscoderError, match="holds no named tensors, but list"):
        exchange.read(tmp_path / "list.pt")


def test_other_numbers_of_revisions_are_refused(tmp_path: Path):
    with pytest.raises(CrosscoderError, match="has 2 checkpoints, but 3 revisions are named: a, b, c"):
        exchange.read(release(tmp_path), revisions=["a", "b", "c"])


def test_paths_and_formats_that_are_not_there_are_named(tmp_path: Path):
    with pytest.raises(CrosscoderError, match="there is no crosscoder at"):
        exchange.read(tmp_path / "gone")
    with pytest.raises(CrosscoderError, match=r"is a crosscoder in no format that is known .*saelens: a folder with"):
        exchange.read(tmp_path)
    with pytest.raises(CrosscoderError, match="there is no format 'sealens': did you mean 'saelens'"):
        exchange.read(release(tmp_path), format="sealens")


@pytest.mark.parametrize(
    ("format", "crosscoder", "message"),
    [
        ("ctt", crosscoder_of(2, TopK(F, k=2)), "the format ctt holds relu and batchtopk, not topk"),
        ("ctt", crosscoder_of(2, BatchTopK(F, k=2)).fold(), "no place for the decoder norms of before folding"),
        ("ckkissane", crosscoder_of(3), "relu crosscoders of 2 checkpoints, not relu of 3"),
        ("finetuning", crosscoder_of(2, JumpReLU(F)), "the format finetuning holds relu and batchtopk, not jumprelu"),
        ("finetuning", crosscoder_of(2, BatchTopK(F, k=2)).fold(), "no place for the decoder norms of before folding"),
        ("saelens", crosscoder_of(2), "holds sparse autoencoders, of one checkpoint; this crosscoder has 2"),
    ],
)
def test_a_format_that_cannot_hold_a_crosscoder_says_so_and_leaves_nothing(
    tmp_path: Path, format: str, crosscoder: CrossCoder, message: str
):
    with pytest.raises(CrosscoderError, match=message):
        exchange.write(crosscoder, tmp_path / "mine", format=format)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_not_written_over(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CrosscoderError, match="exists already: the format ctt needs a folder of its own"):
        exchange.write(crosscoder_of(2), tmp_path, format="ctt")


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({"architecture": "gated"}, {}, "it has no tensor b_gate, b_mag, r_mag"),
        ({"normalize_activations": "layer_norm"}, {}, "normalises activations by layer_norm"),
        ({"reshape_activations": "hook_z"}, {}, "reshapes activations, by hook_z"),
        ({"normalize_activations": "expected_average_only_in"}, {}, r"does not keep the scales s_c \(normalize_act"),
        ({"architecture": "jumprelu"}, {}, "has no tensor log_threshold"),
        ({"architecture": "jumprelu"}, {"threshold": torch.ones(3)}, r"threshold has shape \(3,\), not \(6,\)"),
    ],
)
def test_saelens_kinds_that_are_not_ours_are_named(tmp_path: Path, config, tensors, message: str):
    weights = {"W_enc": torch.ones(D, F), "b_enc": torch.ones(F), "W_dec": torch.ones(F, D), "b_dec": torch.ones(D)}
    save_file(weights | tensors, tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps({"hook_name": "blocks.1.hook_resid_post"} | config))
    with pytest.raises(CrosscoderError, match=message):
        exchange.read(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"threshold": torch.tensor(-1.0)}, "has no threshold yet"),
        ({"threshold": torch.tensor(1.0), "code_normalization_id": torch.tensor(3)}, "weights its codes by MIXED"),
        ({"threshold": torch.ones(2), "code_normalization_id": torch.tensor(5)}, "weights its codes by DECOUPLED"),
        ({"encoder.weight": torch.ones(D, F)}, "is of one layer: its weights have 2 axes"),
    ],
)
def test_finetuning_kinds_that_are_not_ours_are_named(tmp_path: Path, changed, message: str):
    state = {
        "encoder.weight": torch.ones(2, D, F),
        "encoder.bias": torch.ones(F),
        "decoder.weight": torch.ones(2, F, D),
        "decoder.bias": torch.ones(2, D),
    }
    torch.save(state | changed, tmp_path / "ae.pt")
    with pytest.raises(CrosscoderError, match=message):
        exchange.read(tmp_path / "ae.pt", site="resid.0")
