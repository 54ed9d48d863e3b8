"""Fit laws of tuned hyperparameters: lr* = k N^p D^q, batch* = k D^q, lr* = k C^p.

Each group of runs has an optimum (`lr_batch_optima.py`). Weighted least squares in logs fits a law
through the optima. An optimum's variance is that of its profile plus the scatter of optima about
the law (DerSimonian & Laird 1986, for a regression).

Published laws are lr ~ N^-.71 D^.31 and batch ~ D^.57 (Step Law, Li et al. 2025; their raw table
gives -.77, .20 and .61), lr = .3118 C^-.125 and batch = .292 C^.327 (DeepSeek-AI 2024), and lr
against N in Kaplan et al. 2020. Bergsma et al. 2025 (Power Lines) find that AdamW's time scale B /
(lr wd D) scales. The laws disagree because weight decay, schedule and parametrisation move the
optimum: a law holds for one recipe.

Shapes: G groups, F inputs, P = 1 + F parameters, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scaling.laws import checks, diagnose, evidence
from scaling.laws.bootstrap import Interval, interval
from scaling.laws.forms.registry import Form, power_product
from scaling.laws.lr_batch_optima import COST, Tuned, tuned
from scaling.laws.table import CannotFit, Table
from scaling.utils import notices
from scaling.utils.notices import Notice

NEAR = 0.03  # largest relative excess over a group's lowest loss of points in its quadratic
SMALLEST = 1e-4  # least standard error of a log optimum
# Share of groups without an optimum above which a law is doubtful: such groups are not random.
LEFT_OUT = 1 / 3


@dataclass(frozen=True)
class HyperFit:
    """The law of one tuned hyperparameter, and the optima it is fitted to."""

    form: Form
    law: dict[str, Interval]  # k and the exponents
    groups: tuple[Tuned, ...]  # all groups, also those without an optimum
    scatter: float  # standard deviation of log optima about the law, beyond their own errors
    wrong_by: float  # median factor off the optimum that costs COST of the loss
    residuals: np.ndarray  # log optimum - log law, per good group
    warnings: tuple[Notice, ...]
    verdict: str  # "good" | "weakly identified" | "doubtful"
    confidence: float
    params_P: np.ndarray = field(repr=False)  # log k, exponents
    draws_BP: np.ndarray = field(repr=False)

    @property
    def equation(self) -> str:
        return self.form.equation

    def predict(self, *inputs) -> np.ndarray:
        """Return the optimum at `inputs`, arrays of equal shape in the order of `form.inputs`."""
        logs_NF = np.stack([np.log(np.asarray(x, float)) for x in inputs], axis=-1)
        return np.exp(self.form.log_predict(self.params_P, logs_NF))

    def predict_interval(self, *inputs: float) -> Interval:
        """Return the interval of the law at one point."""
        draws = np.exp(self.draws_BP[:, 0] + self.draws_BP[:, 1:] @ np.log(np.array(inputs)))
        return interval(float(self.predict(*inputs)), draws, self.confidence)


def fit_optimum_of(
    table: Table,
    hyper: str = "lr",
    *,
    of: Sequence[str] = ("n_params", "tokens"),
    near: float = NEAR,
    bootstrap: int = 500,
    confidence: float = 0.9,
) -> HyperFit:
    """Fit the optimum of `hyper`, "lr" or "batch" (tokens per step), to a power product.

    `of` names the input columns. Rows of equal n_params and tokens form a group. If both lr and
    batch vary in a group, they are tuned together. A group's quadratic uses losses within `near` of
    its lowest (0.03 is 3%), and always the neighbours of the lowest. Raises CannotFit, with
    reasons, if too few groups have an optimum inside their grid or if the inputs are collinear.
    """
    form = power_product(hyper, tuple(of))
    groups = tuned(table, hyper, near=near, bootstrap=bootstrap, confidence=confidence)
    good = [g for g in groups if not g.problem]
    bad_notices = [
        Notice(g.problem.kind, f"{_name(g)}: left out, {g.problem}") for g in groups if g.problem
    ]
    columns = {name: np.array([g.inputs[name] for g in good]) for name in of if name in table}
    _require_enough(table, form, columns, len(good), len(groups), bad_notices)

    logs_GF = np.log(np.stack([columns[name] for name in of], axis=1))
    centre_F = logs_GF.mean(axis=0)
    design_GP = np.column_stack([np.ones(len(good)), logs_GF - centre_F])
    params_P, draws_BP, scatter = _fit_optima(design_GP, good, bootstrap)
    residuals = np.log([g.optimum.value for g in good]) - design_GP @ params_P
    values_P, draws_BP = (_uncentre(p, centre_F) for p in (params_P, draws_BP))
    natural_P, natural_BP = form.natural(values_P[None])[0], form.natural(draws_BP)
    law, judged = (
        {
            name: interval(float(natural_P[i]), draws_BP[:, i], confidence)
            for i, name in enumerate(form.parameters)
        }
        for draws_BP in (natural_BP, natural_BP[: evidence.JUDGED])
    )
    warnings = [
        *table.warnings, *bad_notices, *_doubts(form, judged, good, bootstrap, confidence)
    ]  # fmt: skip
    reach = [g.tolerated[1] / g.tolerated[0] for g in good]
    return HyperFit(
        form=form,
        law=law,
        groups=tuple(groups),
        scatter=scatter,
        wrong_by=float(np.sqrt(np.median(reach))),
        residuals=residuals,
        warnings=tuple(warnings),
        verdict=_verdict(warnings, len(good), len(groups)),
        confidence=confidence,
        params_P=values_P,
        draws_BP=draws_BP,
    )


def _doubts(
    form: Form,
    law: dict[str, Interval],
    good: list[Tuned],
    bootstrap: int,
    confidence: float,
) -> list[Notice]:
    """Return notices on weaknesses of the law's intervals; `law` is of the refits to judge."""
    warnings: list[Notice] = []
    count = len(form.parameters)
    warnings += checks.few_degrees(len(good) - count, f"{len(good)} optima for {count} parameters")
    if not np.isfinite(law["k"].se):
        return [*warnings, diagnose.no_intervals_notice()]
    warnings += diagnose.few_resamples(bootstrap, confidence)
    if not any(np.isfinite(g.se) for g in good):
        text = (
            "no profile has residuals: intervals come from the scatter about the law alone; add "
            f"values of {form.target}, or seeds"
        )
        warnings.append(Notice(notices.NO_RESIDUALS, text))
    for name in form.judged:
        warnings += diagnose.wide(name, law[name], diagnose.EXPONENT_WIDTH)
    return warnings


def _name(group: Tuned) -> str:
    letters = {"n_params": "N", "tokens": "D", "flops": "C"}
    names = [n for n in letters if n in group.inputs][:2]
    return " ".join(f"{letters[n]} {group.inputs[n]:.3g}" for n in names)


def _verdict(warnings: list[Notice], good: int, groups: int) -> str:
    verdict = diagnose.verdict(warnings)
    return "doubtful" if verdict == "good" and good < (1 - LEFT_OUT) * groups else verdict


def _require_enough(
    table, form: Form, columns, good: int, groups: int, bad_notices: list[Notice]
) -> None:
    for name in form.inputs:
        table[name]  # raises if the column is missing
    needed = len(form.parameters)
    if good < needed:
        reasons = f" ({'; '.join(map(str, bad_notices[:6]))})" if bad_notices else ""
        raise CannotFit(
            f"{form.name}: {good} of {groups} groups of runs have an optimum inside their grid, "
            f"{form.equation} needs {needed}{reasons}"
        )
    for name, values in columns.items():
        if np.ptp(np.log(values)) < 0.1:
            raise CannotFit(
                f"{form.name}: {name} is the same in every group with an optimum; vary it, or "
                "leave it out of --of"
            )
    checks.require_apart(columns, form.name)


def _fit_optima(design_GP, good: list[Tuned], bootstrap: int):
    """Return (params_P, draws_BP, scatter) of the law through the optima.

    A refit uses the optima of one resample, moved by the scatter about the law. The moves follow
    Student's t instead of a normal, since few groups determine the scatter.
    """
    best_G = np.log([g.optimum.value for g in good])
    se_G = np.array([max(g.se, SMALLEST) if np.isfinite(g.se) else SMALLEST for g in good])
    freedom = len(good) - design_GP.shape[1]
    scatter, params_P = _scatter(design_GP, best_G, se_G)
    draws_BG = np.stack([g.draws_B for g in good], axis=1)
    if not np.isfinite(draws_BG).any():
        draws_BG = np.tile(best_G, (bootstrap if freedom else 0, 1))
    rng = np.random.default_rng(1)
    if freedom:
        wide_B1 = np.sqrt(freedom / rng.chisquare(freedom, (len(draws_BG), 1)))
        draws_BG = draws_BG + scatter * wide_B1 * rng.standard_normal(draws_BG.shape)
    return params_P, _least_squares(design_GP, draws_BG, 1 / (se_G**2 + scatter**2)), scatter


def _least_squares(design_GP, y_BG, weight_G) -> np.ndarray:
    """Return `[B, P]` weighted solutions without NaN values of y; NaN if too few remain."""
    weight_BG = np.where(np.isfinite(y_BG), weight_G, 0.0)
    y_BG = np.where(weight_BG > 0, y_BG, 0.0)
    normal_BPP = np.einsum("gp,bg,gq->bpq", design_GP, weight_BG, design_GP)
    right_BP = (weight_BG * y_BG) @ design_GP
    inverse_BPP = np.linalg.pinv(normal_BPP, rcond=1e-12, hermitian=True)
    too_few_B = (weight_BG > 0).sum(axis=1) < design_GP.shape[1]
    return np.where(too_few_B[:, None], np.nan, np.einsum("bpq,bq->bp", inverse_BPP, right_BP))


def _scatter(design_GP, y_G, se_G) -> tuple[float, np.ndarray]:
    """Return (standard deviation of y about the law beyond `se_G`, law weighted by both)."""
    weight_G = 1 / se_G**2
    freedom = len(y_G) - design_GP.shape[1]
    scatter = 0.0
    if freedom:
        params_P = _least_squares(design_GP, y_G[None], weight_G)[0]
        spread = float(np.sum(weight_G * (y_G - design_GP @ params_P) ** 2))
        inverse_PP = np.linalg.pinv(design_GP.T @ (weight_G[:, None] * design_GP), hermitian=True)
        squares_PP = design_GP.T @ (weight_G[:, None] ** 2 * design_GP)
        scale = float(weight_G.sum() - np.trace(inverse_PP @ squares_PP))
        scatter = float(np.sqrt(max(spread - freedom, 0.0) / scale))
    return scatter, _least_squares(design_GP, y_G[None], 1 / (se_G**2 + scatter**2))[0]


def _uncentre(params_BP, centre_F) -> np.ndarray:
    """Convert parameters for centred logs to parameters for plain logs."""
    params_BP = np.array(params_BP)
    params_BP[..., 0] -= params_BP[..., 1:] @ centre_F
    return params_BP


def cost_in_words(fit: HyperFit) -> str:
    """Return a sentence on the error of the hyperparameter that costs COST of the loss."""
    return (
        f"{fit.form.target} within a factor {fit.wrong_by:.2g} of its optimum costs less than "
        f"{COST:.0%} of the loss (median over groups)"
    )
