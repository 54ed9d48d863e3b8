"""Propose the runs that narrow a prediction the most for the FLOPs they cost."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.commands import design_limits, fit_csv, output, table_rows
from scaling.commands.output import Output
from scaling.laws import api as laws
from scaling.laws.forms import registry as forms
from scaling.laws.table import Table, make_table
from scaling.utils import files, machine, notices
from scaling.utils.errors import UserError
from scaling.utils.notices import Notice

WHOLE = 1e3  # sizes and lengths below this are in other units
COST_VARIES = 1.3  # FLOPs per N D that differ by more than this factor are worth a warning
SYMBOLS = {"loss": "L*", "n_opt": "N*"}


@dataclass(frozen=True)
class Start:
    """What is known before the new runs."""

    priors: list[laws.Prior]
    done: Table | None
    notes: list[str]
    warnings: list[Notice]
    flops_per_n_d: float = 6.0
    noise: float | None = None  # spread of log loss about the laws; None without a table


def run(args) -> int:
    """Print the proposal and what it promises. Return 3 if rows were left out. Raises UserError."""
    machine.enable_compilation_cache()
    limits, targets = design_limits.limits(args), design_limits.targets(args)
    names = design_limits.names(args)
    start = _of_table(args, names) if args.table else _published(limits["max_flops"])
    try:
        proposal = laws.propose(
            start.priors, targets, done=start.done, flops_per_n_d=start.flops_per_n_d, **limits
        )
    except UserError as error:  # the library speaks of keywords, the command of flags
        text = str(error).removeprefix("propose: ")
        raise UserError(re.sub(rf"\b({'|'.join(limits)})\b", r"--\1", text)) from error
    # whole numbers, unless the table counts in millions or billions
    n_params, tokens = (
        np.floor(v) if v.min() > WHOLE else v for v in (proposal.n_params, proposal.tokens)
    )
    runs = make_table(
        n_params=n_params, tokens=tokens, flops=start.flops_per_n_d * n_params * tokens
    )
    expected = _expected(start, targets, runs, limits["max_flops"])
    warnings = [
        *start.warnings,
        *_near(targets, limits["max_flops"]),
        *_off(start, limits),
        *beaten(expected),
    ]
    content: dict[str, Any] = {
        "start": start.notes,
        "forms": [b.form.name for b in start.priors],
        "limits": limits,
        "flops_per_n_d": start.flops_per_n_d,
        "noise_of_a_run": start.noise,
        "runs": grouped(runs),
        "flops": float(runs.flops.sum()),
        "expected": expected,
        **notices.as_json("warnings", warnings),
    }
    written = _write(Path(args.out), content, runs, start, targets, limits) if args.out else []
    tables = [output.Table(name.capitalize(), content[name]) for name in ("runs", "expected")]
    printed = [*start.notes, *lines(content), *written]
    output.show(args, Output(content, tables, [*content["warnings"], *written], printed))
    return table_rows.exit_code(start.done) if start.done else 0


def _near(targets, dearest: float) -> list[Notice]:
    return [
        Notice(
            notices.MEASURABLE_TARGET,
            f"--at={t.flops:g} is not beyond --max_flops={dearest:g}: a run there would measure it",
        )
        for t in targets
        if t.flops <= dearest
    ]


def _off(start: Start, limits: dict) -> list[Notice]:
    """Return a warning if the allowed ratios leave out the expected optimum of the dearest run."""
    k, (low, high) = start.flops_per_n_d, limits["tokens_per_param"]
    size = laws.expected_optimum(start.priors, limits["max_flops"], k)[0, 0]
    ratio, half = limits["max_flops"] / k / size**2, math.sqrt(high / low)
    if low <= ratio <= high:
        return []
    text = (
        f"the optimum expected at --max_flops has {ratio:.3g} tokens per parameter, outside "
        f"{low:g} to {high:g}; about it: "
        f"--tokens_per_param={_short(ratio / half)}:{_short(ratio * half)}"
    )
    return [Notice(notices.OPTIMUM_OUTSIDE_LIMITS, text)]


def _short(value: float) -> str:
    """Return two digits, as one would type them."""
    return f"{float(f'{value:.2g}'):g}"


def beaten(expected: list[dict]) -> list[Notice]:
    """Return a warning if an IsoFLOP grid, which ignores the limits, beats the proposal."""
    worse = [r for r in expected if r.get("after_isoflop_grid", math.inf) < r["after"]]
    text = "the grid is better: the limits keep these runs from the optimum"
    return [Notice(notices.GRID_IS_BETTER, text)] if worse else []


def _published(dearest: float) -> Start:
    """Start from published laws, as wide as papers disagree near the dearest runs."""
    note = (
        "no table: starts from published laws of language models, exponents .25 to .5, floor 1.4 "
        "to 2.1 nats, optimum at 5 to 80 tokens per parameter; FLOPs are 6 N D"
    )
    return Start([laws.Prior.published(flops=dearest / 3)], None, [note], [])


def _of_table(args, names: list[str]) -> Start:
    """Start from the rows of earlier rounds, fitted by each form. All forms weigh the same."""
    file = table_rows.open_file(args.table, args)
    table = table_rows.read(file, args, ("n_params", "loss"))
    priors, notes, warnings = [], [], list(table.warnings)
    if args.careful:
        near = laws.inside(table, args.max_flops)
        notes.append(
            f"--careful: {int((~near).sum())} of {len(table)} rows lie outside, left out of the fit"
        )
        table = table.rows(near)
    fits = [fit_csv.fit_form(args, table, forms.form(name)) for name in names]
    for law in fits:
        priors.append(laws.Prior.of(law, 1 / len(fits)))
        notes.append(
            f"{law.form.name}: fitted to {len(table)} rows costing {table.flops.sum():.3g} FLOPs, "
            f"runs scatter by {law.spread:.2%}, {law.verdict}"
        )
        warnings += [w.about(law.form.name) for w in law.warnings if w not in table.warnings]
        if not args.careful and any(w.kind == notices.LACK_OF_FIT for w in law.warnings):
            text = f"{law.form.name} does not hold so wide: ask again with --careful"
            warnings.append(Notice(notices.TOO_WIDE_FOR_FORM, text))
    k = table.flops / (table.n_params * table.tokens)
    if k.max() > COST_VARIES * k.min():
        text = (
            f"FLOPs of the rows are {k.min():.3g} to {k.max():.3g} N D; runs are priced at the "
            f"median, {np.median(k):.3g}: check their cost before training"
        )
        warnings.append(Notice(notices.VARYING_COST, text))
    noise = float(np.sqrt(np.mean([law.spread**2 for law in fits])))
    return Start(priors, table, notes, warnings, table_rows.flops_per_n_d(table), noise)


def _expected(start: Start, targets, runs: Table, dearest: float) -> list[dict]:
    """Return the standard error of each target's log for each plan, in units of one run's noise."""
    k = start.flops_per_n_d
    grid = laws.isoflop_grid(
        start.priors,
        runs=len(runs),
        total_flops=float(runs.flops.sum()),
        max_flops=dearest,
        flops_per_n_d=k,
    )
    plans = {"before": start.done, "after": _joint(start.done, runs)}
    plans["after_isoflop_grid"] = _joint(start.done, grid) if grid else None
    errors = {
        name: laws.mean_se(start.priors, targets, plan, k) for name, plan in plans.items() if plan
    }
    return [
        {"flops": t.flops, "quantity": t.quantity, **{name: se[t] for name, se in errors.items()}}
        for t in targets
    ]


def _joint(done: Table | None, new: Table) -> Table:
    if not done:
        return new
    return make_table(
        **{c: np.concatenate([done[c], new[c]]) for c in ("n_params", "tokens", "flops")}
    )


def grouped(runs: Table) -> list[dict]:
    """Return equal runs as one row with their number and their share of the budget."""
    rows = np.stack([runs.n_params, runs.tokens, runs.flops], axis=1)
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    order = np.lexsort((kinds[:, 0], np.round(np.log(kinds[:, 2]), 6)))
    return [
        {
            "n_params": float(n),
            "tokens": float(d),
            "tokens_per_param": float(d / n),
            "flops": float(c),
            "count": int(count),
            "share": float(count * c / runs.flops.sum()),
        }
        for (n, d, c), count in zip(kinds[order], counts[order], strict=True)
    ]


def lines(content: dict) -> list[str]:
    """Return a proposal as text: its runs, then what they promise."""
    out = [
        f"{'n_params':>10} {'tokens':>10} {'tokens/param':>12} {'FLOPs':>10} {'runs':>5} "
        f"{'share':>6}"
    ]
    out += [
        f"{r['n_params']:10.3g} {r['tokens']:10.3g} {r['tokens_per_param']:12.3g} "
        f"{r['flops']:10.3g} {r['count']:5} {r['share']:6.1%}"
        for r in content["runs"]
    ]
    count = sum(r["count"] for r in content["runs"])
    total = content["limits"]["total_flops"]
    out.append(f"{count} runs, {content['flops']:.4g} of {total:.4g} FLOPs")
    noise = content["noise_of_a_run"]
    out.append("expected standard error of the log, in units of one run's noise:")
    plans = {
        "before": "the table alone",
        "after": "with these runs",
        "after_isoflop_grid": "with an IsoFLOP grid of equal cost",
    }
    for row in content["expected"]:
        parts = [f"{label} {row[plan]:.3g}" for plan, label in plans.items() if plan in row]
        ends = f" ({noise * row['after']:.2%} at the runs' scatter)" if noise else ""
        parts[-2 if "after_isoflop_grid" in row else -1] += ends
        out.append(f"  {SYMBOLS[row['quantity']]} at {row['flops']:.3g}: {', '.join(parts)}")
    out += [f"warning: {w}" for w in content["warnings"]]
    return out


def _write(out: Path, content: dict, runs: Table, start: Start, targets, limits: dict) -> list[str]:
    """Write design.json, design.csv (one row per run) and the picture. Return their paths."""
    from scaling.report import design as report

    files.write_json(out / "design.json", content)
    files.write_bytes(
        out / "design.csv",
        files.csv_bytes({c: runs[c].tolist() for c in ("n_params", "tokens", "flops")}),
    )
    picture = report.picture(
        content["runs"],
        start.priors,
        targets,
        limits,
        done=start.done,
        flops_per_n_d=start.flops_per_n_d,
    )
    paths = out / "design.json", out / "design.csv", picture.write(out / "design_runs")
    return [str(path) for path in paths]
