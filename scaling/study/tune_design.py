"""Choose the runs that fit a recipe: sizes, lengths, rates, batches and time scales of decay.

A cell is one size at one length. Every cell has rates at the config's batch. Some cells also have
other batches, each at three rates, and other values of tau = B / (lr lambda D), the share of the
run that AdamW's weight decay remembers. Three sizes, lengths, batches and taus are the least that
shows an exponent and a minimum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ml_collections import ConfigDict

from scaling.config import load as config_lib
from scaling.sweep.plan import ladder, planner
from scaling.sweep.plan.ladder import Rung
from scaling.sweep.plan.planner import PlannedRun
from scaling.sweep.plan.run_recipe import rounded
from scaling.utils.errors import UserError

SIZE_STEP = 2.5  # wanted ratio of n_params between sizes
LENGTHS = (1.0, 2.5, 6.0)  # of the shortest
RATES = (0.25, 0.5, 1.0, 2.0, 4.0)  # around the guess
STEP = 4.0  # ratio of batches, and of taus
RATES_OF_BATCH = (0.5, 1.0, 2.0)  # around the guess times the root of the batch's factor
TAU = 0.8  # where the study's weight decay is 0, which has no tau
WITH_BATCHES = ((0, 0), (0, 2), (1, 1), (2, 0))  # (size, length) of cells with batches and taus
LEFT_OUT = ((2, 2),)  # the dearest cell
MIN_STEPS = 50  # of the shortest run at the largest batch


@dataclass(frozen=True)
class Trial:
    """The hyperparameters of one run of the design."""

    size: int
    length: int
    lr: float  # as a factor of the guess of its size
    batch: float = 1.0  # as a factor of the design's
    tau: float = 1.0


def trials() -> list[Trial]:
    """Return the design, cells in order of size and length."""
    made = []
    for size in range(3):
        for length in range(len(LENGTHS)):
            if (size, length) in LEFT_OUT:
                continue
            made += [Trial(size, length, lr) for lr in RATES]
            if (size, length) in WITH_BATCHES:
                made += [
                    Trial(size, length, lr * math.sqrt(batch), batch=batch)
                    for batch in (1 / STEP, STEP)
                    for lr in RATES_OF_BATCH
                ]
                made += [
                    Trial(size, length, lr, tau=tau)
                    for tau in (1 / STEP, STEP)
                    for lr in (1.0, 2.0)
                ]
    return made


def sizes(config: ConfigDict) -> list[Rung]:
    """Return three rungs of the study's ladder, the smallest and two about SIZE_STEP apart.

    Raises UserError if the ladder has fewer than three sizes.
    """
    rungs = ladder.ladder(config)
    if len(rungs) < 3:
        raise UserError(
            f"config.sweep.rungs={config.sweep.rungs}: a recipe is fitted to three sizes; raise it"
        )
    chosen = [0]
    for left in (2, 1):
        wanted = rungs[chosen[-1]].n_params * SIZE_STEP
        above = range(chosen[-1] + 1, len(rungs) - left + 1)
        chosen.append(min(above, key=lambda i: abs(math.log(rungs[i].n_params / wanted))))
    return [rungs[i] for i in chosen]


@dataclass(frozen=True)
class Design:
    """A study's design, once the length of its shortest run and the guesses are known."""

    config: ConfigDict
    rungs: list[Rung]
    shortest: float  # tokens
    guesses: tuple[float, ...]  # of the best rate, by size
    tau: float
    devices: int  # over which a batch divides

    @property
    def rows(self) -> int:
        """Return the rows of the usual batch: STEP times the smallest that divides over devices."""
        smallest = max(self.devices, self.config.train.batch_size // STEP)
        return round(STEP * math.ceil(smallest / self.devices) * self.devices)

    def planned(self, trial: Trial) -> PlannedRun:
        """Return the run of a trial. Raises UserError if it is no run."""
        return run_of(
            self.config,
            self.rungs[trial.size],
            tokens=self.shortest * LENGTHS[trial.length],
            lr=self.guesses[trial.size] * trial.lr,
            rows=round(self.rows * trial.batch),
            tau=self.tau * trial.tau,
        )


def run_of(
    config: ConfigDict, rung: Rung, *, tokens: float, lr: float, rows: int, tau: float
) -> PlannedRun:
    """Return the run of a size with this rate, batch and tau; its tokens are whole steps.

    Raises UserError if it is no run.
    """
    per_step = config_lib.targets_per_row(config) * rows
    steps, lr = max(1, round(tokens / per_step)), rounded(lr)
    values = {
        **rung.values(),
        "train.batch_size": rows,
        "train.tokens": steps * per_step,
        "optim.lr": lr,
        "optim.weight_decay": rounded(1 / (lr * tau * steps)),  # B / (lr tau D)
        "sweep.kind": "none",
    }
    return planner.plan_run(config_lib.with_values(config, values))


def tau_of(config: ConfigDict) -> float:
    """Return the tau of the run that the config itself describes; TAU without weight decay."""
    o, tokens = config.optim, config.train.tokens
    if not o.weight_decay:
        return TAU
    batch = config.train.batch_size * config_lib.targets_per_row(config)
    return min(batch / (o.lr * o.weight_decay * tokens), TAU)


def wider(trial: Trial, lower: bool) -> Trial:
    """Return the trial of the next rate beyond the grid."""
    return replace(trial, lr=trial.lr * (0.5 if lower else 2.0))


def scout(rates: int = 7) -> Iterator[Trial]:
    """Yield trials of the cheapest cell over two decades of rates."""
    for k in range(rates):
        yield Trial(0, 0, 2.0 ** (1.1 * (k - rates // 2)))
