"""Compile training programs for 1 to 256 devices and compare the work of one device.

    python -m benchmarks.weak_scaling

Every device keeps its two sequences per step, whatever the number of devices. For each number a
process of its own simulates the devices on this host's CPU and compiles the training program of one
small model per strategy. Nothing is run: FLOPs, collectives and memory are read from the compiled
programs. It takes two minutes and writes docs/parallelism/weak_scaling.csv, .svg and .png.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib import ticker

from scaling.config import load as config_lib
from scaling.parallel import collectives
from scaling.report import style
from scaling.report.picture import Columns, Picture, part
from scaling.utils import machine

COUNTS = (1, 2, 4, 8, 64, 256)
PER_DEVICE = 2  # sequences
MODEL = {
    "model.depth": 2,
    "model.width": 256,  # which 256 devices still divide
    "model.head_dim": 32,
    "model.mlp_width": 1024,
    "model.matmul": "plain",  # as on accelerators
    "model.attention": "plain",
    "data.seq_len": 128,
}
STRATEGIES = {
    "data parallel": lambda n: {},
    "FSDP": lambda n: {"parallel.fsdp": n},
    "FSDP x tensor 2": lambda n: {"parallel.fsdp": max(1, n // 2), "parallel.tensor": min(2, n)},
}
COLOURS = dict(zip(collectives.KINDS, style.KINDS, strict=False))
LINES = dict(zip(STRATEGIES, ("-", "--", ":"), strict=True))
HELD = {  # column -> title, label of its axis
    "flops_compiled": ("computed per device", "FLOPs per step"),
    "state_bytes": ("parameters and optimizer per device", "bytes"),
    "temporary_bytes": ("temporary memory per device", "bytes"),
}


def rows(devices: int) -> list[dict[str, float | str]]:
    """Return one row per strategy, in a process with this number of devices."""
    from scaling.programs import ahead_of_time, memory, train_step

    made = []
    for name, sizes in STRATEGIES.items():
        batch = {"train.batch_size": PER_DEVICE * devices, "eval.batch_size": PER_DEVICE * devices}
        config = config_lib.with_values(
            config_lib.load("configs/base.py"), MODEL | batch | sizes(devices)
        )
        program = ahead_of_time.compiled(config)
        row: dict[str, float | str] = {
            "series": name,
            "devices": devices,
            "flops_exact": program.flops,
            "flops_compiled": program.flops_compiled or float("nan"),
            "state_bytes": memory.shard_bytes(train_step.programs(config).state_like),
            "temporary_bytes": program.temporary,
        }
        for kind in collectives.KINDS:
            total = program.totals.get(kind, collectives.Total(0, 0, 0))
            row |= {f"{kind}_count": total.count, f"{kind}_sent": total.sent}
        made.append(row | {"sent": program.sent, "compile_seconds": program.seconds})
    return made


def draw(columns: Columns):
    """Draw a panel of bytes sent per strategy, then one per column of HELD."""
    figure, axes = style.panels(len(STRATEGIES) + len(HELD), width=7.6)
    all_sent = np.concatenate([columns[f"{kind}_sent"] for kind in collectives.KINDS])
    limits = (all_sent[all_sent > 0].min() / 2, all_sent.max() * 2)
    for one, name in zip(axes, STRATEGIES, strict=False):
        at = part(columns, name)
        for kind, colour in COLOURS.items():
            sent = at[f"{kind}_sent"]
            if sent.any():
                sent = np.where(sent, sent, np.nan)
                one.plot(at["devices"], sent, "o-", ms=3.5, color=colour, label=kind)
        one.set(
            title=f"{name}: sent per device", ylabel="bytes per step", yscale="log", ylim=limits
        )
    for one, (column, (title, unit)) in zip(axes[len(STRATEGIES) :], HELD.items(), strict=True):
        for (name, line), colour in zip(LINES.items(), style.KINDS, strict=False):
            at = part(columns, name)
            one.plot(at["devices"], at[column], line, marker="o", ms=3.5, color=colour, label=name)
        one.set(title=title, ylabel=unit)
        if column == "state_bytes":
            one.set_yscale("log")
        else:
            one.set_ylim(0, 1.3 * columns[column].max())
    for one in axes:
        one.set_xscale("log", base=2)
        one.set(xlabel="devices", xticks=COUNTS)
        one.xaxis.set_major_formatter(ticker.FormatStrFormatter("%d"))
        one.legend(fontsize=7)
    return figure


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="docs/parallelism/weak_scaling", help="without its ending")
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)), help="numbers of devices")
    parser.add_argument("--devices", type=int, default=0, help="print this number's rows as JSON")
    args = parser.parse_args(argv)
    if args.devices:
        from scaling.commands import plan_compile

        plan_compile.simulate(args.devices)
        print(json.dumps(rows(args.devices)))
        return 0
    measured = []
    for count in map(int, args.counts.split(",")):
        command = [sys.executable, "-m", "benchmarks.weak_scaling", f"--devices={count}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        measured += json.loads(done.stdout)
        for row in measured[-len(STRATEGIES) :]:
            print(
                f"{row['series']:16} {row['devices']:4} devices  "
                f"{row['flops_compiled']:.3e} FLOPs  {row['sent']:12,.0f} B sent  "
                f"{row['state_bytes']:12,.0f} B of state"
            )
    columns = {name: np.array([row[name] for row in measured]) for name in measured[0]}
    caption = (
        f"{PER_DEVICE} sequences of {MODEL['data.seq_len']} tokens per device, "
        f"width {MODEL['model.width']}, depth {MODEL['model.depth']}, float32; "
        "compiled by the CPU backend for simulated devices, not run; "
        "bytes by the ring model of scaling/parallel/collectives.py. "
        f"{machine.versions()}; commit {machine.commit()}."
    )
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    print(f"written to {Picture(columns, draw).write(Path(args.out), caption)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
