"""Tell points of training curves from runs, keep the last point of each, and find mixed families.

Rows look like curves if, in the order of the file, tokens grow from row to row of one size, and the
rows are at least 40 per size, or at least 8 at equal distances, or carry one name per run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from scaling.laws.table import Table
from scaling.utils import notices, number_text
from scaling.utils.errors import UserError
from scaling.utils.notices import Notice
from scaling.utils.number_text import cut
from scaling.utils.table_file import FILE, Row, TableFile

MANY, SEVERAL, FEW = 40, 8, 3  # rows of a curve: of any, of evenly spaced, of named ones
EVEN = 0.05  # standard deviation of the distances over their mean
MOST_LABELS = 20  # values of a column of families
MOST = 0.7  # share of the rows that must lie on curves
SEED_NAME = re.compile(r"(?i)^((random_?)?seed|rep(eat|licate)?|trial)s?$")
RUN_NAME = re.compile(r"(?i)(^|_)run(_?(name|id))?$|^(hyper_?id|uid|trial|job(_id)?|experiment)$")
STEP_NAME = re.compile(r"(?i)^(global_?)?(steps?|iter(ation)?s?|updates?|epochs?)$")
FAMILY_NAME = re.compile(
    r"(?i)(^|_)(experts?|optimi[sz]er|schedule|recipe|famil(y|ies)|router(_type)?|"
    r"arch(itecture)?|dataset(_name)?|corpus|domain|task|tokeni[sz]er|activation|variant|"
    r"method|model_type|hparams)$"
)


def last_rows(
    file: TableFile,
    rows: Sequence[Row],
    step: str,
    mapping: Mapping[str, str],
    labels: str,
    decimal: str,
    excluded: list[Notice],
) -> list[Row]:
    """Return the row of each run with the largest `step`; the others are appended to `excluded`.

    A run is a file, and in it a label of the column `labels`, else a size and a seed. Points
    without a loss are passed over. Raises UserError where a run's steps repeat or restart.
    """
    style = number_text.styles(
        {step: [(r.name, r.cells[step]) for r in rows]}, {step: number_text.COUNT}, decimal
    )[step]
    names = [labels] if labels else [mapping[m] for m in ("n_params", "seed") if m in mapping]
    keys = [FILE, *(name for name in names if not name.startswith(FILE))]
    target = mapping.get("loss") or mapping.get("error", "")
    used = [name for name in mapping.values() if not name.startswith(FILE)]
    runs: dict[tuple[str, ...], dict[tuple[str, ...], tuple[float, Row]]] = {}
    for row in rows:
        try:
            value = number_text.value(row.cells[step], style, number_text.COUNT)[0]
        except ValueError:
            text = f"{row.name}: {step}={cut(row.cells[step])} is not a number"
            excluded.append(Notice(notices.UNREADABLE_CELL, text))
            continue
        if target and not row.cells[target]:
            text = f"{row.name}: no {target} at {step}={cut(row.cells[step])}"
            excluded.append(Notice(notices.CURVE_POINT, text))
            continue
        run = runs.setdefault(tuple(row.cells[k] for k in keys), {})
        # a run that was killed and resumed repeats rows, with equal cells
        run.setdefault((row.cells[step], *(row.cells[name] for name in used)), (value, row))
    kept = set()
    for points in runs.values():
        values = [value for value, _ in points.values()]
        distances = np.diff(values)
        if not (np.all(distances > 0) or np.all(distances < 0)):
            at = int(np.flatnonzero(np.sign(distances) != np.sign(distances[0] or 1.0))[0]) + 1
            row = list(points.values())[at][1]
            raise UserError(
                f"{file.path}: {row.name}: {step}={cut(row.cells[step])} repeats or restarts "
                "within one run; name the column that tells runs apart, --blocks=COLUMN"
            )
        kept.add(max(points.values(), key=lambda point: point[0])[1].name)
    said = {notice.text.partition(":")[0] for notice in excluded}
    for row in rows:
        if row.name not in kept and row.name not in said:
            text = f"{row.name}: not the last {step} of its run"
            excluded.append(Notice(notices.CURVE_POINT, text))
    return [row for row in rows if row.name in kept]


def suspicions(
    table: Table, rows: Sequence[Row], mapping: Mapping[str, str], resampled: bool
) -> list[Notice]:
    """Return notices on points of training curves and on families mixed in one table.

    `resampled`: the user has said which rows belong together.
    """
    if not {"n_params", "loss"} <= set(mapping) or "tokens" not in table or not rows:
        return []
    found = [] if resampled else _curves(table, rows, mapping)
    return [*found, *_families(table, rows, mapping)]


def _curves(table: Table, rows: Sequence[Row], mapping: Mapping[str, str]) -> list[Notice]:
    others = [c for c in rows[0].cells if c not in mapping.values() and c != FILE]
    run_names = [c for c in others if RUN_NAME.search(c)]
    growing = mapping.get("tokens") or mapping.get("flops") or ""
    by_size = [f"{n:.9g}" for n in table.n_params]
    for labels, least, name in (
        *(([r.cells[c] for r in rows], FEW, c) for c in run_names),
        (by_size, SEVERAL, ""),
    ):
        segments = _segments(labels, table.tokens)
        long = [s for s in segments if len(s) >= least]
        if not long or sum(map(len, long)) < MOST * len(rows):
            continue
        typical = float(np.median([len(s) for s in long]))
        uneven = float(np.median([_unevenness(table.tokens[s]) for s in long]))
        if name or typical >= MANY or uneven < EVEN:
            last = next((c for c in others if STEP_NAME.search(c)), growing)
            text = (
                f"{sum(map(len, long))} rows look like points of {len(long)} training curves "
                f"({typical:.0f} each with growing tokens), not like runs; keep the last point of "
                f"each with --last_of={last}, or resample whole curves with "
                f"--blocks={name or 'n_params'}"
            )
            return [Notice(notices.TRAINING_CURVES, text)]
    return []


def _segments(labels: Sequence[str], tokens: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each label, in order, split where the tokens do not grow."""
    members: dict[str, list[int]] = {}
    for i, label in enumerate(labels):
        members.setdefault(label, []).append(i)
    segments = []
    for indices in members.values():
        index = np.array(indices)
        steps = np.sign(np.diff(tokens[index]))
        if len(steps) and np.all(steps < 0):  # the file lists the last point first
            index = index[::-1]
            steps = -steps
        segments += np.split(index, np.flatnonzero(steps <= 0) + 1)
    return segments


def _unevenness(tokens: np.ndarray) -> float:
    distances = np.diff(tokens)
    return float(distances.std() / distances.mean())


def seeds(rows: Sequence[Row]) -> list[str]:
    """Return the cells of a column of seeds or repeats, [] without one."""
    names = [name for name in rows[0].cells if SEED_NAME.search(name)]
    return [row.cells[names[0]] for row in rows] if names else []


def labels(rows: Sequence[Row], mapping: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the unused columns with few values, which may tell families of runs apart."""
    made = {}
    for column in rows[0].cells:
        cells = tuple(row.cells[column] for row in rows)
        few = 1 < len(set(cells)) <= min(MOST_LABELS, len(cells) / 4)
        if few and column not in mapping.values():
            made[column] = cells
    return made


def _families(table: Table, rows: Sequence[Row], mapping: Mapping[str, str]) -> list[Notice]:
    """Return a notice per unused column whose labels seem to tell kinds of runs apart."""
    found = []
    for column in rows[0].cells:
        if column in mapping.values() or not FAMILY_NAME.search(column):
            continue
        counts: dict[str, int] = {}
        for row in rows:
            counts[row.cells[column]] = counts.get(row.cells[column], 0) + 1
        if 1 < len(counts) <= len(rows) / 3:
            some = [cut(value, quoted=False) or "empty" for value in counts]
            if len(some) > 4:
                some[3:] = ["…"]
            most = cut(max(counts, key=lambda value: counts[value]), quoted=False)
            text = (
                f"column {column} has {len(counts)} values ({', '.join(some)}) in one fit: "
                f"families of runs? fit each, e.g. --where={column}={most}"
            )
            found.append(Notice(notices.MIXED_FAMILIES, text))
    return found
