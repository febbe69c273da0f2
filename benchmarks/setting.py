"""Random models, prompts and a crosscoder of given sizes: what the benchmarks run on."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from crosstime import CrossCoder
from crosstime.crosscoders.origin import Origin
from interventions import MAX_TOKENS, Model, Prompts, Site, fetch


@dataclass(frozen=True)
class Sizes:
    """What is run.

    Attributes:
        d_model, n_layers, n_heads, vocabulary: of the GPT-NeoX models; the MLP is four times as wide.
        features, active: F, and how many of them fire on a token on average.
        checkpoints: C.
        prompts, shortest, longest: how many prompts, and their lengths in tokens.
        max_tokens: slots of one forward pass of the naive way, padding included; ours takes its default of
            `interventions.MAX_TOKENS` where that is less, on a GPU as many as the naive way.
        dtype: of weights and activations.
        runs: timed runs of each way, of which the median is taken.
    """

    d_model: int = 512
    n_layers: int = 8
    n_heads: int = 8
    vocabulary: int = 50_304
    features: int = 8_192
    active: int = 100
    checkpoints: int = 3
    prompts: int = 64
    shortest: int = 8
    longest: int = 16
    max_tokens: int = 1_024
    dtype: str = "float32"
    runs: int = 5

    @property
    def layer(self) -> int:
        """The layer whose output is the site: the one below the middle."""
        return self.n_layers // 2 - 1

    @property
    def our_tokens(self) -> int:
        """Slots of one of our forward passes."""
        return self.max_tokens if torch.cuda.is_available() else min(self.max_tokens, MAX_TOKENS)

    def as_dict(self) -> dict[str, Any]:
        """For a result's `sizes`."""
        return asdict(self) | {"our_tokens": self.our_tokens, "site": f"resid.{self.layer}"}


FULL = Sizes()
QUICK = Sizes(
    d_model=128, n_layers=4, n_heads=4, vocabulary=4_096, features=2_048, active=50, checkpoints=2,
    prompts=32, max_tokens=512, runs=2,
)  # fmt: skip
TINY = Sizes(
    d_model=16, n_layers=4, n_heads=2, vocabulary=64, features=48, active=6, checkpoints=2,
    prompts=6, shortest=3, longest=6, max_tokens=24, runs=1,
)  # fmt: skip
PYTHIA_1B = Sizes(d_model=2_048, n_layers=16, features=16_384, active=200)


def sizes_for(device: torch.device, *, quick: bool) -> list[Sizes]:
    """The sizes to run: one on a CPU; on a GPU those of Pythia-1B in both precisions, one when quick."""
    if device.type == "cpu":
        return [QUICK if quick else FULL]
    return [FULL] if quick else [replace(PYTHIA_1B, dtype=dtype) for dtype in ("float32", "bfloat16")]


@dataclass(frozen=True, eq=False)
class Setting:
    """C models in memory, a crosscoder for them, and prompts.

    Attributes:
        sizes: what was asked for.
        models: the models, as `interventions` and as plain transformers take them (`Model.module`).
        crosscoder: see `random_crosscoder`.
        prompts: random tokens.
        site: where the crosscoder reads.
    """

    sizes: Sizes
    models: tuple[Model, ...]
    crosscoder: CrossCoder
    prompts: Prompts
    site: Site

    def first(self, count: int) -> Setting:
        """The same with the first prompts only, to warm up on."""
        prompts = self.prompts
        return replace(self, prompts=Prompts(prompts.ids[:count], prompts.right[:count], prompts.wrong[:count]))

    def activations(self) -> Float[Tensor, "C T D"]:
        """Of all prompts at the site of every model."""
        activations = [fetch(model, self.prompts, [self.site])[self.site] for model in self.models]
        return torch.stack(activations).float()


def build(sizes: Sizes, device: torch.device, seed: int = 0) -> Setting:
    """Build everything from a seed.

    Examples:
        >>> setting = build(TINY, torch.device("cpu"))
        >>> len(setting.models), len(setting.prompts), setting.site
        (2, 6, Site(layer=1, component='resid'))
    """
    wrapped = tuple(
        Model.wrap(
            random_model(sizes, seed + c).to(device, getattr(torch, sizes.dtype)),
            random_tokenizer(),
            max_tokens=sizes.our_tokens,
        )
        for c in range(sizes.checkpoints)
    )
    prompts, site = random_prompts(sizes, seed), Site(sizes.layer)
    without = Setting(sizes, wrapped, CrossCoder(_origin(sizes), 1), prompts, site)
    return replace(without, crosscoder=random_crosscoder(sizes, without.activations(), seed))


def random_model(sizes: Sizes, seed: int) -> GPTNeoXForCausalLM:
    """A GPT-NeoX with frozen random weights.

    Their standard deviation is ``1 / sqrt(d_model)``, so that blocks write about as much as they read and the
    metric depends on the activations.
    """
    config = GPTNeoXConfig(
        hidden_size=sizes.d_model,
        num_hidden_layers=sizes.n_layers,
        num_attention_heads=sizes.n_heads,
        intermediate_size=4 * sizes.d_model,
        vocab_size=sizes.vocabulary,
        max_position_embeddings=512,
        initializer_range=sizes.d_model**-0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPTNeoXForCausalLM(config).requires_grad_(False).eval()


def random_prompts(sizes: Sizes, seed: int) -> Prompts:
    """Random tokens with two different random answers."""
    draw = random.Random(seed)
    ids = tuple(
        tuple(draw.randrange(sizes.vocabulary) for _ in range(draw.randint(sizes.shortest, sizes.longest)))
        for _ in range(sizes.prompts)
    )
    answers = [draw.sample(range(sizes.vocabulary), 2) for _ in ids]
    return Prompts(ids, tuple(right for right, _ in answers), tuple(wrong for _, wrong in answers))


def random_crosscoder(sizes: Sizes, x: Float[Tensor, "C T D"], seed: int) -> CrossCoder:
    """A crosscoder with directions of norm one, and a threshold at which `active` features fire on a token.

    Its decoder bias is half as long as an activation, and the same in no two checkpoints: the path to the
    zero baseline ends there, and a bias of zero would end in the layer norm's singularity.
    """
    scales = sizes.d_model**0.5 / x.norm(dim=-1).mean(1)
    crosscoder = CrossCoder(_origin(sizes), sizes.features, scales, decoder_norm=1.0, seed=seed).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    bias = torch.randn(crosscoder.b_dec.shape, generator=generator)
    crosscoder.b_dec.copy_(bias / bias.norm(dim=-1, keepdim=True) * sizes.d_model**0.5 / 2)
    sample = x[:, torch.randperm(x.shape[1], generator=generator)[:256]].transpose(0, 1)
    crosscoder.b_enc.fill_(1e3)
    shifted = crosscoder.encode(sample)
    threshold = shifted.flatten().kthvalue(shifted.numel() - len(shifted) * sizes.active).values
    crosscoder.b_enc.fill_(1e3 - float(threshold))
    return crosscoder


def random_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of one word, for models whose prompts are token ids already."""
    words = Tokenizer(models.WordLevel({"<end>": 0, "<unknown>": 1, "word": 2}, unk_token="<unknown>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unknown>", eos_token="<end>", bos_token="<end>", pad_token="<end>"
    )


def _origin(sizes: Sizes) -> Origin:
    revisions = tuple(f"step{c}" for c in range(sizes.checkpoints))
    return Origin("random", revisions, Site(sizes.layer), sizes.d_model)
