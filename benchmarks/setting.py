"""Random models, prompts and a crosscoder of given sizes, on which the benchmarks run."""

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
    """Sizes of the models, the crosscoder and the prompts.

    Attributes:
        d_model, n_layers, n_heads, vocabulary: sizes of the GPT-NeoX models; the MLP is four times as wide.
        features: F.
        active: mean number of active features per token.
        checkpoints: C.
        prompts: number of prompts.
        shortest, longest: bounds of their lengths in tokens.
        max_tokens: batch budget of the naive implementation, including padding. Ours uses at most the default,
            `interventions.MAX_TOKENS`; on a GPU, the same as the naive implementation.
        dtype: dtype of weights and activations.
        runs: number of timed runs, of which the median is reported.
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
        """The layer of the site, just below the middle."""
        return self.n_layers // 2 - 1

    @property
    def our_tokens(self) -> int:
        """Batch budget of our implementation."""
        return self.max_tokens if torch.cuda.is_available() else min(self.max_tokens, MAX_TOKENS)

    def as_dict(self) -> dict[str, Any]:
        """Return the sizes as they appear in a result."""
        return asdict(self) | {"our_tokens": self.our_tokens, "site": f"resid.{self.layer}"}


FULL = Sizes()
QUICK = replace(FULL, d_model=128, n_layers=4, n_heads=4, vocabulary=4_096, features=2_048, active=50)
QUICK = replace(QUICK, checkpoints=2, prompts=32, max_tokens=512, runs=2)
TINY = replace(QUICK, d_model=16, n_heads=2, vocabulary=64, features=48, active=6)
TINY = replace(TINY, prompts=6, shortest=3, longest=6, max_tokens=24, runs=1)
PYTHIA_1B = Sizes(d_model=2_048, n_layers=16, features=16_384, active=200)


def sizes_for(device: torch.device, *, quick: bool) -> list[Sizes]:
    """Return the sizes to run: one on a CPU; on a GPU those of Pythia-1B in two precisions, or one if quick."""
    if device.type == "cpu":
        return [QUICK if quick else FULL]
    return [FULL] if quick else [replace(PYTHIA_1B, dtype=dtype) for dtype in ("float32", "bfloat16")]


@dataclass(frozen=True, eq=False)
class Setting:
    """C models in memory, a crosscoder for them, and prompts.

    Attributes:
        sizes: their sizes.
        models: the models; `Model.module` is the transformers model.
        crosscoder: a crosscoder from `random_crosscoder`.
        prompts: prompts of random tokens.
        site: the site of the crosscoder.
    """

    sizes: Sizes
    models: tuple[Model, ...]
    crosscoder: CrossCoder
    prompts: Prompts
    site: Site

    def first(self, count: int) -> Setting:
        """Return the same with the first `count` prompts only, for a warm-up."""
        prompts = self.prompts
        return replace(self, prompts=Prompts(prompts.ids[:count], prompts.right[:count], prompts.wrong[:count]))

    def activations(self) -> Float[Tensor, "C T D"]:
        """Return the activations of all prompts at the site of every model."""
        activations = [fetch(model, self.prompts, [self.site])[self.site] for model in self.models]
        return torch.stack(activations).float()


def build(sizes: Sizes, device: torch.device, seed: int = 0) -> Setting:
    """Build everything from a seed.

    Examples:
        >>> setting = build(TINY, torch.device("cpu"))
        >>> len(setting.models), len(setting.prompts), setting.site
        (2, 6, Site(layer=1, component='resid'))
    """
    models_of_suite = tuple(
        Model.wrap(
            random_model(sizes, seed + c).to(device, getattr(torch, sizes.dtype)),
            random_tokenizer(),
            max_tokens=sizes.our_tokens,
        )
        for c in range(sizes.checkpoints)
    )
    prompts, site = random_prompts(sizes, seed), Site(sizes.layer)
    setting = Setting(sizes, models_of_suite, CrossCoder(_origin(sizes), 1), prompts, site)
    return replace(setting, crosscoder=random_crosscoder(sizes, setting.activations(), seed))


def random_model(sizes: Sizes, seed: int) -> GPTNeoXForCausalLM:
    """Return a GPT-NeoX with frozen random weights.

    Their standard deviation is ``1 / sqrt(d_model)``, so that the output of a block has about the norm of its input,
    and the metric depends on the activations.
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
    """Return prompts of random tokens, each with two different random answers."""
    generator = random.Random(seed)
    ids = tuple(
        tuple(generator.randrange(sizes.vocabulary) for _ in range(generator.randint(sizes.shortest, sizes.longest)))
        for _ in range(sizes.prompts)
    )
    answers = [generator.sample(range(sizes.vocabulary), 2) for _ in ids]
    return Prompts(ids, tuple(right for right, _ in answers), tuple(wrong for _, wrong in answers))


def random_crosscoder(sizes: Sizes, x: Float[Tensor, "C T D"], seed: int) -> CrossCoder:
    """Return a crosscoder with directions of norm one and a threshold such that `active` features fire per token.

    Its decoder bias has half the norm of an activation and differs between checkpoints. The path to the zero baseline
    ends at this bias; a bias of zero would be a singularity of the layer norm.
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
    """Return a tokenizer with a vocabulary of one word, for models whose prompts are given as token ids."""
    words = Tokenizer(models.WordLevel({"<end>": 0, "<unknown>": 1, "word": 2}, unk_token="<unknown>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unknown>", eos_token="<end>", bos_token="<end>", pad_token="<end>"
    )


def _origin(sizes: Sizes) -> Origin:
    revisions = tuple(f"step{c}" for c in range(sizes.checkpoints))
    return Origin("random", revisions, Site(sizes.layer), sizes.d_model)
