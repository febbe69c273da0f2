"""Vectors of weight matrices, against the parameters of every architecture by name."""

from __future__ import annotations

import pytest
import torch

from interventions import ArchitectureError, InterventionError, weight_rows

# Paths within a block; a linear layer keeps (outputs, inputs), and GPT-2's Conv1D (inputs, outputs)
_MATRICES = {
    "gpt_neox": ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    "bloom": ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    "gpt2": ("mlp.c_fc", "mlp.c_proj"),
}
_GATED = ("mlp.up_proj", "mlp.down_proj")


def test_rows_are_the_parameters_of_every_architecture(architecture, tiny):
    model, plain = tiny(architecture)
    reads, writes = _MATRICES.get(architecture, _GATED)
    blocks = plain.get_submodule(model.architecture.blocks)

    def parameter(path):
        weight = blocks[2].get_submodule(path).weight.float()
        return weight.T if architecture == "gpt2" else weight

    assert torch.equal(weight_rows(model, "mlp_in.2"), parameter(reads))
    assert torch.equal(weight_rows(model, "mlp_out.-1"), parameter(writes).T)
    assert torch.equal(weight_rows(model, "W_E"), plain.get_input_embeddings().weight.float())
    assert torch.equal(weight_rows(model, "W_U"), plain.get_output_embeddings().weight.float())
    if architecture in _MATRICES:
        with pytest.raises(ArchitectureError, match="has no mlp_gate; it has mlp_in, mlp_out"):
            weight_rows(model, "mlp_gate.0")
    else:
        assert torch.equal(weight_rows(model, "mlp_gate.2"), parameter("mlp.gate_proj"))


def test_rows_are_a_copy(tiny):
    model = tiny("gpt_neox").model
    rows = weight_rows(model, "W_U")
    rows.zero_()
    assert weight_rows(model, "W_U").norm() > 0


def test_layer_beyond_the_last_is_refused(tiny):
    with pytest.raises(InterventionError, match=r"has layers 0 to 2; got 'mlp_in\.3'"):
        weight_rows(tiny("llama").model, "mlp_in.3")
