"""Compute-equivalent gain: the factor of compute that the old recipe needs to match the new one.

    gain(C) = C_A(L_B(C)) / C,   L(C) = E + K C^-gamma along each family's compute optimum

A is the baseline, B the new family, C_A the inverse of A's law. This is the effective compute of Ho
et al. 2024 and the compute-equivalent gain of Davidson et al. 2023. It is a single number only if
both laws have the same E and gamma. Most known gains depend on scale (Gundlach et al. 2025), so the
gain is given as a curve with its slope.

Shapes: R laws (the fit itself first, then its refits), C computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.laws import diagnose
from scaling.laws.bootstrap import Interval, interval
from scaling.laws.closed_form import floor_and_power
from scaling.laws.envelope import EnvelopeFit
from scaling.laws.fit import Fit
from scaling.laws.isoflop import IsoflopFit
from scaling.laws.power import PowerFit
from scaling.laws.table import CannotFit
from scaling.utils import notices
from scaling.utils.notices import Notice

Family = Fit | IsoflopFit | EnvelopeFit | PowerFit
VAGUE = 10.0  # a gain is weakly identified if its interval spans more than this factor
FLAT = 1e-3  # slopes below this are rounding
NEVER = 0.05  # warn if more than this share of the refits has no finite gain


@dataclass(frozen=True)
class Gain:
    """The gain of a family over a baseline at several computes in FLOPs."""

    flops: np.ndarray
    gain: tuple[Interval, ...]  # infinite if the baseline's floor lies above the new loss
    never: np.ndarray  # share of the refits in which the baseline never reaches the new loss
    new_loss: np.ndarray  # nats per token at each compute
    slope: Interval  # d log gain / d log C at the middle of `flops`; 0 if the gain is one factor
    laws: dict[str, dict[str, Interval]]  # E, K, gamma of "baseline" and "new"
    scale: str  # dependence of the gain on compute, in words
    warnings: tuple[Notice, ...]
    verdict: str  # "good" | "weakly identified" | "doubtful"
    confidence: float

    equation = "gain(C) = C_A(L_B(C)) / C, L(C) = E + K C^-gamma"


def compute_equivalent_gain(
    baseline: Family,
    new: Family,
    flops: Sequence[float] | np.ndarray,
    *,
    flops_per_n_d: tuple[float, float] = (6.0, 6.0),
    confidence: float = 0.9,
) -> Gain:
    """Return the gain of `new` over `baseline` at the computes `flops`.

    Each family is a fit of n_params and tokens, a fit of one x that is compute, or the power law
    through IsoFLOP minima or an envelope. `flops_per_n_d` is k in C = k N D of each family. The
    refits of the two are paired at random, since tables of equal length have equal resamples.
    Raises CannotFit for a form without a law in C, computes that are not positive, or a law that
    does not fall with compute.
    """
    compute = np.atleast_1d(np.asarray(flops, float))
    if not len(compute) or not (np.isfinite(compute) & (compute > 0)).all():
        raise CannotFit("gain: flops must be positive numbers")
    log_c = np.log(compute)
    old_R3, new_R3 = (_laws(f, k) for f, k in zip((baseline, new), flops_per_n_d, strict=True))
    for name, laws_R3 in (("baseline", old_R3), ("new", new_R3)):
        if not laws_R3[0, 2] > 0:
            raise CannotFit(f"gain: the {name} family's loss does not fall with compute")
    pairs = np.random.default_rng(0).permutation(np.arange(1, len(new_R3)))
    count = min(len(old_R3) - 1, len(pairs))
    old_R3, new_R3 = old_R3[: count + 1], new_R3[np.concatenate([[0], pairs[:count]])]

    freedom = min((f.freedom for f in (baseline, new) if isinstance(f, Fit)), default=None)
    log_gain_RC = _log_gain(old_R3, new_R3, log_c)
    gains = tuple(
        _invert(interval(value, draws, confidence, freedom))
        for value, draws in zip(np.exp(-log_gain_RC[0]), np.exp(-log_gain_RC[1:].T), strict=True)
    )
    defined_RC = ~np.isnan(log_gain_RC[1:])
    never = np.isinf(log_gain_RC[1:]).sum(axis=0) / np.maximum(defined_RC.sum(axis=0), 1)
    middle = (log_c.min() + log_c.max()) / 2
    slope_R = _slope(old_R3, new_R3, middle)
    slope = interval(float(slope_R[0]), slope_R[1:], confidence, freedom)
    loss_C = _loss(new_R3[:1], log_c)[0]
    families = (("baseline", baseline), ("new", new))
    warnings = [n for name, f in families if isinstance(f, Fit) for n in _family_notice(name, f)]
    warnings += _infinite(compute, log_gain_RC[0], never, loss_C, old_R3[0, 0])
    vague = [
        c
        for c, g in zip(compute, gains, strict=True)
        if not (g.high < VAGUE * g.low or np.isposinf(g.low))
    ]
    if vague:
        warnings.append(
            Notice(
                notices.WIDE_GAIN,
                f"the gain is weakly identified at {', '.join(f'{c:.3g}' for c in vague)} FLOPs: "
                f"its interval spans more than a factor {VAGUE:g}, or does not exist",
            )
        )
    floorless = [name for name, family in families if not _has_floor(family)]
    if floorless:
        warnings.append(
            Notice(
                notices.NO_FLOOR,
                f"no floor E in the law of the {' and the '.join(floorless)} family: a floor that "
                "exists but is not fitted looks like a gain that depends on compute; prefer "
                "chinchilla or power_offset",
            )
        )
    return Gain(
        flops=compute,
        gain=gains,
        never=never,
        new_loss=loss_C,
        slope=slope,
        laws={"baseline": _intervals(old_R3, confidence), "new": _intervals(new_R3, confidence)},
        scale=_scale(slope),
        warnings=tuple(warnings),
        verdict=diagnose.verdict(warnings),
        confidence=confidence,
    )


def _has_floor(family: Family) -> bool:
    """Return True if the law has a floor E; power laws through minima or an envelope have none."""
    return isinstance(family, Fit) and "E" in family.form.parameters


def _family_notice(name: str, law: Fit) -> list[Notice]:
    """Return one notice with the reasons if a family's law is not good."""
    kinds = {
        notices.WEAK: notices.UNCERTAIN_FAMILY,
        notices.DOUBT: notices.DOUBTFUL_FAMILY,
    }
    severity = notices.worst(law.warnings)
    if severity not in kinds:
        return []
    reasons = "; ".join(map(str, law.warnings))
    return [Notice(kinds[severity], f"the {name} family's law is {law.verdict}: {reasons}")]


def _laws(family: Family, flops_per_n_d: float) -> np.ndarray:
    """Return `[R, 3]` (E, log K, gamma) of the fit and of its refits."""
    if isinstance(family, Fit):
        natural_RP = np.concatenate([family.form.natural(family.params_P[None]), family.draws])
        return floor_and_power(family.form.name, natural_RP, flops_per_n_d)
    law = family if isinstance(family, PowerFit) else family.frontier
    estimate = [np.log(law.coefficient.value), law.exponent.value]
    log_k, exponent = np.concatenate([[estimate], law.draws]).T
    return np.stack([0 * log_k, log_k, -exponent], axis=1)


def _loss(laws_R3, log_c) -> np.ndarray:
    floor_R1, log_k_R1, gamma_R1 = np.moveaxis(laws_R3[:, :, None], 1, 0)
    return floor_R1 + np.exp(log_k_R1 - gamma_R1 * log_c)


def _log_gain(old_R3, new_R3, log_c) -> np.ndarray:
    """Return `[R, C]` log gains, infinite if the new loss is below the baseline's floor."""
    excess_RC = _loss(new_R3, log_c) - old_R3[:, :1]
    with np.errstate(invalid="ignore", divide="ignore"):
        log_needed_RC = (old_R3[:, 1:2] - np.log(excess_RC)) / old_R3[:, 2:]
        gain_RC = np.where(excess_RC > 0, log_needed_RC - log_c, np.inf)
    return np.where(np.isnan(excess_RC) | ~(old_R3[:, 2:] > 0), np.nan, gain_RC)


def _slope(old_R3, new_R3, log_c: float) -> np.ndarray:
    """Return `[R]` d log gain / d log C."""
    falling_R = _loss(new_R3, log_c)[:, 0] - new_R3[:, 0]
    excess_R = _loss(new_R3, log_c)[:, 0] - old_R3[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        slope_R = new_R3[:, 2] / old_R3[:, 2] * falling_R / excess_R - 1
    return np.where(excess_R <= 0, np.inf, slope_R)


def _invert(i: Interval) -> Interval:
    """Return the interval of a gain from that of its inverse, which is 0 for an infinite gain."""
    with np.errstate(divide="ignore"):
        value, low, high = (float(v) for v in 1 / np.array([i.value, i.high, i.low]))
    return Interval(value, float(i.se * value**2), low, high)  # the error by the delta method


def _intervals(laws_R3, confidence: float) -> dict[str, Interval]:
    columns = {"E": laws_R3[:, 0], "K": np.exp(laws_R3[:, 1]), "gamma": laws_R3[:, 2]}
    return {name: interval(float(c[0]), c[1:], confidence) for name, c in columns.items()}


def _infinite(flops, log_gain_C, never_C, loss_C, floor: float) -> list[Notice]:
    warnings = []
    for c, value, share, loss in zip(flops, log_gain_C, never_C, loss_C, strict=True):
        if np.isinf(value):
            warnings.append(
                Notice(
                    notices.INFINITE_GAIN,
                    f"at {c:.3g} FLOPs the new loss {loss:.4g} lies below the baseline's floor E = "
                    f"{floor:.4g}: the baseline cannot reach it, the gain is infinite (in "
                    f"{share:.0%} of the refits)",
                )
            )
        elif share > NEVER:
            warnings.append(
                Notice(
                    notices.OFTEN_INFINITE_GAIN,
                    f"at {c:.3g} FLOPs the baseline never reaches the new loss in {share:.0%} of "
                    "the refits",
                )
            )
    return warnings


def _scale(slope: Interval) -> str:
    if np.isinf(slope.value):
        return (
            "the gain is infinite within these computes: the baseline's floor lies above the new "
            "losses"
        )
    if np.isnan(slope.low):
        return "the gain may depend on compute: its slope has no interval"
    if slope.low > FLAT:
        return "the gain grows with compute: state it with the compute"
    if slope.high < -FLAT:
        return "the gain shrinks with compute: state it with the compute"
    return "no dependence of the gain on compute is seen: its slope's interval holds 0"
