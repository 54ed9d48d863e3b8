"""Choose the runs that narrow a prediction the most for a total of FLOPs.

The variance of a predicted quantity g(theta) after runs x_1..x_R with equal noise in log loss is,
to first order, sigma^2 c' M^-1 c, with c = dg/dtheta, M = sum_r j_r j_r' and j_r = dlog
L(x_r)/dtheta (Chernoff 1953; Atkinson, Donev & Tobias 2007, ch. 10). `propose` picks runs on a grid
of compute and tokens per parameter. It minimises the logarithm of that variance, averaged over
draws of theta, forms and targets, under a total of FLOPs and a number of runs. A multiplicative
algorithm (Titterington 1976; Yu 2010) gives fractional numbers of runs, which are rounded. Then
single runs are exchanged (Fedorov 1972).

Shapes: S draws, P parameters, K candidate runs, T targets, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.laws.closed_form import closed_form
from scaling.laws.fit import Fit
from scaling.laws.forms.base import Form
from scaling.laws.forms.registry import FORMS
from scaling.laws.multistart import log_prediction
from scaling.laws.table import Table
from scaling.utils.errors import UserError

DRAWS = 24  # parameter draws per prior to average a design over
BUDGETS, RATIOS = 13, 15  # candidate runs: compute times tokens per parameter
ITERATIONS = 400  # of the multiplicative algorithm
PASSES = 4  # of exchanges
STEP = 1e-5  # of central differences in the solver's parameters
QUANTITIES = ("loss", "n_opt")
# (dearest over cheapest run, range of tokens per parameter) for a right and a nearly right form
WIDE = (3000.0, (0.5, 2000.0))
CAREFUL = (300.0, (5.0, 100.0))


@dataclass(frozen=True)
class Prior:
    """The law expected before the runs: a form and draws of its parameters."""

    form: Form
    params_SP: np.ndarray  # on the solver's scale
    weight: float = 1.0

    @classmethod
    def of(cls, fit: Fit, weight: float = 1.0) -> Prior:
        """Return the prior of an earlier round: its law and refits."""
        finite_draws = fit.draws_BP[np.isfinite(fit.draws_BP).all(axis=1)]
        draws = np.concatenate([fit.params_P[None], finite_draws[: DRAWS - 1]])
        return cls(fit.form, draws, weight)

    @classmethod
    def published(cls, *, flops: float = 1e20, seed: int = 0) -> Prior:
        """Return a prior for a first round: Chinchilla's law over the range of published values.

        Exponents are .25 to .5 and the floor is 1.4 to 2.1 nats per token. The optimum of `flops`
        FLOPs lies .4 to 1.2 nats above the floor, at 5 to 80 tokens per parameter (Hoffmann et al.
        2022; Besiroglu et al. 2024; Gadre et al. 2024; Porian et al. 2024).
        """
        rng = np.random.default_rng(seed)
        alpha, beta = rng.uniform(0.25, 0.5, (2, DRAWS))
        floor = rng.uniform(1.4, 2.1, DRAWS)
        excess = np.exp(rng.uniform(np.log(0.4), np.log(1.2), DRAWS))
        ratio = np.exp(rng.uniform(np.log(5), np.log(80), DRAWS))
        n = np.sqrt(flops / 6 / ratio)
        # at the optimum alpha A / N^alpha = beta B / D^beta
        size_term = excess * beta / (alpha + beta)
        a = np.log(size_term) + alpha * np.log(n)
        b = np.log(excess - size_term) + beta * np.log(n * ratio)
        return cls(FORMS["chinchilla"], np.stack([a, b, np.log(floor), alpha, beta], axis=1))


@dataclass(frozen=True)
class Target:
    """The quantity to predict: the loss of the compute-optimal run of `flops`, or its size."""

    flops: float
    quantity: str = "loss"  # or "n_opt"

    def __post_init__(self):
        if self.quantity not in QUANTITIES:
            raise UserError(
                f"target quantity {self.quantity!r} is unknown; choose from {', '.join(QUANTITIES)}"
            )


@dataclass(frozen=True)
class Proposal:
    """Proposed runs, dearest last, and the relative standard error expected of each target."""

    n_params: np.ndarray
    tokens: np.ndarray
    flops: np.ndarray
    se: dict[Target, float]  # of log quantity, in units of the noise of one run's log loss


@dataclass(frozen=True)
class _Problem:
    """A linearised prior: slopes of candidates and targets, and the information of known runs."""

    slopes_SKP: np.ndarray
    targets_STP: np.ndarray
    known_SPP: np.ndarray
    weight: float

    def information(self, count_K) -> np.ndarray:
        slopes_SKP = self.slopes_SKP
        added = np.einsum("k,skp,skq->spq", count_K, slopes_SKP, slopes_SKP, optimize=True)
        return self.known_SPP + added

    def variance(self, count_K) -> np.ndarray:
        """Return `[S, T]` variances of the targets after `count_K` runs of each candidate."""
        solved_SPT = self._solve(self.information(count_K))
        return np.einsum("stp,spt->st", self.targets_STP, solved_SPT)

    def _solve(self, information_SPP) -> np.ndarray:
        return np.linalg.solve(information_SPP, self.targets_STP.transpose(0, 2, 1))

    def gains(self, count_K) -> np.ndarray:
        """Return `[K]`, the derivative of minus the mean log variance by the number of each run."""
        solved_SPT = self._solve(self.information(count_K))
        variance_ST = np.einsum("stp,spt->st", self.targets_STP, solved_SPT)
        reach_SKT = self.slopes_SKP @ solved_SPT
        return (reach_SKT**2 / variance_ST[:, None, :]).mean((0, 2))

    def with_one_more(self, count_K) -> np.ndarray:
        """Return `[K]`, the mean log variance after one more run of each candidate."""
        information_SPP = self.information(count_K)
        solved_SPT = self._solve(information_SPP)
        variance_ST = np.einsum("stp,spt->st", self.targets_STP, solved_SPT)
        spread_SKP = self.slopes_SKP @ np.linalg.inv(information_SPP)
        leverage_SK = np.einsum("skp,skp->sk", spread_SKP, self.slopes_SKP)
        reach_SKT = self.slopes_SKP @ solved_SPT
        variance_SKT = variance_ST[:, None, :] - reach_SKT**2 / (1 + leverage_SK[..., None])
        floor_S1T = 1e-12 * variance_ST[:, None, :]
        return np.log(np.maximum(variance_SKT, floor_S1T)).mean((0, 2))


def propose(
    beliefs: Prior | Fit | Sequence[Prior | Fit],
    targets: Target | Sequence[Target],
    *,
    total_flops: float,
    max_runs: int,
    max_flops: float,
    min_flops: float = 0.0,
    tokens_per_param: tuple[float, float] = WIDE[1],
    done: Table | None = None,
    flops_per_n_d: float = 6.0,
) -> Proposal:
    """Propose at most `max_runs` runs of at most `total_flops` in all that narrow `targets` most.

    Each run costs `min_flops` (0: a three-thousandth of max_flops) to `max_flops` and has tokens
    per parameter within the given range. Optimal runs lie at the ends of these limits, where a
    wrong form misleads the most. Spend a part first. If the fit to it shows lack of fit, keep
    `CAREFUL` limits and only the rows `inside` them (benchmarks/design.py measures that rule).
    `done` are the runs of earlier rounds: fit them and pass the fit as a belief. Several beliefs,
    also of different forms, are averaged by their weights. Raises UserError if the runs are too few
    or too dear.
    """
    belief_list = [beliefs] if isinstance(beliefs, Prior | Fit) else beliefs
    priors = [Prior.of(b) if isinstance(b, Fit) else b for b in belief_list]
    targets = [targets] if isinstance(targets, Target) else list(targets)
    min_flops = min_flops or max_flops / WIDE[0]
    _check(priors, targets, total_flops, max_runs, max_flops, min_flops, tokens_per_param, done)
    flops_K, ratio_K = (
        axis.ravel()
        for axis in np.meshgrid(
            np.geomspace(min_flops, max_flops, BUDGETS),
            np.geomspace(*tokens_per_param, RATIOS),
            indexing="ij",
        )
    )
    n_K = np.sqrt(flops_K / flops_per_n_d / ratio_K)
    logs_K2 = np.log(np.stack([n_K, n_K * ratio_K], axis=1))
    logs_D2 = np.log(np.stack([done.n_params, done.tokens], axis=1)) if done else None
    problems = [_linearise(b, targets, logs_K2, logs_D2, flops_per_n_d) for b in priors]
    share_K = _fractional_runs(problems, flops_K, total_flops, max_runs)
    count_K = _round_runs(problems, share_K, flops_K, total_flops, max_runs)
    count_K = _exchange_runs(problems, count_K, flops_K, total_flops)
    run_index = np.repeat(np.arange(len(n_K)), count_K)
    total_weight = sum(p.weight for p in problems)
    variance_T = sum(
        p.weight / total_weight * np.exp(np.log(p.variance(count_K.astype(float))).mean(0))
        for p in problems
    )
    return Proposal(
        n_params=n_K[run_index],
        tokens=(n_K * ratio_K)[run_index],
        flops=flops_K[run_index],
        se={t: float(np.sqrt(v)) for t, v in zip(targets, variance_T, strict=True)},
    )


def inside(table: Table, max_flops: float, limits=CAREFUL) -> np.ndarray:
    """Return `[N]`, True for rows within the limits of a design with runs up to `max_flops`."""
    share, (low, high) = limits
    ratio = table.tokens / table.n_params
    ratio_fits = (ratio > 0.99 * low) & (ratio < 1.01 * high)
    return ratio_fits & (table.flops > 0.99 * max_flops / share)


def expected_se(
    belief: Prior | Fit, targets: Sequence[Target], runs: Table, flops_per_n_d: float = 6.0
) -> dict[Target, float]:
    """Return each target's expected standard error after `runs`, to compare plans.

    It is that of the target's log, in units of the noise of one run's log loss.
    """
    belief = Prior.of(belief) if isinstance(belief, Fit) else belief
    logs_R2 = np.log(np.stack([runs.n_params, runs.tokens], axis=1))
    problem = _linearise(belief, targets, logs_R2, None, flops_per_n_d)
    variance_T = np.exp(np.log(problem.variance(np.ones(len(runs)))).mean(0))
    return {t: float(np.sqrt(v)) for t, v in zip(targets, variance_T, strict=True)}


def _check(beliefs, targets, total, runs, dearest, cheapest, ratios, done) -> None:
    if not beliefs or not targets:
        raise UserError("propose: needs at least one belief and one target")
    for belief in beliefs:
        if belief.form.inputs != ("n_params", "tokens"):
            raise UserError(
                f"propose: form {belief.form.name} is not a law of n_params and tokens alone"
            )
        if runs + (len(done) if done else 0) < len(belief.form.parameters):
            raise UserError(
                f"propose: max_runs={runs} cannot determine the {len(belief.form.parameters)} "
                f"parameters of {belief.form.name}; allow more"
            )
    if not 0 < cheapest < dearest < np.inf:
        raise UserError(f"propose: min_flops={cheapest:g} must lie below max_flops={dearest:g}")
    if not 0 < ratios[0] < ratios[1] < np.inf:
        raise UserError(
            f"propose: tokens_per_param={ratios} must be (low, high), both positive and finite"
        )
    if runs * cheapest > total:
        raise UserError(
            f"propose: {runs} runs of at least {cheapest:.3g} FLOPs cost more than "
            f"total_flops={total:.3g}; lower min_flops or max_runs"
        )


def _linearise(belief: Prior, targets, logs_K2, logs_D2, flops_per_n_d) -> _Problem:
    form, draws_SP = belief.form, np.asarray(belief.params_SP, float)
    slopes_SKP = _slopes(lambda p: log_prediction(form, p, logs_K2), draws_SP)
    columns = [
        _slopes(lambda p, t=t: _target_log(form, p, draws_SP, t, flops_per_n_d), draws_SP)
        for t in targets
    ]
    P = draws_SP.shape[1]
    known_SPP = np.zeros((len(draws_SP), P, P))
    if logs_D2 is not None:
        done_SDP = _slopes(lambda p: log_prediction(form, p, logs_D2), draws_SP)
        known_SPP = np.einsum("sdp,sdq->spq", done_SDP, done_SDP)
    # make it invertible with a millionth of one run's mean information on each parameter
    scale_SP = 1e-6 * (slopes_SKP**2).mean(1)
    known_SPP = known_SPP + np.eye(P) * np.maximum(scale_SP, 1e-300)[:, None, :]
    return _Problem(slopes_SKP, np.concatenate(columns, axis=1), known_SPP, belief.weight)


def _slopes(function, draws_SP) -> np.ndarray:
    """Return `[S, K, P]` central differences of a `[S, K]` function of the draws."""
    columns = []
    for p in range(draws_SP.shape[1]):
        step = np.zeros(draws_SP.shape[1])
        step[p] = STEP
        columns.append((function(draws_SP + step) - function(draws_SP - step)) / (2 * STEP))
    return np.stack(columns, axis=-1)


def _target_log(form: Form, moved_SP, draws_SP, target: Target, flops_per_n_d) -> np.ndarray:
    """Return `[S, 1]` logs of the target, with the loss at the optimum of the unmoved law.

    dL/dN at equal compute is 0 at that point, so the loss at the moved optimum has the same slopes.
    """
    product = target.flops / flops_per_n_d
    at_SP = moved_SP if target.quantity == "n_opt" else draws_SP
    n_opt, tokens_opt = closed_form(form.name, form.natural(at_SP), product)
    if target.quantity == "n_opt":
        return np.log(n_opt)[:, None]
    rows = [
        log_prediction(form, p[None], np.log([[n, d]]))[0]
        for p, n, d in zip(moved_SP, n_opt, tokens_opt, strict=True)
    ]
    return np.stack(rows)


def _fractional_runs(problems, flops_K, total: float, runs: int) -> np.ndarray:
    """Return `[K]` fractional numbers of runs: at most `runs` in sum and `total` FLOPs."""
    share_K = np.full(len(flops_K), 1.0)
    share_K *= min(total / (share_K @ flops_K), runs / share_K.sum())
    for _ in range(ITERATIONS):
        gain_K = share_K * sum(p.weight * p.gains(share_K) for p in problems)
        total_gain = gain_K.sum()

        def runs_at_price(per_run, gain_K=gain_K, total_gain=total_gain):
            # at the optimum a run's gain equals its price: per_run + per_flop * flops
            per_flop = (total_gain - per_run * runs) / total
            return gain_K / (per_flop * flops_K + per_run)

        low, high = 0.0, total_gain / runs * (1 - 1e-9)
        for _ in range(40 if runs_at_price(0.0).sum() > runs else 0):
            middle = (low + high) / 2
            low, high = (middle, high) if runs_at_price(middle).sum() > runs else (low, middle)
        share_K = runs_at_price(high if low > 0 else 0.0)
    return share_K * min(1.0, total / (share_K @ flops_K), runs / share_K.sum())


def _score(problems, count_K) -> np.ndarray:
    """Return `[K]`, the mean log variance over all beliefs after one more of each candidate."""
    total_weight = sum(p.weight for p in problems)
    return sum(p.weight * p.with_one_more(count_K.astype(float)) for p in problems) / total_weight


def _round_runs(problems, share_K, flops_K, total: float, runs: int) -> np.ndarray:
    """Round down to `[K]` whole numbers of runs, then add the best run one at a time."""
    count_K = np.floor(share_K + 1e-9).astype(int)
    while count_K.sum() < runs:
        spare_flops = total - count_K @ flops_K
        # keep enough for the runs still to come
        spare_flops -= (runs - count_K.sum() - 1) * flops_K.min()
        score_K = np.where(flops_K <= spare_flops * (1 + 1e-12), _score(problems, count_K), np.inf)
        if not np.isfinite(score_K).any():
            break
        count_K[int(score_K.argmin())] += 1
    return count_K


def _exchange_runs(problems, count_K, flops_K, total: float) -> np.ndarray:
    """Exchange single runs for better ones until no exchange helps."""
    for _ in range(PASSES):
        changed = False
        for k in np.flatnonzero(count_K):
            fewer_K = count_K.copy()
            fewer_K[k] -= 1
            spare_flops = total - fewer_K @ flops_K
            score_K = np.where(
                flops_K <= spare_flops * (1 + 1e-12), _score(problems, fewer_K), np.inf
            )
            best = int(score_K.argmin())
            if best != k and score_K[best] < score_K[k] - 1e-6:
                fewer_K[best] += 1
                count_K, changed = fewer_K, True
        if not changed:
            break
    return count_K
