"""Analyse grids and random searches: loss against every swept key, and the best setting.

The learning rate and the batch size have an optimum in each group of runs that agree in all other
keys. A parabola through log loss near the lowest gives it (`laws/lr_batch_optima.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from scaling.analysis import columns, conditions, swept_keys
from scaling.analysis.saved_curve import Analysis, SavedCurve
from scaling.analysis.swept_keys import Axis
from scaling.laws.lr_batch_law import NEAR
from scaling.laws.lr_batch_optima import Tuned, tuned
from scaling.laws.seeds import Repeats, repeats
from scaling.laws.table import CannotFit, make_table
from scaling.report import panels
from scaling.results import RunResult
from scaling.utils import notices, precision
from scaling.utils.notices import Notice

TUNED = {  # key: (name, column)
    "optim.lr": ("lr", "lr"),
    "train.batch_size": ("batch", "batch_tokens"),
}
Group = tuple[dict[str, Any], Tuned]  # the setting of a group's runs, and their optimum
SHOWN = 5  # settings in the summary


def grid(rows: list[RunResult], workdir: Path, config: ConfigDict) -> Analysis:
    """Return the curve `swept`, with a panel per key that differs between the runs.

    Runs that differ only in the seed are repeats. Raises CannotFit if no run has finished, or none
    of these has a readable config.
    """
    used, left_out = columns.require_runs(rows)
    flat, missing = swept_keys.configs(used, workdir)
    kept = [i for i, f in enumerate(flat) if f]
    if not kept:
        raise CannotFit(f"no run has a config.json that can be read; first: {missing[0]}")
    used, flat = [used[i] for i in kept], [flat[i] for i in kept]
    axes = swept_keys.axes(flat, conditions.set_by_rule(config))
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
            name: [_json(setting, t) for setting, t in pairs] for name, pairs in optima.items()
        },
        "diagnostics": {
            "refused": None if axes else "the runs differ in their seed alone",
            **notices.as_json("warnings", _warnings(axes, points)),
        },
    }
    picture = panels.picture(
        _runs(axes, used, points),
        {a.name: {"label": ", ".join(a.keys), "texts": _texts(a)} for a in axes},
        {name: _stars(pairs) for name, pairs in optima.items()},
        _diverged(rows, axes, workdir),
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
    """Return whether an axis is lr or batch size alone, with no key that changes with it."""
    return len(axis.keys) == 1 and axis.keys[0] in TUNED


def _optima(axis: Axis, axes: list[Axis], used: list[RunResult], config: ConfigDict) -> list[Group]:
    """Return the optimum of a hyperparameter in every group of runs that agree in untuned axes.

    Groups with one value of it have none. In a random search over several keys, every group is so.
    """
    name, _ = TUNED[axis.keys[0]]
    fixed = [a for a in axes if not _tunable(a)]
    others = [a.positions() for a in fixed]
    member_N = repeats(others or [np.zeros(len(used))], np.zeros(len(used))).member_N
    by_key = {a.keys[0]: a for a in axes}  # in the key's unit, as on the picture's axis
    optima: list[Group] = []
    for group in range(member_N.max() + 1):
        members = np.flatnonzero(member_N == group)
        if len({axis.values[i] for i in members}) == 1:
            continue
        group_runs = [used[i] for i in members]
        table = make_table(
            n_params=columns.numbers(group_runs, "n_params", config),
            tokens=columns.numbers(group_runs, "tokens", config),
            loss=[r.loss for r in group_runs],
            **{
                n: [by_key[key].values[i] for i in members]
                if key in by_key
                else columns.numbers(group_runs, column, config)
                for key, (n, column) in TUNED.items()
            },
        )
        options = {"bootstrap": config.laws.bootstrap, "confidence": config.laws.confidence}
        setting = {a.keys[0]: a.values[members[0]] for a in fixed}
        optima += [(setting, t) for t in tuned(table, name, near=NEAR, **options)]
    return optima


def _best(axis: Axis, points: Repeats) -> list[dict[str, Any]]:
    """Return the lowest loss over the other keys, for each value of this one."""
    values = [axis.values[i] for i in points.first_P]
    rows = []
    for value in sorted(set(values), key=str if not axis.numeric else float):
        points_of_value = [p for p, v in enumerate(values) if v == value]
        best = min(points_of_value, key=lambda p: points.mean_P[p])
        rows.append({"value": value, **_measured(points, best)})
    return rows


def _measured(points: Repeats, p: int) -> dict[str, Any]:
    sd = float(points.sd_P[p])
    return {
        "loss": float(points.mean_P[p]),
        "sd": sd if np.isfinite(sd) else None,
        "seeds": int(points.count_P[p]),
    }


def _setting(axes: list[Axis], points: Repeats, p: int) -> dict[str, Any]:
    """Return the values of a setting's keys and its loss."""
    row = int(points.first_P[p])
    return {"setting": {a.keys[0]: a.values[row] for a in axes}, **_measured(points, p)}


def _warnings(axes: list[Axis], points: Repeats) -> list[Notice]:
    """Return notices if the best setting is at an edge, or not distinct from the second."""
    best, warnings = int(points.mean_P.argmin()), []
    for axis in axes:
        value = axis.values[points.first_P[best]]
        if (
            axis.numeric
            and len(set(axis.values)) > 2
            and value in (min(axis.values), max(axis.values))
        ):
            text = f"{axis.keys[0]}={value!r}: the best value is at the edge of those tried"
            warnings.append(Notice(notices.EDGE_OF_GRID, text))
    if len(points.mean_P) > 1:
        second = int(points.mean_P.argsort()[1])
        gap = float(points.mean_P[second] - points.mean_P[best])
        error = points.pooled * np.sqrt(1 / points.count_P[best] + 1 / points.count_P[second])
        if not np.isfinite(points.pooled):
            text = "one seed per setting: whether the best differs from the next is unknown"
            warnings.append(Notice(notices.ONE_SEED, text))
        elif gap < 2 * error:
            text = (
                f"the best and the next setting differ by {gap:.2g}, seeds by {points.pooled:.2g}: "
                "they are not told apart"
            )
            warnings.append(Notice(notices.TIED_SETTINGS, text))
    return warnings


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
    """Return a row per setting: position on each axis, mean loss, and spread of seeds."""
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
    """Return the texts of an axis's ticks, none if its values are numbers."""
    return [] if axis.numeric else sorted(set(map(str, axis.values)))


def _stars(optima: list[Group]) -> dict[str, np.ndarray]:
    """Return the optima without a problem as columns."""
    good = [t for _, t in optima if not t.problem]
    return {
        "at": np.array([t.optimum.value for t in good]),
        "low": np.array([t.optimum.low for t in good]),
        "high": np.array([t.optimum.high for t in good]),
        "loss": np.array([t.loss for t in good]),
    }


def _diverged(rows: list[RunResult], axes: list[Axis], workdir: Path) -> dict[str, np.ndarray]:
    """Return the positions of diverged runs on the axes of numbers. They have no loss."""
    flat = swept_keys.configs(
        [r for r in rows if r.status == "diverged" and r.role == "sweep"], workdir
    )[0]
    configs = [f for f in flat if f]
    return {
        a.name: np.array([float(f.get(a.keys[0], np.nan)) for f in configs])
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
        mean = precision.with_error(points.mean_P[p], points.sd_P[p] if count > 1 else None)
        ends = f" (s.d. of {count} seeds)" if count > 1 else ""
        lines.append(f"  loss {mean}{ends}  {values}")
    for name, pairs in optima.items():
        if not pairs:
            continue
        lines.append(f"Optimum of {name}, a parabola near the lowest loss")
        for setting, t in pairs:
            outcome = t.problem or f"{t.optimum.brief()}, loss {t.loss:.4f}"
            keys = "  ".join(f"{k.rpartition('.')[2]} {_text(v)}" for k, v in setting.items())
            lines.append(f"  {keys or 'all runs'}: {outcome}")
    return lines + [f"  warning: {w}" for w in _warnings(axes, points)]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
