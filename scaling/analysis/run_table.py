"""Build the table of a fit from the rows of a sweep's table."""

from __future__ import annotations

from ml_collections import ConfigDict

from scaling.laws.table import Table, make_table
from scaling.results import RunResult
from scaling.utils import notices
from scaling.utils.notices import Notice

MANY_EPOCHS = 4.0  # up to here, repeats are worth nearly as much (Muennighoff et al. 2023)


def usable(rows: list[RunResult]) -> tuple[list[RunResult], list[Notice]]:
    """Return the finished runs of the sweep, and a notice with the reason for each other row."""
    excluded = [
        Notice(notices.UNFINISHED_RUN, f"{r.run_id}: {r.status}, {r.reason}")
        for r in rows
        if r.status != "done"
    ]
    excluded += [
        Notice(notices.OTHER_ROLE, f"{r.run_id}: {r.role} run")
        for r in rows
        if r.status == "done" and r.role != "sweep"
    ]
    return [r for r in rows if r.status == "done" and r.role == "sweep"], excluded


def sweep_table(rows: list[RunResult], config: ConfigDict, min_steps: int = 0) -> Table:
    """Return the finished runs of the sweep in the config's conventions; others are `excluded`.

    Runs of fewer than `min_steps` optimizer steps are left out too: a run that has hardly left its
    warm-up is not on the power law in D that L(N, D) assumes.
    """
    finished, excluded = usable(rows)
    used = []
    for r in finished:
        steps = r.tokens // r.batch_tokens
        if steps < min_steps:
            text = f"{r.run_id}: {steps} steps, fewer than config.laws.min_steps={min_steps}"
            excluded.append(Notice(notices.SHORT_RUN, text))
        else:
            used.append(r)
    schedules = sorted({r.schedule for r in used})
    warnings = []
    if len(schedules) > 1:
        text = (
            f"runs of mixed schedules ({', '.join(schedules)}): losses at equal N and D differ by "
            "schedule; fit them apart"
        )
        warnings.append(Notice(notices.MIXED_SCHEDULES, text))
    warnings += repeated(used)
    return make_table(
        warnings=warnings,
        n_params=[getattr(r, config.laws.n_params) for r in used],
        tokens=[r.tokens for r in used],
        flops=[getattr(r, config.laws.flops) for r in used],
        loss=[r.loss for r in used],
        budget=[r.budget for r in used],
        names=[r.run_id for r in used],
        excluded=excluded,
    )


def repeated(rows: list[RunResult]) -> list[Notice]:
    """Return a notice if runs repeat their data so often that repeats cost loss."""
    most = max((r.epochs for r in rows), default=0.0)
    if most <= MANY_EPOCHS:
        return []
    text = (
        f"runs go through the training data up to {most:.3g} times: "
        "the law is that of repeated data"
    )
    return [Notice(notices.REPEATED_DATA, text)]
