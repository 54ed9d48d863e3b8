"""Measure how compile time, step time and memory grow with width, depth, context and batch.

    python -m benchmarks.cost_scaling [--rounds=3] [--quick] [--out=docs/speed/cost]

varies one size of S at a time, depth also with scanned layers. It measures each program: seconds to
compile without a cache, seconds of a step (wall time and CPU, in rounds that take turns), bytes of
its arguments and temporaries as compiled. It fits the slope of log cost on log size with its
standard error. Beside it is the slope that counting alone gives over the same points: operations of
the program for compile time, FLOPs for the step, bytes by shapes (scaling/programs/memory.py) for
memory. The trade of remat at S follows. The script writes the points (.csv, .svg, .png) and
results/bench/cost_scaling.json and .txt.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import write_report
from benchmarks.cost_programs import STEPS, Program, build
from benchmarks.peers.ours import config_of
from benchmarks.sizes import SIZES
from scaling.programs import train_step
from scaling.report import style
from scaling.report.picture import Columns, Picture, part, stacked
from scaling.utils import huge_pages, machine

BASE = SIZES["S"]
MULTIPLES = (0.25, 0.5, 1, 2, 4)  # of S
WIDTHS = (0.5, 1, 2, 4)
SERIES: dict[str, tuple[tuple[float, ...], Callable[[float], dict[str, Any]]]] = {
    "width": (WIDTHS, lambda m: {"model.width": int(128 * m), "model.mlp_width": int(512 * m)}),
    "depth": (MULTIPLES, lambda m: {"model.depth": int(4 * m)}),
    "depth, scanned": (
        MULTIPLES,
        lambda m: {"model.depth": int(4 * m), "model.scan_layers": True},
    ),
    "context": (MULTIPLES, lambda m: {"data.seq_len": int(256 * m)}),
    "batch": (MULTIPLES, lambda m: {"train.batch_size": int(16 * m)}),
}
UNITS = {"width": BASE.width, "depth": BASE.depth, "depth, scanned": BASE.depth}
UNITS |= {"context": BASE.seq_len, "batch": BASE.batch}
COSTS = {  # column -> its counted column, title, unit
    "compile_cpu": ("operations", "compilation", "CPU seconds"),
    "step_cpu": ("flops", "training step", "CPU seconds"),
    "memory": ("shapes", "memory of the program", "MiB per device"),
}
EXPONENTS = {"compile_wall": "operations", "step_wall": "flops"}
EXPONENTS |= {column: counted for column, (counted, *_) in COSTS.items()}
FAR = 0.15  # marked distance of an exponent from the counted one, if above two errors
REMAT = ("none", "dots", "block")


Key = tuple[str, Any]  # (series, multiple of S), or ("remat...", policy)


def program_values(quick: bool) -> dict[Key, dict[str, Any]]:
    """Return the config values of every program that differ from S."""
    programs: dict[Key, dict[str, Any]] = {}
    for name, (multiples, values) in SERIES.items():
        programs |= {(name, m): values(m) for m in multiples if m <= 2 or not quick}
    for name, scan in (("remat", False), ("remat, scanned", True)):
        programs |= {(name, p): {"model.remat": p, "model.scan_layers": scan} for p in REMAT}
    return programs


def measured(values_of: dict[Key, dict[str, Any]], rounds: int) -> dict[Key, dict[str, float]]:
    """Return the cost of each program. Equal programs are measured once."""
    programs: dict[str, Program] = {}
    key_of = {}
    for key, values in values_of.items():
        config = config_of("S", **values, **{"train.steps_per_dispatch": STEPS})
        key_of[key] = train_step.program_key(config)
        if key_of[key] not in programs:
            programs[key_of[key]] = build(config)
            seconds = programs[key_of[key]].row["compile_wall"]
            print(f"{key[0]} {key[1]}: compiled in {seconds:.1f} s", flush=True)
    for _ in range(rounds):
        for program in programs.values():
            program.turn()
    return {key: programs[program_key].finished() for key, program_key in key_of.items()}


def slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the slope of log y on log x and its standard error, by least squares."""
    x, y = np.log(x), np.log(y)
    dx = x - x.mean()
    fitted = float(dx @ y / (dx @ dx))
    rest = y - y.mean() - fitted * dx
    return fitted, float(np.sqrt(rest @ rest / (len(x) - 2) / (dx @ dx)))


def exponents(columns: Columns) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by series and cost the fitted slope, the counted one, and whether they differ."""
    slopes: dict[str, dict[str, dict[str, Any]]] = {}
    for name in SERIES:
        at = part(columns, name)
        slopes[name] = {}
        for cost, counted in EXPONENTS.items():
            fitted, error = slope(at["size"], at[cost])
            expected = slope(at["size"], at[counted])[0]
            far = abs(fitted - expected) > max(FAR, 2 * error)
            slopes[name][cost] = {"fitted": fitted, "se": error, "counted": expected, "far": far}
    return slopes


def draw(columns: Columns):
    """Draw one panel per cost and one line per varied size, with its exponent in the legend."""
    figure, axes = style.panels(len(COSTS), width=10.0, height=3.6)
    fitted = exponents(columns)
    for one, (cost, (_, title, unit)) in zip(axes, COSTS.items(), strict=True):
        for name, colour in zip(SERIES, style.KINDS, strict=False):
            at, fit = part(columns, name), fitted[name][cost]
            label = f"{name}: {fit['fitted']:.2f} ± {fit['se']:.2f} (counted {fit['counted']:.2f})"
            dashed = "--" if "scanned" in name else "-"
            one.plot(
                at["multiple"], at[cost], dashed, marker="o", ms=3.5, color=colour, label=label
            )
        one.set(title=title, xlabel="multiple of S", ylabel=unit, xscale="log", yscale="log")
        one.set_xticks(MULTIPLES, [f"{m:g}" for m in MULTIPLES])
        one.minorticks_off()
        low, high = one.get_ylim()
        one.set_ylim(low, high * (high / low) ** 0.5)  # room for the legend
        style.log_ticks(one, "y")
        one.legend(fontsize=6.5, loc="upper left")
    return figure


def table(rows: dict[Key, dict[str, float]], fitted: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines of the exponents and of each program's cost, those with remat last."""
    lines = [f"{'exponent of':16}" + "".join(f"{cost:>32}" for cost in EXPONENTS)]
    for name, by_cost in fitted.items():
        cells = [
            f"{f['fitted']:.2f} ± {f['se']:.2f}, counted {f['counted']:.2f}"
            f"{' !' if f['far'] else '  '}"
            for f in by_cost.values()
        ]
        lines.append(f"{name:16}" + "".join(f"{cell:>32}" for cell in cells))
    lines += [f"! further than {FAR} and two standard errors from what counting gives", ""]
    titles = ("compile s", "of CPU", "step ms", "of CPU", "memory MiB", "temporary")
    lines.append(f"{'':24}" + "".join(f"{title:>12}" for title in titles))
    for (name, at), row in rows.items():
        label = f"{name} {at}" if name.startswith("remat") else f"{name} {at * UNITS[name]:g}"
        lines.append(
            f"{label:24}{row['compile_wall']:12.2f}{row['compile_cpu']:12.2f}"
            f"{1e3 * row['step_wall']:12.1f}{1e3 * row['step_cpu']:12.1f}"
            f"{row['memory']:12.1f}{row['temporary']:12.1f}"
        )
    return lines


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="up to twice S, one round")
    parser.add_argument(
        "--out", default="docs/speed/cost", help="of the picture, without its ending"
    )
    parser.add_argument("--report", default="results/bench/cost_scaling.json")
    args = parser.parse_args(argv)
    machine.start_jax(2)
    import jax

    jax.config.update("jax_enable_compilation_cache", False)
    rounds = 1 if args.quick else args.rounds
    rows = measured(program_values(args.quick), rounds)
    points = {
        name: [
            {"multiple": m, "size": m * UNITS[name], **rows[name, m]}
            for m in multiples
            if (name, m) in rows
        ]
        for name, (multiples, _) in SERIES.items()
    }
    columns = stacked({n: {k: [p[k] for p in ps] for k in ps[0]} for n, ps in points.items()})
    fitted = exponents(columns)
    lines = table(rows, fitted)
    print(*lines, sep="\n")
    remat = [{"layers": n, "policy": p, **row} for (n, p), row in rows.items() if n[:5] == "remat"]
    caption = (
        f"From S (width {BASE.width}, depth {BASE.depth}, context {BASE.seq_len}, "
        f"batch {BASE.batch}) one size is varied at a time; float32, two host devices. "
        "Exponents: slope of log on log, with its standard error; counted: of operations, FLOPs, "
        "and bytes by shapes over the same points. "
        f"{machine.versions()}; commit {machine.commit()}."
    )
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    print(f"written to {Picture(columns, draw).write(Path(args.out), caption)}")
    report = {"rounds": rounds, "exponents": fitted, "points": points, "remat": remat}
    write_report(args.report, report, lines)
    return 0


if __name__ == "__main__":
    huge_pages.restart()
    sys.exit(main(sys.argv[1:]))
