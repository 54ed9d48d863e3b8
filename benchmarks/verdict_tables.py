"""Tables of known laws for `benchmarks.verdicts`: clean ones, and ones with a fault.

A table is a dict of columns: N, D (and C of IsoFLOP profiles) or x, and loss.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from scaling.laws import api as laws
from scaling.laws.table import Table

TRUTH = {"A": 478.0, "B": 2143.0, "E": 1.82, "alpha": 0.347, "beta": 0.367}
TRUTH["a"] = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
CURVE = {"k": 590.0, "E": 1.7, "a": 0.154}
Columns = dict[str, np.ndarray]


def loss_of(n, d, scale: float = 1.0, floor: float = 0.0) -> np.ndarray:
    """Return Chinchilla's law of the truth, its terms times `scale`, its floor moved."""
    terms = TRUTH["A"] * n ** -TRUTH["alpha"] + TRUTH["B"] * d ** -TRUTH["beta"]
    return TRUTH["E"] + floor + scale * terms


def optimum(flops) -> np.ndarray:
    """Return N* of the truth."""
    alpha, beta = TRUTH["alpha"], TRUTH["beta"]
    scale = (alpha * TRUTH["A"] / (beta * TRUTH["B"])) ** (1 / (alpha + beta))
    return scale * (flops / 6) ** TRUTH["a"]


def crossed(sizes, tokens, seeds: int = 1) -> Columns:
    """Return every size with every number of tokens."""
    n, d, _ = (x.ravel() for x in np.meshgrid(sizes, tokens, np.arange(seeds), indexing="ij"))
    return {"N": n, "D": d}


def profiles(budgets: int, sizes: int, width: float, seeds: int = 1) -> Columns:
    """Return IsoFLOP profiles of `sizes` within exp(+-width) of the optimum."""
    c = np.repeat(np.geomspace(1e17, 1e20, budgets), sizes * seeds)
    moves = np.repeat(np.linspace(-width, width, sizes), seeds)
    n = optimum(c) * np.exp(np.tile(moves, budgets))
    return {"N": n, "D": c / (6 * n), "C": c}


def fan() -> Columns:
    """Return eight sizes at five ratios of tokens to parameters."""
    n, ratio = (x.ravel() for x in np.meshgrid(np.geomspace(1e7, 2e9, 8), [5, 10, 20, 40, 80]))
    return {"N": n, "D": n * ratio}


def scattered() -> Columns:
    """Return forty runs at random sizes and tokens."""
    rng = np.random.default_rng(1)
    n, d = np.exp(rng.uniform(np.log([1e7, 2e8]), np.log([2e9, 4e10]), (40, 2))).T
    return {"N": n, "D": d}


def line(points: int, decades: float, seeds: int = 1) -> Columns:
    """Return one input over several decades."""
    return {"x": np.repeat(np.geomspace(1e17, 1e17 * 10**decades, points), seeds)}


DESIGNS: dict[str, dict[str, Callable[[], Columns]]] = {
    "chinchilla": {
        "grid": lambda: crossed(np.geomspace(1e7, 1e9, 6), np.geomspace(2e8, 2e10, 6)),
        "seeds": lambda: crossed(np.geomspace(1e7, 1e9, 5), np.geomspace(2e8, 2e10, 4), 2),
        "isoflop": lambda: profiles(5, 7, 1.2),
        "many": lambda: profiles(6, 11, 1.5),
        "fan": fan,
        "scattered": scattered,
    },
    "power_offset": {
        "short": lambda: line(12, 3),
        "long": lambda: line(12, 5),
        "twenty": lambda: line(20, 4),
        "forty": lambda: line(40, 3),
        "seeds": lambda: line(8, 4, 3),
        "hundred": lambda: line(100, 3),
    },
    "isoflop": {
        "four": lambda: profiles(4, 9, 1.0),
        "five": lambda: profiles(5, 7, 1.0),
        "six": lambda: profiles(6, 7, 1.2),
        "eight": lambda: profiles(8, 6, 1.2),
        "dense": lambda: profiles(5, 13, 1.2),
        "seeds": lambda: profiles(5, 7, 1.0, 2),
    },
}


class Reader:
    """Write columns as CSV and read them, as a user does."""

    def __init__(self, folder: str):
        self.path = Path(folder) / "table.csv"

    def __call__(self, columns: Columns) -> Table:
        header, rows = ",".join(columns), zip(*columns.values(), strict=True)
        cells = "\n".join(",".join(map(str, row)) for row in rows)
        self.path.write_text(f"{header}\n{cells}\n")
        if "x" in columns:
            return laws.read_csv(self.path, x="x", loss="loss")
        flops = "C" if "C" in columns else ""
        return laws.read_csv(
            self.path, n_params="N", tokens="D", loss="loss", flops=flops, budget=flops
        )


def clean(form: str, design: str, noise: float, rng) -> Columns:
    """Return a table of the truth with noise."""
    columns = DESIGNS[form][design]()
    if "x" in columns:
        loss = CURVE["E"] + CURVE["k"] * columns["x"] ** -CURVE["a"]
    else:
        loss = loss_of(columns["N"], columns["D"])
    return columns | {"loss": loss * np.exp(noise * rng.standard_normal(len(loss)))}


def truth_of(form: str) -> dict[str, float]:
    """Return the true parameters. L* of IsoFLOP minima is no power law, so it has none."""
    if form == "power_offset":
        return CURVE
    if form == "chinchilla":
        return TRUTH
    return {"N*": TRUTH["a"], "D*": 1 - TRUTH["a"]}


def units(rng) -> tuple[Columns, str]:
    """Return a table with a column, or a part of it, in another unit."""
    columns = _any(rng)
    some = rng.permutation(len(columns["N"])) < rng.integers(2, len(columns["N"]) // 2)
    kind = rng.integers(6)
    if kind in (0, 1):
        columns["N"] = columns["N"] / 1e6
    if kind in (0, 2):
        columns["D"] = columns["D"] / 1e9
    if kind == 3:
        columns["loss"] = np.exp(columns["loss"])
    if kind == 4:
        columns["N"] = np.where(some, columns["N"] / 1e6, columns["N"])
    if kind == 5:
        columns["D"] = np.where(some, columns["D"] / 1e9, columns["D"])
    return columns, "chinchilla"


def curves(rng) -> tuple[Columns, str]:
    """Return points of training curves: each run has an error of its own, and a late decay."""
    sizes, points = int(rng.integers(5, 10)), int(rng.integers(15, 100))
    n = np.repeat(np.geomspace(1e7, 2e9, sizes), points)
    d = 20 * n * np.tile(np.arange(1, points + 1) / points, sizes)
    noise = rng.choice([0.003, 0.01])
    own = np.repeat(noise * rng.standard_normal(sizes), points)
    decay = 0.02 * np.tile(np.linspace(1, 0, points) ** 0.5, sizes)
    loss = loss_of(n, d) * np.exp(own + decay + 0.3 * noise * rng.standard_normal(len(n)))
    return {"N": n, "D": d, "loss": loss}, "chinchilla"


def outlier(rng) -> tuple[Columns, str]:
    """Return a table with one row 10 to 60 deviations off."""
    noise = rng.choice([0.003, 0.01])
    columns = _any(rng, noise)
    row, off = rng.integers(len(columns["N"])), rng.choice([-1, 1]) * rng.uniform(10, 60)
    columns["loss"][row] *= np.exp(off * noise)
    return columns, "chinchilla"


def families(rng) -> tuple[Columns, str]:
    """Return runs of two or three recipes, half of the time with a column that names them."""
    noise = rng.choice([0.003, 0.01])
    columns = _any(rng, noise)
    recipe = rng.integers(rng.integers(2, 4), size=len(columns["N"]))
    if rng.random() < 0.5:
        columns["loss"] *= np.exp(recipe * noise * rng.uniform(6, 20))
    else:
        shift = loss_of(columns["N"], columns["D"], 1 + 12 * noise) / loss_of(
            columns["N"], columns["D"]
        )
        columns["loss"] *= shift ** (recipe * 3)
    if rng.random() < 0.5:
        columns["setup"] = np.array(["adam", "muon", "sgd"])[recipe]
    return columns, "chinchilla"


def rising(rng) -> tuple[Columns, str]:
    """Return losses that rise with size, with tokens, or with the one input."""
    kind = rng.integers(4)
    noise = rng.choice([0.003, 0.01])
    if kind == 3:
        columns = line(int(rng.integers(8, 30)), 3)
        loss = 2.0 * (columns["x"] / 1e17) ** rng.uniform(0.02, 0.2)
        columns["loss"] = loss * np.exp(noise * rng.standard_normal(len(loss)))
        return columns, str(rng.choice(["power", "power_offset"]))
    columns = _any(rng, noise)
    n, d = columns["N"] / 1e8, columns["D"] / 1e9
    falls_n, falls_d = n**-0.35, d**-0.35
    rises = rng.uniform(0.05, 0.3)
    terms = {0: n**rises + falls_d, 1: falls_n + d**rises, 2: n**rises + d**rises}[int(kind)]
    columns["loss"] = (2 + 0.7 * terms) * np.exp(noise * rng.standard_normal(len(n)))
    return columns, "chinchilla"


def one_degree(rng) -> tuple[Columns, str]:
    """Return as many rows as parameters and one more."""
    if rng.random() < 0.3:
        return clean_line(4, rng), "power_offset"
    columns = _any(rng)
    some = rng.permutation(len(columns["N"]))[:6]
    return {name: values[some] for name, values in columns.items() if name != "C"}, "chinchilla"


def clean_line(points: int, rng) -> Columns:
    """Return a clean curve of few points."""
    columns = line(points, 4)
    loss = CURVE["E"] + CURVE["k"] * columns["x"] ** -CURVE["a"]
    return columns | {"loss": loss * np.exp(0.003 * rng.standard_normal(points))}


def _any(rng, noise: float = 0.0) -> Columns:
    design = str(rng.choice(list(DESIGNS["chinchilla"])))
    columns = clean("chinchilla", design, noise or rng.choice([0.003, 0.01]), rng)
    columns.pop("C", None)
    return columns


KINDS = {f.__name__: f for f in (units, curves, outlier, families, rising, one_degree)}
