"""Draw how arrays lie on eight devices under each strategy, from the shardings of training.

python -m experiments.layouts --out=docs/parallelism/layouts
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle

from scaling.config import load as config_lib
from scaling.report import style
from scaling.report.picture import Columns, Picture
from scaling.utils import machine

DEVICES = 8
STRATEGIES = {
    "data parallel\n(the default)": {},
    "FSDP\nfsdp=-1": {"fsdp": -1},
    "tensor 4 x data 2\ntensor=4": {"data": -1, "tensor": 4},
    "FSDP 4 x tensor 2\nfsdp=-1, tensor=2": {"fsdp": -1, "tensor": 2},
    "FSDP 2 x sequence 4\nfsdp=-1, sequence=4": {"fsdp": -1, "sequence": 4},
}
# title: (names of its two drawn axes, their letters)
ARRAYS = {
    "weight and its moments, w_DF": (("embed", "mlp"), "D", "F"),
    "weight in use, w_DF": (("width", "mlp"), "D", "F"),
    "residual stream, x_BTD": (("batch", "sequence"), "B", "T"),
    "keys and values, k_BTHK": (("batch", "keys"), "B", "T"),
    "hidden layer, h_BTF": (("batch", "mlp"), "B", "F"),
}
SIDE = 64  # of every array; all axes divide it


def layouts() -> Columns:
    """Return a row per strategy, array and device: its part, [top, bottom) x [left, right)."""
    from jax.sharding import NamedSharding

    from scaling.parallel import mesh, sharding

    base, rows = config_lib.base_config(), []
    columns = ("series", "array", "device", "top", "bottom", "left", "right")
    for strategy, sizes in STRATEGIES.items():
        parallel = config_lib.with_values(
            base,
            {"parallel.data": 1 if sizes else -1} | {f"parallel.{k}": v for k, v in sizes.items()},
        ).parallel
        grid = mesh.make_mesh(parallel)
        for array, (names, _, _) in ARRAYS.items():
            place = NamedSharding(grid, sharding.spec(names, sharding.rules(parallel), grid))
            held = place.devices_indices_map((SIDE, SIDE))
            for device in grid.devices.flat:
                down, right = held[device]
                rows.append(
                    (strategy, array, device.id, *down.indices(SIDE)[:2], *right.indices(SIDE)[:2])
                )
    return dict(zip(columns, map(np.array, zip(*rows, strict=True)), strict=True))


def draw(columns: Columns):
    """Draw strategies as rows and arrays as columns.

    A part has the colour of its first device and the numbers of all.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(STRATEGIES), len(ARRAYS), figsize=(9.6, 9.2), layout="constrained"
    )
    shades = style.shades(DEVICES)
    for row, strategy in zip(axes, STRATEGIES, strict=True):
        for one, (array, (_, down, right)) in zip(row, ARRAYS.items(), strict=True):
            here = (columns["series"] == strategy) & (columns["array"] == array)
            parts: dict[tuple[int, ...], list[int]] = {}
            for i in np.flatnonzero(here):
                corners = tuple(int(columns[c][i]) for c in ("top", "bottom", "left", "right"))
                parts.setdefault(corners, []).append(int(columns["device"][i]))
            for (top, bottom, left, end), devices in parts.items():
                colour = "0.88" if len(devices) == DEVICES else shades[min(devices)]
                one.add_patch(
                    Rectangle((left, top), end - left, bottom - top, fc=colour, ec="white", lw=1.2)
                )
                light = len(devices) == DEVICES or min(devices) > DEVICES // 2
                one.text(
                    (left + end) / 2, (top + bottom) / 2, _named(devices), ha="center", va="center",
                    fontsize=7, color="black" if light else "white",
                    rotation=90 if end - left < SIDE / 5 and len(devices) > 1 else 0,
                )  # fmt: skip
            one.set(xlim=(0, SIDE), ylim=(SIDE, 0), xticks=[], yticks=[], xlabel=right)
            one.set_ylabel(down, rotation=0, labelpad=6)
            one.grid(False)
            one.set_aspect("equal")
        row[0].annotate(
            strategy, (-0.32, 0.5), xycoords="axes fraction", ha="right", va="center", fontsize=8
        )
    for one, array in zip(axes[0], ARRAYS, strict=True):
        one.set_title(array.replace(", ", "\n"), fontsize=8)
    return figure


def _named(devices: list[int]) -> str:
    """Return "all", "0-3" or "0, 2, 4"."""
    devices = sorted(devices)
    if len(devices) == DEVICES:
        return "all"
    if len(devices) > 2 and devices == list(range(devices[0], devices[-1] + 1)):
        return f"{devices[0]}-{devices[-1]}"
    return ", ".join(map(str, devices))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="docs/parallelism/layouts", help="without its ending")
    args = parser.parse_args(argv)
    machine.start_jax(DEVICES)
    columns = layouts()
    columns["series"] = np.array([name.replace("\n", ", ") for name in columns["series"]])
    shown = dict(zip((n.replace("\n", ", ") for n in STRATEGIES), STRATEGIES, strict=True))
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    picture = Picture(
        columns, lambda c: draw({**c, "series": np.array([shown[n] for n in c["series"]])})
    )
    caption = (
        "Numbers are the devices that hold a part; grey parts are whole on all of them. "
        "B batch, T positions, D model width, F hidden width of the MLP. "
        "Heads are split as F is, and T of the hidden layer as T of the residual stream. "
        "A weight in use is gathered just before its product."
    )
    print(picture.write(Path(args.out), caption))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
