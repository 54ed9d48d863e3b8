"""Laws of tuned hyperparameters: lr* = k N^p D^q, batch* = k D^q, lr* = k C^p.

The optimum of each group of runs (`tuned.py`), then weighted least squares in logs through the
optima. An optimum's variance is that of its profile plus what optima scatter about the law
(DerSimonian & Laird 1986, for a regression).

Published: lr ~ N^-.71 D^.31 and batch ~ D^.57 (Step Law, Li et al. 2025; their raw table gives
-.77, .20 and .61), lr = .3118 C^-.125 and batch = .292 C^.327 (DeepSeek-AI 2024), lr against N in
Kaplan et al. 2020; Bergsma et al. 2025 (Power Lines) hold AdamW's time scale B / (lr wd D) to be
what scales. They disagree because weight decay, schedule and parametrisation move the optimum: a
law is one recipe's.

Shapes: G groups, F inputs, P = 1 + F parameters, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scaling.laws import checks, diagnose
from scaling.laws.bootstrap import Interval, interval
from scaling.laws.forms.registry import Form, power_product
from scaling.laws.lr_batch_optima import COST, Tuned, tuned
from scaling.laws.table import CannotFit, Table
from scaling.utils import notices
from scaling.utils.notices import Notice

NEAR = 0.03  # excess over a group's lowest loss up to which points enter its quadratic
SMALLEST = 1e-4  # standard error of a log optimum below which none is believed
LEFT_OUT = (
    1 / 3
)  # share of groups without an optimum from which the law is doubtful: they are not random


@dataclass(frozen=True)
class HyperFit:
    """The law of one tuned hyperparameter, and the optima that it goes through."""

    form: Form
    law: dict[str, Interval]  # k and the exponents
    groups: tuple[Tuned, ...]  # all, those without an optimum too
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
        """The optimum at `inputs`, in the order of `form.inputs`."""
        logs_NF = np.stack([np.log(np.asarray(x, float)) for x in inputs], axis=-1)
        return np.exp(self.form.log_predict(self.params_P, logs_NF))

    def predict_interval(self, *inputs: float) -> Interval:
        """Interval of the law at one point."""
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
    """The law of the best `hyper` ("lr" or "batch", tokens per step) as a power product of the
    columns `of`.

    Rows of equal n_params and tokens form a group; where both lr and batch vary in it they are
    tuned together. Losses within `near` of a group's lowest (0.03 is 3%), and its neighbours
    anyway, enter its quadratic. Raises CannotFit where too few groups have an optimum inside their
    grid, naming each reason, or where the inputs move together.
    """
    form = power_product(hyper, tuple(of))
    groups = tuned(table, hyper, near=near, bootstrap=bootstrap, confidence=confidence)
    good = [g for g in groups if not g.problem]
    lost = [
        Notice(g.problem.kind, f"{_name(g)}: left out, {g.problem}") for g in groups if g.problem
    ]
    columns = {name: np.array([g.inputs[name] for g in good]) for name in of if name in table}
    _require_enough(table, form, columns, len(good), len(groups), lost)

    logs_GF = np.log(np.stack([columns[name] for name in of], axis=1))
    centre_F = logs_GF.mean(axis=0)
    design_GP = np.column_stack([np.ones(len(good)), logs_GF - centre_F])
    params_P, draws_BP, scatter = _through(design_GP, good, bootstrap)
    residuals = np.log([g.optimum.value for g in good]) - design_GP @ params_P
    values_P, draws_BP = (_from_centre(p, centre_F) for p in (params_P, draws_BP))
    natural_P, natural_BP = form.natural(values_P[None])[0], form.natural(draws_BP)
    law = {
        name: interval(float(natural_P[i]), natural_BP[:, i], confidence)
        for i, name in enumerate(form.parameters)
    }
    warnings = [*table.warnings, *lost, *_doubts(form, law, good)]
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


def _doubts(form: Form, law: dict[str, Interval], good: list[Tuned]) -> list[Notice]:
    """Return what to know of the law's intervals before believing them."""
    found = []
    if len(good) == len(form.parameters):
        text = (
            f"as many optima ({len(good)}) as parameters: whether the law holds is unknown, it is "
            "not identified beyond these groups"
        )
        found.append(Notice(notices.NO_DEGREES_OF_FREEDOM, text))
    if not np.isfinite(law["k"].se):
        return [*found, diagnose.no_intervals_notice()]
    if not any(np.isfinite(g.se) for g in good):
        text = (
            "no residuals of any profile: intervals come from the scatter about the law alone; add "
            f"values of {form.target}, or seeds"
        )
        found.append(Notice(notices.NO_RESIDUALS, text))
    for name in form.judged:
        found += diagnose.wide(name, law[name], diagnose.EXPONENT_WIDTH)
    return found


def _name(group: Tuned) -> str:
    letters = {"n_params": "N", "tokens": "D", "flops": "C"}
    names = [n for n in letters if n in group.inputs][:2]
    return " ".join(f"{letters[n]} {group.inputs[n]:.3g}" for n in names)


def _verdict(warnings: list[Notice], good: int, groups: int) -> str:
    verdict = diagnose.verdict(warnings)
    return "doubtful" if verdict == "good" and good < (1 - LEFT_OUT) * groups else verdict


def _require_enough(table, form: Form, columns, good: int, groups: int, lost: list[Notice]) -> None:
    for name in form.inputs:
        table[name]  # raises where the column is missing
    needed = len(form.parameters)
    if good < needed:
        reasons = f" ({'; '.join(map(str, lost[:6]))})" if lost else ""
        raise CannotFit(
            f"{form.name}: {good} of {groups} groups of runs have an optimum inside their grid, "
            f"{form.equation} needs {needed}{reasons}"
        )
    for name, values in columns.items():
        if np.ptp(np.log(values)) < 0.1:
            raise CannotFit(
                f"{form.name}: {name} is the same in every group with an optimum; vary it, or "
                "leave it "
                "out of --of"
            )
    checks.require_apart(columns, form.name)


def _through(design_GP, good: list[Tuned], bootstrap: int):
    """(params_P, draws_BP, scatter) of the law through the optima.

    A refit goes through the optima of one resample, moved by the scatter about the law as far as
    few groups tell it: by Student's t instead of a normal.
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
    """`[B, P]` weighted solutions; NaN of y count for nothing, NaN where too few are left."""
    weight_BG = np.where(np.isfinite(y_BG), weight_G, 0.0)
    y_BG = np.where(weight_BG > 0, y_BG, 0.0)
    normal_BPP = np.einsum("gp,bg,gq->bpq", design_GP, weight_BG, design_GP)
    right_BP = (weight_BG * y_BG) @ design_GP
    inverse_BPP = np.linalg.pinv(normal_BPP, rcond=1e-12, hermitian=True)
    few_B = (weight_BG > 0).sum(axis=1) < design_GP.shape[1]
    return np.where(few_B[:, None], np.nan, np.einsum("bpq,bq->bp", inverse_BPP, right_BP))


def _scatter(design_GP, y_G, se_G) -> tuple[float, np.ndarray]:
    """(standard deviation of y about the law beyond `se_G`, the law that weighs by both)."""
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


def _from_centre(params_BP, centre_F) -> np.ndarray:
    """The parameters for logs as they are instead of from their centre."""
    params_BP = np.array(params_BP)
    params_BP[..., 0] -= params_BP[..., 1:] @ centre_F
    return params_BP


def cost_in_words(fit: HyperFit) -> str:
    """What users ask: how far off may it be?"""
    return (
        f"{fit.form.target} within a factor {fit.wrong_by:.2g} of its optimum costs less than "
        f"{COST:.0%} of "
        "the loss (median over groups)"
    )
