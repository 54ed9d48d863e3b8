"""Recipes of papers and codebases, by the name of their source.

Those of `relative` recipes are proportionalities: the run of the study's own config is their
reference. The others state constants, measured on text with tokens as the unit. The sources
disagree, in particular on how lr moves with the length of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scaling.recipes.recipe import Base, Point, Recipe, Settings
from scaling.utils.errors import UserError

PRESETS: dict[str, Recipe] = {}
ADAMW = {"optim.name": ("adamw",)}
SP_TEXT = {"data.field": ("language",), "model.parametrization": ("sp",)}  # of absolute rates


def preset(equation: str, source: str, **more: Any) -> Callable:
    """Register a function as the recipe of its name."""

    def register(function: Callable[[Point, Base], Settings]) -> Callable:
        name = function.__name__
        PRESETS[name] = Recipe(name, equation, source, function, **more)
        return function

    return register


@preset(
    "lr, lambda ~ (B/D)^0.5; eps ~ (D/B)^0.5; 1 - beta ~ B/D",
    "Complete(d)P 2025, arXiv 2512.22382",
    relative=True,
    made_for=ADAMW,
)
def sde(point: Point, base: Base) -> Settings:
    """Keep the limit of small steps, a stochastic differential equation, at each B and D."""
    noise = _batch(point, base) / _tokens(point, base)
    if (1 - min(base.beta1, base.beta2)) * noise > 1:
        raise UserError(
            f"recipe sde: B/D is {noise:.3g} times that of the config's own run, so a beta would "
            "be negative; give the config train.tokens and train.batch_size nearer to the sweep's"
        )
    return Settings(
        lr=base.lr * noise**0.5,
        weight_decay=base.weight_decay * noise**0.5,
        eps=base.eps * noise**-0.5,
        beta1=1 - (1 - base.beta1) * noise,
        beta2=1 - (1 - base.beta2) * noise,
    )


@preset(
    "lr = .0063 (B/262144)^.5 (2.5e9/D)^.3; eps = 1.85e-8 (D/2.5e9)^.5 (262144/B)^.5; beta2 = "
    ".9999^(B/262144) in [.9, .9999]; warm-up 10%, decay 20%",
    "Marin, completed_adamh.py",
    made_for={"optim.name": ("adamh",), "data.field": ("language",)},
)
def delphi(point: Point, base: Base) -> Settings:
    """Rates for AdamH. The reference is 64 sequences of 4,096 tokens and a width of 512."""
    batch, tokens = point.batch_tokens / (64 * 4096), point.tokens / 2.5e9
    return Settings(
        lr=0.0063 * batch**0.5 * tokens**-0.3,
        eps=1.85e-8 * (tokens / batch) ** 0.5,
        beta2=min(max(0.9999**batch, 0.9), 0.9999),
        warmup_fraction=0.1,
        decay_fraction=0.2,
    )


@preset(
    "lambda ~ B/(lr E), so that B/(lr lambda E) stays",
    "Wang & Aitchison 2024, arXiv 2405.13698",
    relative=True,
    made_for=ADAMW,
)
def tau_epoch(point: Point, base: Base) -> Settings:
    """Keep AdamW's memory in epochs; the epoch is the run if no data repeat."""
    epoch = point.epoch_tokens / base.point.epoch_tokens
    rate = _rate(point, base.lr) / base.lr
    return Settings(weight_decay=_decay("tau_epoch", base) * _batch(point, base) / (rate * epoch))


@preset(
    "lr = 1.79 N^-.713 D^.307; B = .58 D^.571",
    "Li et al. 2025 (Step Law), arXiv 2503.04715",
    made_for=ADAMW | SP_TEXT,
)
def steplaw(point: Point, base: Base) -> Settings:
    """Fit of a grid of rates and batches; N counts neither embeddings nor head."""
    return Settings(
        lr=1.79 * point.n_params**-0.713 * point.tokens**0.307,
        batch_tokens=0.58 * point.tokens**0.571,
    )


@preset(
    "lr = .00235 (N/108e6)^(-1/3); B = 327680 (N/108e6)^(2/3); beta2 = .95 if B >= 524288 else "
    ".99; N with head",
    "OLMo-core model ladder, after Porian et al. 2024, arXiv 2406.19146",
    made_for=ADAMW | SP_TEXT,
)
def olmo(point: Point, base: Base) -> Settings:
    """Rates for WSD schedules, half of those of the paper. B is 160 sequences of 2,048 tokens."""
    size = point.n_params_with_head / 108e6
    return Settings(
        lr=0.00235 * size ** (-1 / 3),
        batch_tokens=2048 * 160 * size ** (2 / 3),
        beta2=0.95 if point.batch_tokens >= 524_288 else 0.99,
    )


@preset(
    "B ~ D^.383; lr ~ B^.5; lambda ~ B^.5/D",
    "nanochat, scripts/base_train.py (the reference there has B = 2^19)",
    relative=True,
    made_for={"optim.name": ("adamw", "muon")},
)
def nanochat(point: Point, base: Base) -> Settings:
    """Follow Power Lines in the batch, and keep tau."""
    batch, tokens = _batch(point, base), _tokens(point, base)
    return Settings(
        lr=base.lr * batch**0.5,
        batch_tokens=base.point.batch_tokens * tokens**0.383,
        weight_decay=base.weight_decay * batch**0.5 / tokens,
    )


@preset(
    "lr = .3118 C^-.125; B = .292 C^.327; C without embeddings and head",
    "DeepSeek-AI 2024, arXiv 2401.02954",
    made_for=ADAMW | SP_TEXT,
)
def deepseek(point: Point, base: Base) -> Settings:
    """Rules in training FLOPs; C counts the products of blocks and attention."""
    flops = point.flops_per_token * point.tokens
    return Settings(lr=0.3118 * flops**-0.125, batch_tokens=0.292 * flops**0.327)


@preset(
    "B ~ D^.383; tau = B/(lr lambda D) ~ (D/N)^-.53",
    "Bergsma et al. 2025 (Power Lines), arXiv 2505.13738",
    relative=True,
    made_for=ADAMW,
)
def powerlines(point: Point, base: Base) -> Settings:
    """Let tau fall with tokens per parameter. The rate stays: that is the parametrization's."""
    tokens = _tokens(point, base)
    per_param = tokens / (point.n_params / base.point.n_params)
    tau, rate = per_param**-0.53, _rate(point, base.lr) / base.lr
    return Settings(
        batch_tokens=base.point.batch_tokens * tokens**0.383,
        weight_decay=_decay("powerlines", base) * _batch(point, base) / (rate * tau * tokens),
    )


def power(coefficient: float, exponent: float) -> Recipe:
    """Return the rule lr = coefficient N^-exponent of config.sweep, for any model and data."""

    def function(point: Point, base: Base) -> Settings:
        try:
            return Settings(lr=coefficient * point.n_params**-exponent)
        except OverflowError:
            raise UserError(
                f"config.sweep.lr_n_exponent={exponent:g}: the learning rate of "
                f"{point.n_params:,} parameters is no finite number; choose an exponent from -2 "
                "to 2"
            ) from None

    return Recipe(
        "power",
        f"lr = {coefficient:g} N^{-exponent:g}",
        "config.sweep.lr_coefficient and lr_n_exponent",
        function,
        # other parametrisations let the step fall with width by themselves
        made_for={"model.parametrization": ("sp",)} if exponent else {},
    )


def _decay(name: str, base: Base) -> float:
    """Return the weight decay that a recipe scales. Raises UserError if it is 0."""
    if base.weight_decay == 0:
        raise UserError(
            f"recipe {name} scales config.optim.weight_decay, which is 0; give it a value such as "
            "0.1, or take another recipe"
        )
    return base.weight_decay


def _batch(point: Point, base: Base) -> float:
    return point.batch_tokens / base.point.batch_tokens


def _tokens(point: Point, base: Base) -> float:
    return point.tokens / base.point.tokens


def _rate(point: Point, own: float) -> float:
    return own if point.lr is None else point.lr
