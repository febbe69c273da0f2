"""Crosscoders in the files of other tools: weights and configurations."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_input import edits, fuzzed, refuses_politely, replaced, tensors_like, write_file
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from crosstime.crosscoders import exchange

pytestmark = [
    pytest.mark.fuzz,
    # What torch says of pickles, and of numbers that change their kind, is not what is looked at here.
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
C, D, F = 2, 3, 4
PLAIN = {"W_enc": (C, D, F), "b_enc": (F,), "W_dec": (F, C, D), "b_dec": (C, D)}
THEIRS = {
    "encoder.weight": (C, D, F), "encoder.bias": (F,), "decoder.weight": (C, F, D), "decoder.bias": (C, D)
}  # fmt: skip
SAE = {"W_enc": (D, F), "b_enc": (F,), "W_dec": (F, D), "b_dec": (D,), "threshold": (F,)}
CTT = {
    "dict_size": F, "d_in": D, "n_models": C, "seed": 124, "model_name": "pythia", "revision_list": "step512-main",
    "hook_point": "blocks.9.hook_resid_pre", "estimated_act_norm_list": [0.5, 2.0], "batch_topk_final": 2,
}  # fmt: skip
FINETUNING = {"activation_dim": D, "dict_size": F, "num_layers": C, "k": 2, "keep_relative_variance": True}
ORIGIN = {"suite": "tiny", "revisions": ["a", "b"], "site": "resid.1", "training": {"seed": 1}}
SAELENS = {
    "architecture": "jumprelu", "d_in": D, "d_sae": F, "k": 2, "apply_b_dec_to_input": True,
    "normalize_activations": "none", "reshape_activations": "none", "activation_fn_str": "relu",
    "activation_fn_kwargs": {"k": 2}, "rescale_acts_by_decoder_norm": False,
    "metadata": {
        "model_name": "gpt2", "hook_name": "blocks.5.hook_resid_post",
        "crosstime": {"suite": "tiny", "revisions": ["main"], "training": {"seed": 1}},
    },
}  # fmt: skip
THRESHOLD = "activation_function.log_jumprelu_threshold"
GATED = {"W_E": (C, D, F), "b_E": (C, F), "W_D": (C, F, D), "b_D": (C, D), THRESHOLD: (F,)}
GATED |= {f"dataset_average_activation_norm.{name}": () for name in ("step0", "main")}
LLAMASCOPIUM = {
    "sae_type": "crosscoder", "d_model": D, "expansion_factor": F / D, "use_decoder_bias": True, "act_fn": "jumprelu",
    "norm_activation": "dataset-wise", "sparsity_include_decoder_norm": True, "jumprelu_threshold_window": 4.0,
    "hook_points": ["step0", "main"], "crosstime": {"suite": "tiny", "site": "resid.1", "training": {"seed": 1}},
}  # fmt: skip


def ones(shapes: dict[str, tuple[int, ...]], **more: Tensor) -> dict[str, Tensor]:
    return {name: torch.ones(shape) for name, shape in shapes.items()} | more


def save_plainly(tensors: dict[str, Tensor], path: Path, facts: dict[str, str]) -> None:
    torch.save(tensors, path)


@dataclass(frozen=True)
class Kind:
    """A format as other tools write it: where weights and configuration go, and what good ones are."""

    format: str
    weights: str
    tensors: dict[str, Tensor]
    writer: Callable[[dict[str, Tensor], Path, dict[str, str]], None]
    configuration: str
    config: dict[str, Any]

    def put(
        self,
        folder: Path,
        *,
        tensors: dict[str, Tensor] | None = None,
        config: bytes | None = None,
        origin: Any = ORIGIN,
    ) -> Path:
        self.writer(tensors or self.tensors, folder / self.weights, {"origin": json.dumps(origin)})
        write_file(folder, self.configuration, json.dumps(self.config).encode() if config is None else config)
        return folder / self.weights if self.weights == "ae.pt" else folder


NORMALIZER = {
    "activation_mean": torch.zeros(C, D), "activation_std": torch.ones(C, D),
    "activation_global_scale": torch.ones(C), "target_rms": torch.tensor(1.0),
}  # fmt: skip
BATCHTOPK = {"k": torch.tensor(2, dtype=torch.int32), "threshold": torch.tensor(0.5)}
STATE = ones(THEIRS, **BATCHTOPK, **NORMALIZER, code_normalization_id=torch.tensor(1))
KINDS = {
    "ctt": Kind("ctt", "0.pt", ones(PLAIN, **BATCHTOPK), save_plainly, "0_cfg.json", CTT),
    "ckkissane": Kind(
        "ckkissane",
        "cc_weights.pt",
        ones(PLAIN),
        save_plainly,
        "cfg.json",
        CTT | {"activation_scales": [0.5, 2.0], "batch_topk_final": None},
    ),
    "finetuning": Kind("finetuning", "model.safetensors", STATE, save_file, "config.json", FINETUNING),
    "state dict": Kind("finetuning", "ae.pt", STATE, save_plainly, "config.json", FINETUNING),
    "saelens": Kind("saelens", "sae_weights.safetensors", ones(SAE), save_file, "cfg.json", SAELENS),
    "llamascopium": Kind(
        "llamascopium", "sae_weights.safetensors", ones(GATED), save_file, "config.json", LLAMASCOPIUM
    ),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def read(path: Path) -> object:
    """Found out, read, and used once."""
    site = "resid.0" if path.suffix == ".pt" else None
    assert exchange.detect(path) in exchange.FORMATS
    crosscoder = exchange.read(path, site=site)
    x = torch.ones(3, crosscoder.n_checkpoints, crosscoder.origin.d_model)
    return crosscoder.decode(crosscoder.encode(x))


@every_kind
def test_the_good_files_are_read(kind: Kind, tmp_path: Path):
    path = kind.put(tmp_path)
    assert exchange.detect(path) == kind.format
    read(path)


@every_kind
@fuzzed
@given(data=st.data())
def test_edited_weights(kind: Kind, tmp_path: Path, data: st.DataObject):
    path = kind.put(tmp_path)
    good = (tmp_path / kind.weights).read_bytes()
    write_file(tmp_path, kind.weights, data.draw(edits(good)))
    refuses_politely(lambda: read(path))


@every_kind
@fuzzed
@given(data=st.data())
def test_other_tensors(kind: Kind, tmp_path: Path, data: st.DataObject):
    path = kind.put(tmp_path, tensors=data.draw(tensors_like(kind.tensors)))
    refuses_politely(lambda: read(path))


@every_kind
@fuzzed
@given(data=st.data())
def test_configurations_with_other_values(kind: Kind, tmp_path: Path, data: st.DataObject):
    config = data.draw(replaced(kind.config) | edits(json.dumps(kind.config).encode()))
    path = kind.put(tmp_path, config=config if isinstance(config, bytes) else json.dumps(config).encode())
    refuses_politely(lambda: read(path))


@fuzzed
@given(data=st.data())
def test_origins_with_other_values(tmp_path: Path, data: st.DataObject):
    path = KINDS["finetuning"].put(tmp_path, origin=data.draw(replaced(ORIGIN)))
    refuses_politely(lambda: read(path))


OBJECTS = st.recursive(
    st.none() | st.integers() | st.text(max_size=9) | st.sampled_from([torch.float32, torch.Size([2])])
    | st.builds(lambda: torch.zeros(2).to_sparse()) | st.builds(lambda: torch.zeros(1).expand(10**12))
    | st.builds(lambda: torch.zeros(2, device="meta")) | st.builds(lambda: torch.zeros(2, 3).T),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(sorted(THEIRS)) | st.integers() | st.none(), inner, max_size=4),
    max_leaves=6,
)  # fmt: skip


@fuzzed
@given(content=OBJECTS)
def test_files_of_torch_with_anything_in_them(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "ae.pt")
    refuses_politely(lambda: read(tmp_path / "ae.pt"))


@fuzzed
@given(data=st.data())
def test_bare_pickles(tmp_path: Path, data: st.DataObject):
    """Instructions without the archive around them, where nothing but the unpickler stands in the way."""
    base = pickle.dumps({"W_enc": [1.5, 2], "b_enc": (b"x", {"y": None})}, protocol=2)
    write_file(tmp_path, "ae.pt", data.draw(edits(base)))
    refuses_politely(lambda: read(tmp_path / "ae.pt"))
