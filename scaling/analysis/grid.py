"""Grids and random searches: loss against every swept key, the best setting, and how sure seeds
make it.

Where the key is the learning rate or the batch size, a parabola through log loss near the lowest
gives its optimum (`laws/tuned.py`) in each group of runs alike in all else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from scaling.analysis import columns, swept_keys
from scaling.analysis.saved_curve import Analysis, SavedCurve
from scaling.analysis.swept_keys import Axis
from scaling.laws.lr_batch_law import NEAR
from scaling.laws.lr_batch_optima import Tuned, tuned
from scaling.laws.seeds import Repeats, repeats
from scaling.laws.table import CannotFit, make_table
from scaling.report import panels
from scaling.results import RunResult
from scaling.utils import notices
from scaling.utils.notices import Notice

TUNED = {
    "optim.lr": ("lr", "lr"),
    "train.batch_size": ("batch", "batch_tokens"),
}  # key: (name, column)
Group = tuple[dict[str, Any], Tuned]  # the setting that a group's runs share, and their optimum
SHOWN = 5  # settings in the summary


def grid(rows: list[RunResult], workdir: Path, config: ConfigDict) -> Analysis:
    """Curve `swept`: a panel per key that differs between the runs, whatever planned them.

    Runs of equal settings but for the seed are repeats. Raises CannotFit where no run has finished.
    """
    used, left_out = columns.require_runs(rows)
    flat, missing = swept_keys.configs(used, workdir)
    kept = [i for i, f in enumerate(flat) if f]
    if not kept:
        raise CannotFit(f"no run has a config.json that can be read; first: {missing[0]}")
    used, flat = [used[i] for i in kept], [flat[i] for i in kept]
    axes = swept_keys.axes(flat)
    points = repeats([a.positions() for a in axes] or [np.zeros(len(used))], [r.loss for r in used])
    optima = {axis.name: _optima(axis, axes, used, config) for axis in axes if _tunable(axis)}
    law = {
        "estimator": "mean over seeds per setting; lr and batch: a parabola in log loss near the "
        "lowest",
        "equation": "log L = c0 + c1 x + c2 x^2, x = log lr or log batch",
        "parameters": {
            axis.name: {"keys": list(axis.keys), "best": _best(axis, points)} for axis in axes
        },
        "best": _setting(axes, points, int(points.mean_P.argmin())),
        "noise_of_a_seed": points.pooled,
        "optima": {
            name: [_json(setting, t) for setting, t in found] for name, found in optima.items()
        },
        "diagnostics": {
            "refused": None if axes else "the runs differ in their seed alone",
            **notices.as_json("warnings", _warnings(axes, points)),
        },
    }
    picture = panels.picture(
        _runs(axes, used, points),
        {a.name: {"label": ", ".join(a.keys), "texts": _texts(a)} for a in axes},
        {name: _stars(found) for name, found in optima.items()},
        _lost(rows, axes, workdir),
        columns.labels(config),
    )
    return Analysis(
        curves={"swept": SavedCurve(law, picture)},
        lines=_summary(axes, points, optima),
        used=used,
        left_out=[*left_out, *missing],
        ranges={a.name: [float(min(a.values)), float(max(a.values))] for a in axes if a.numeric},
    )


def _tunable(axis: Axis) -> bool:
    """lr or batch size by itself: where something changes with it, its optimum is not its own."""
    return len(axis.keys) == 1 and axis.keys[0] in TUNED


def _optima(axis: Axis, axes: list[Axis], used: list[RunResult], config: ConfigDict) -> list[Group]:
    """The optimum of one hyperparameter in every group of runs alike in the axes that are not
    tuned.

    Groups with one value of it have none; random draws of several keys are all of that sort.
    """
    name, _ = TUNED[axis.keys[0]]
    fixed = [a for a in axes if not _tunable(a)]
    others = [a.positions() for a in fixed]
    member_N = repeats(others or [np.zeros(len(used))], np.zeros(len(used))).member_N
    tried = {a.keys[0]: a for a in axes}  # in the unit of the key, as the picture's axis has it
    found: list[Group] = []
    for group in range(member_N.max() + 1):
        members = np.flatnonzero(member_N == group)
        if len({axis.values[i] for i in members}) == 1:
            continue
        here = [used[i] for i in members]
        table = make_table(
            n_params=columns.numbers(here, "n_params", config),
            tokens=columns.numbers(here, "tokens", config),
            loss=[r.loss for r in here],
            **{
                n: [tried[key].values[i] for i in members]
                if key in tried
                else columns.numbers(here, column, config)
                for key, (n, column) in TUNED.items()
            },
        )
        options = {"bootstrap": config.laws.bootstrap, "confidence": config.laws.confidence}
        setting = {a.keys[0]: a.values[members[0]] for a in fixed}
        found += [(setting, t) for t in tuned(table, name, near=NEAR, **options)]
    return found


def _best(axis: Axis, points: Repeats) -> list[dict[str, Any]]:
    """For each value of a key the best loss that any setting of the others has with it."""
    values = [axis.values[i] for i in points.first_P]
    found = []
    for value in sorted(set(values), key=str if not axis.numeric else float):
        here = [p for p, v in enumerate(values) if v == value]
        best = min(here, key=lambda p: points.mean_P[p])
        found.append({"value": value, **_measured(points, best)})
    return found


def _measured(points: Repeats, p: int) -> dict[str, Any]:
    sd = float(points.sd_P[p])
    return {
        "loss": float(points.mean_P[p]),
        "sd": sd if np.isfinite(sd) else None,
        "seeds": int(points.count_P[p]),
    }


def _setting(axes: list[Axis], points: Repeats, p: int) -> dict[str, Any]:
    """One setting: the values of its keys and its loss."""
    row = int(points.first_P[p])
    return {"setting": {a.keys[0]: a.values[row] for a in axes}, **_measured(points, p)}


def _warnings(axes: list[Axis], points: Repeats) -> list[Notice]:
    """Return notices on a best setting at the edge of its values, or not distinct from the next."""
    best, found = int(points.mean_P.argmin()), []
    for axis in axes:
        value = axis.values[points.first_P[best]]
        if (
            axis.numeric
            and len(set(axis.values)) > 2
            and value in (min(axis.values), max(axis.values))
        ):
            text = f"{axis.keys[0]}={value!r}: the best value is at the edge of those tried"
            found.append(Notice(notices.EDGE_OF_GRID, text))
    if len(points.mean_P) > 1:
        second = int(points.mean_P.argsort()[1])
        gap = float(points.mean_P[second] - points.mean_P[best])
        error = points.pooled * np.sqrt(1 / points.count_P[best] + 1 / points.count_P[second])
        if not np.isfinite(points.pooled):
            text = "one seed per setting: whether the best differs from the next is unknown"
            found.append(Notice(notices.ONE_SEED, text))
        elif gap < 2 * error:
            text = (
                f"the best and the next setting differ by {gap:.2g}, seeds by {points.pooled:.2g}: "
                "they are not told apart"
            )
            found.append(Notice(notices.TIED_SETTINGS, text))
    return found


def _json(setting: dict[str, Any], t: Tuned) -> dict[str, Any]:
    low, high = t.tolerated
    return {
        "setting": setting,
        **t.inputs,
        "optimum": t.optimum.as_dict(),
        "loss": t.loss,
        "range_within_1_percent": [low, high],
        "problem": str(t.problem or ""),
    }


def _runs(axes: list[Axis], used: list[RunResult], points: Repeats) -> dict[str, Any]:
    """Every setting as a row: where it stands on each axis, mean loss, deviation and number of
    seeds.
    """
    first = points.first_P
    return {
        "run_id": np.array([used[i].run_id for i in first]),
        **{a.name: a.positions()[first] for a in axes},
        "loss": points.mean_P,
        "sd": points.sd_P,
        "count": points.count_P,
        "loss_se": np.array([used[i].loss_se for i in first], float),
    }


def _texts(axis: Axis) -> list[str]:
    """Names of the places on an axis of text; none where it is of numbers."""
    return [] if axis.numeric else sorted(set(map(str, axis.values)))


def _stars(found: list[Group]) -> dict[str, np.ndarray]:
    good = [t for _, t in found if not t.problem]
    return {
        "at": np.array([t.optimum.value for t in good]),
        "low": np.array([t.optimum.low for t in good]),
        "high": np.array([t.optimum.high for t in good]),
        "loss": np.array([t.loss for t in good]),
    }


def _lost(rows: list[RunResult], axes: list[Axis], workdir: Path) -> dict[str, np.ndarray]:
    """Diverged runs: where they stand on the axes of numbers; they have no loss."""
    flat = swept_keys.configs(
        [r for r in rows if r.status == "diverged" and r.role == "sweep"], workdir
    )[0]
    known = [f for f in flat if f]
    return {
        a.name: np.array([float(f.get(a.keys[0], np.nan)) for f in known])
        for a in axes
        if a.numeric
    }


def _summary(axes: list[Axis], points: Repeats, optima: dict[str, list[Group]]) -> list[str]:
    order = points.mean_P.argsort(kind="stable")
    lines = [
        f"{len(order)} settings of {', '.join(a.keys[0] for a in axes) or 'the seed'}; the best:"
    ]
    for p in order[:SHOWN]:
        row = points.first_P[p]
        values = "  ".join(f"{a.name} {_text(a.values[row])}" for a in axes)
        count = points.count_P[p]
        ends = f" +- {points.sd_P[p]:.4f} (s.d. of {count} seeds)" if count > 1 else ""
        lines.append(f"  loss {points.mean_P[p]:.4f}{ends}  {values}")
    for name, found in optima.items():
        if not found:
            continue
        lines.append(f"Optimum of {name}, a parabola near the lowest loss")
        for setting, t in found:
            said = t.problem or f"{t.optimum.brief()}, loss {t.loss:.4f}"
            at = "  ".join(f"{k.rpartition('.')[2]} {_text(v)}" for k, v in setting.items())
            lines.append(f"  {at or 'all runs'}: {said}")
    return lines + [f"  warning: {w}" for w in _warnings(axes, points)]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
