"""The rules of RelP, GIM and QK that `effects_quality` measures, against formulas written out in double precision."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import plain_torch
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, GPTNeoXConfig, OlmoConfig
from transformers.models.olmo.modeling_olmo import OlmoLayerNorm, OlmoMLP
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

from interventions import Baseline, Decomposition, Estimator, Model, Site, indirect_effects

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks.cases.effects_quality import ruled_effects  # noqa: E402
from benchmarks.gradient_rules import RULES, Rules, applied  # noqa: E402

MODELS = ("gpt_neox", "olmo", "olmo2", "bloom", "llama")
FULL, HALF = Rules(), 0.5


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def vjp(function: Callable[..., Tensor], inputs: tuple[Tensor, ...], g: Tensor, rules: Rules) -> tuple[Tensor, ...]:
    """The gradients of ``<g, function(inputs)>`` under rules; zero where there is none."""
    leaves = tuple(x.clone().requires_grad_() for x in inputs)
    owner = next((part for part in (function,) if isinstance(part, nn.Module)), nn.Identity())
    with applied(owner, rules):
        out = function(*leaves)
    gradients = torch.autograd.grad((out * g).sum(), leaves, allow_unused=True)
    return tuple(torch.zeros_like(x) if grad is None else grad for x, grad in zip(leaves, gradients, strict=True))


@pytest.mark.parametrize("method", ["relp", "gim"])
def test_a_layer_norm_keeps_the_gradient_of_its_numerator(method):
    norm = nn.LayerNorm(6).double()
    with torch.no_grad():
        norm.weight.copy_(drawn(6, seed=1))
        norm.bias.copy_(drawn(6, seed=2))
    x, g = drawn(3, 6), drawn(3, 6, seed=3)
    for row in range(3):
        deviation = (((x[row] - x[row].mean()) ** 2).sum() / 6 + norm.eps) ** 0.5
        scaled = norm.weight.detach() * g[row] / deviation
        expected = scaled - scaled.mean()
        torch.testing.assert_close(vjp(norm, (x[row],), g[row], RULES[method])[0], expected)


def test_the_norms_of_olmo_have_the_same_rule():
    x, g = drawn(6), drawn(6, seed=3)
    for norm, centre in ((OlmoLayerNorm(6), True), (Olmo2RMSNorm(6).double().requires_grad_(False), False)):
        c = x - x.mean() if centre else x
        scaled = g / ((c**2).sum() / 6 + (1e-5 if centre else 1e-6)) ** 0.5
        expected = scaled - scaled.mean() if centre else scaled
        torch.testing.assert_close(vjp(norm, (x,), g, RULES["relp"])[0], expected, rtol=1e-5, atol=1e-6)


def test_a_gated_mlp_shares_its_gradient_between_gate_and_value():
    config = OlmoConfig(hidden_size=5, intermediate_size=7, num_attention_heads=1, num_hidden_layers=1)
    mlp = OlmoMLP(config).double()
    x, g = drawn(5), drawn(5, seed=3)
    gate, up, down = (part.weight.detach() for part in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
    u, v, d = gate @ x, up @ x, down.T @ g
    sigmoid = 1 / (1 + torch.exp(-u))
    silu = u * sigmoid
    slopes = {"relp": silu / u, "gim": sigmoid * (1 + u * (1 - sigmoid))}
    for method, slope in slopes.items():
        expected = gate.T @ (d * v * slope) / 2 + up.T @ (d * silu) / 2
        torch.testing.assert_close(vjp(mlp, (x,), g, RULES[method])[0], expected)


def test_an_activation_function_at_zero_has_no_gradient():
    activation = (
        AutoModelForCausalLM.from_config(
            GPTNeoXConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4, vocab_size=5)
        )
        .gpt_neox.layers[0]
        .mlp.act
    )
    x = torch.tensor([0.0, 2.0, -1.0], dtype=torch.float64)
    expected = torch.tensor([0.0, *(0.5 * (1 + torch.erf(x[1:] / 2**0.5))).tolist()], dtype=torch.float64)
    torch.testing.assert_close(vjp(activation, (x,), torch.ones(3).double(), RULES["relp"])[0], expected)


def jacobian(p: Tensor) -> Tensor:
    """The derivative of a softmax, whose value is p."""
    return torch.diag(p) - torch.outer(p, p)


def attention_by_hand(method: str, q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of causal attention, head by head and query by query; of the first half of the batch for `qk`."""
    by_q, by_k, by_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    groups, scale = q.shape[1] // k.shape[1], q.shape[-1] ** -0.5
    for row in range(1 if method == "qk" else len(q)):
        for head in range(q.shape[1]):
            shared = head // groups
            for t in range(q.shape[2]):
                keys, values = k[row, shared, : t + 1], v[row, shared, : t + 1]
                z, share = keys @ q[row, head, t] * scale, HALF if method == "gim" else 1.0
                p = z.exp() / z.exp().sum()
                by_v[row, shared, : t + 1] += share * torch.outer(p, g[row, head, t])
                if method == "relp":
                    continue
                if method == "gim":
                    tempered = (z / 2).exp() / (z / 2).exp().sum()
                    mean = jacobian(tempered)
                else:
                    end = k[1, shared, : t + 1] @ q[1, head, t] * scale
                    nodes = [(node + 0.5) / 2000 for node in range(2000)]
                    mean = sum(jacobian((z + a * (end - z)).softmax(0)) for a in nodes) / 2000
                by_z = mean @ (share * values @ g[row, head, t]) * share * scale
                by_q[row, head, t] += keys.T @ by_z
                by_k[row, shared, : t + 1] += torch.outer(by_z, q[row, head, t])
    return by_q, by_k, by_v


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    visible = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril()
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=True)


def eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    hidden = torch.full((q.shape[2], q.shape[2]), torch.finfo(q.dtype).min, dtype=q.dtype).triu(1)
    k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    scores = torch.matmul(q, k.transpose(2, 3)) * q.shape[-1] ** -0.5 + hidden
    return torch.matmul(functional.softmax(scores, dim=-1), v)


@pytest.mark.parametrize("attention", [fused, masked, eager])
@pytest.mark.parametrize("method", RULES)
def test_attention_has_the_gradients_of_its_formula(method, attention):
    q, k, v = 2 * drawn(2, 4, 3, 5), drawn(2, 2, 3, 5, seed=1), drawn(2, 2, 3, 5, seed=2)
    g = drawn(2, 4, 3, 5, seed=3)
    if method == "qk":
        g[1] = 0
    expected = attention_by_hand(method, q, k, v, g)
    for actual, by_hand in zip(vjp(attention, (q, k, v), g, RULES[method]), expected, strict=True):
        torch.testing.assert_close(actual, by_hand, rtol=1e-5, atol=1e-6)


def test_the_mean_gradient_of_a_softmax_gives_the_whole_change_of_the_pattern():
    z = 3 * drawn(2, 5)
    p, change = z.softmax(-1), z[1] - z[0]
    for out in range(5):
        g = torch.zeros(2, 5, dtype=torch.float64)
        g[0, out] = 1
        row = vjp(lambda x: functional.softmax(x, dim=-1), (z,), g, RULES["qk"])[0][0]
        assert float(row @ change) == pytest.approx(float(p[1, out] - p[0, out]), abs=1e-5)
        plain = vjp(lambda x: functional.softmax(x, dim=-1), (z,), g, FULL)[0][0]
        assert abs(float(plain @ change) - float(p[1, out] - p[0, out])) > 1e-4


def from_block_one(module: nn.Module, x: Tensor, ids: Tensor) -> Tensor:
    """Logits with the hidden states that enter block 1 replaced by `x`."""

    def enter(_module, args, kwargs):
        return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})

    handle = plain_torch.blocks(module)[1].register_forward_pre_hook(enter, with_kwargs=True)
    try:
        return module(ids, use_cache=False).logits
    finally:
        handle.remove()


IDS = torch.tensor([[5, 9, 17, 33, 21, 8], [40, 41, 7, 6, 11, 30]])


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", MODELS)
def test_the_forward_pass_and_the_model_stay_as_they_are(module_of, name, implementation):
    module = module_of(name).requires_grad_(False)
    if name != "bloom":
        module.set_attn_implementation(implementation)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    hooks = [(len(part._forward_hooks), len(part._forward_pre_hooks), set(vars(part))) for part in module.modules()]
    x = drawn(2, 6, 16).float().requires_grad_()
    plain = from_block_one(module, x, IDS)
    gradient = torch.autograd.grad(plain[:, -1, 3].sum(), x)[0]
    for rules in RULES.values():
        with applied(module, rules):
            ruled = from_block_one(module, x, IDS)
            changed = torch.autograd.grad(ruled[:, -1, 3].sum(), x)[0]
        assert torch.equal(ruled.detach().view(torch.int32), plain.detach().view(torch.int32))
        assert float((changed[0] - gradient[0]).norm() / gradient[0].norm()) > 1e-3
    again = torch.autograd.grad(from_block_one(module, x, IDS)[:, -1, 3].sum(), x)[0]
    assert torch.equal(again, gradient)
    assert hooks == [
        (len(part._forward_hooks), len(part._forward_pre_hooks), set(vars(part))) for part in module.modules()
    ]
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def test_rules_end_with_an_error_in_the_block(module_of):
    module = module_of("gpt_neox")
    with pytest.raises(RuntimeError, match="stopped"), applied(module, RULES["relp"]):
        raise RuntimeError("stopped")
    assert not any(part._forward_hooks for part in module.modules())
    x = torch.ones(1, requires_grad=True)
    assert torch.rsqrt(x).requires_grad


@pytest.mark.parametrize("name", MODELS)
def test_relp_distributes_the_whole_output_among_inputs_and_biases(module_of, name):
    module = module_of(name).double().requires_grad_(False)
    biases = [bias.requires_grad_() for key, bias in module.named_parameters() if key.endswith("bias")]
    assert bool(biases) == (name in ("gpt_neox", "bloom"))
    x = drawn(2, 6, 16).requires_grad_()
    for rules, conserved in ((RULES["relp"], True), (FULL, False)):
        with applied(module, rules):
            output = (from_block_one(module, x, IDS)[:, -1] * drawn(60, seed=4)).sum()
        relevance = torch.autograd.grad(output, (x, *biases), allow_unused=True)
        parts = [(r * part).sum() for r, part in zip(relevance, (x, *biases), strict=True) if r is not None]
        difference = abs(float((sum(parts) - output).detach()) / float(output.detach()))
        assert (difference < 1e-4) if conserved else (difference > 1e-2)


@pytest.mark.parametrize("method", RULES)
@pytest.mark.parametrize("name", MODELS)
def test_effects_under_rules_are_those_of_each_prompt_alone(tiny, prompts, dictionary, decompose, name, method):
    model, plain = tiny(name)
    clean = decompose(model, prompts)
    baseline = Baseline.patch(decompose(model, prompts.patched))
    atp = indirect_effects(model, prompts, Site(1), clean, Estimator("atp", baseline))
    effects = ruled_effects(model, prompts, Site(1), clean, baseline, RULES[method], atp)
    nodes, weights = ([0.0, 1.0], [1.0, 0.0]) if RULES[method].pairs else ([0.0], [1.0])
    expected = torch.zeros(len(prompts), effects.n_features, dtype=torch.float64)
    with applied(plain, RULES[method]):
        for row, ids in enumerate(prompts.ids):
            by_feature, error = plain_torch.gradient_effects(
                plain, dictionary, 1, ids, prompts.patch[row], prompts.right[row], prompts.wrong[row], nodes, weights
            )
            expected[row] = by_feature.sum(0)
            assert effects.error[row].item() == pytest.approx(
                error.item(), abs=1e-4 * float(expected.abs().max()) + 1e-4
            )
    actual = effects.per_prompt(range(effects.n_features))
    assert float((actual - expected).abs().max() / expected.abs().max()) < 1e-4
    assert float((actual - atp.per_prompt(range(effects.n_features))).abs().max()) > 1e-4 * float(expected.abs().max())


def linear_model(tokenizer) -> Model:
    """A GPT-NeoX without norms, activation functions and changes of its patterns: logits are affine in activations."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    module = AutoModelForCausalLM.from_config(GPTNeoXConfig(**sizes, vocab_size=60, hidden_act="linear"))
    with torch.no_grad():
        for part in list(module.modules()):
            for child, layer in list(part.named_children()):
                if isinstance(layer, nn.LayerNorm):
                    setattr(part, child, nn.Identity())
        for weight in module.parameters():
            weight.copy_(drawn(*weight.shape, seed=weight.numel()) / weight.shape[-1] ** 0.5)
        for block in module.gpt_neox.layers:
            block.attention.query_key_value.weight.view(2, 3, 8, 16)[:, :2] = 0
            block.attention.query_key_value.bias.view(2, 3, 8)[:, :2] = 0
    return Model.wrap(module.eval(), tokenizer, "linear")


def test_all_rules_but_the_halving_of_values_are_exact_on_a_linear_model(tokenizer, prompts, decompose):
    model = linear_model(tokenizer)
    x = decompose(model, prompts)
    clean = Decomposition(x.x, x.codes, x.directions, x.bias)
    exact = indirect_effects(model, prompts, Site(1), clean, Estimator("exact"))
    atp = indirect_effects(model, prompts, Site(1), clean, Estimator("atp"))
    scale = float(exact.per_feature().abs().max())
    for method in ("relp", "qk", "gim"):
        effects = ruled_effects(model, prompts, Site(1), clean, Baseline.zero(clean), RULES[method], atp)
        difference = float((effects.per_feature() - exact.per_feature()).abs().max())
        assert (difference > 1e-2 * scale) if method == "gim" else (difference < 1e-4 * scale)
