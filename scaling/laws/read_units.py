"""Units of columns: those that the user states, and those that the numbers suggest.

The rules of a suspicion, each with its bounds:

    n_params, tokens    a value below 1,000, or a name such as "params (M)" on values below 1e5
    tokens / n_params   a median below 1e-3 or above 1e6
    flops               C / (6 N D) more than 30 times off 1, in the median
    loss                a value above 13 nats, beyond the log of any vocabulary, or a name such as
                        "ppl", in a table with sizes or FLOPs
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from scaling.laws.table import Table
from scaling.utils import notices, number_text
from scaling.utils import parse as numbers
from scaling.utils.errors import UserError
from scaling.utils.notices import Notice

PERPLEXITY = "perplexity"
NAMED: dict[str, float | str] = {
    "thousands": 1e3,
    "millions": 1e6,
    "billions": 1e9,
    "trillions": 1e12,
    **{f"{p}FLOPs": f for p, f in number_text.PREFIXES.items() if p},
    "PFLOP-days": number_text.PFLOP_DAY,
    "bits": math.log(2.0),
    "percent": 0.01,
    PERPLEXITY: PERPLEXITY,
}
FEWEST = 1e3  # parameters of a model, tokens of a run
SMALL = 1e5  # a name that states a unit counts where values are below
RATIOS = (1e-3, 1e6)  # of tokens to parameters
USUAL_RATIO = 20.0
OFF_COMPUTE = 30.0
HIGHEST_LOSS = 13.0  # nats per token; the log of a vocabulary of 440,000


def parse(units: str | Mapping[str, float | str], mapping: Mapping[str, str]) -> dict:
    """Return meaning -> factor, or "perplexity", of "n_params=1e6,loss=perplexity".

    Raises UserError at an unknown unit, or a meaning that no column has.
    """
    if isinstance(units, str):
        parts = [part.partition("=") for part in filter(None, units.split(","))]
        units = {name.strip(): value.strip() for name, _, value in parts}
    made: dict[str, float | str] = {}
    known = {name.lower().rstrip("s"): unit for name, unit in NAMED.items()}
    for meaning, unit in units.items():
        text = f"--unit={meaning}={unit}"
        if meaning not in mapping:
            raise UserError(f"{text}: no column is {meaning}; choose from {', '.join(mapping)}")
        try:
            value = known.get(str(unit).lower().rstrip("s")) or numbers.number(str(unit))
        except ValueError:
            raise UserError(
                f"{text}: neither a factor such as 1e6 nor one of {', '.join(NAMED)}"
            ) from None
        if value == PERPLEXITY and meaning != "loss":
            raise UserError(f"{text}: perplexity is a unit of the loss alone")
        if isinstance(value, float) and value <= 0:
            raise UserError(f"{text}: a factor is positive")
        made[meaning] = value
    return made


def scaled(value: float, factor: float | str) -> float:
    """Return a number in the table's unit. Raises ValueError at a perplexity of 1 or less."""
    if isinstance(factor, float):
        return value * factor
    if value <= 1:
        raise ValueError(f"perplexity {value:g} is not above 1")
    return math.log(value)


def suspicions(table: Table, mapping: Mapping[str, str], stated: set[str]) -> list[Notice]:
    """Return notices on columns that look like another unit; `stated` meanings are trusted."""
    suspected: dict[str, float] = {}
    texts = []
    for meaning in ("n_params", "tokens"):
        if meaning in mapping and meaning not in stated:
            factor = _of_count(table[meaning], mapping[meaning])
            if factor:
                suspected[meaning] = factor
    if set(suspected) == {"n_params"} and "tokens" in mapping:
        # tokens that look right tell the unit of the sizes
        suspected["n_params"] = min((1e3, 1e6, 1e9), key=lambda f: _from_usual(table, f, 1.0))
    for meaning, factor in suspected.items():
        low, high = table[meaning].min(), table[meaning].max()
        texts.append(
            f"{meaning} between {low:.4g} and {high:.4g}: in {_word(factor)}? state "
            f"--unit={meaning}={factor:.0e}, or =1 if not".replace("e+0", "e")
        )
    if not suspected:
        texts += _of_ratio(table, mapping, stated)
    texts += _of_compute(table, mapping, stated, suspected)
    texts += _of_loss(table, mapping, stated)
    return [Notice(notices.UNUSUAL_UNITS, text) for text in texts]


def _word(factor: float) -> str:
    return next(name for name, unit in NAMED.items() if unit == factor)


def _from_usual(table: Table, of_size: float, of_tokens: float) -> float:
    """Return how far, in logs, the median of D / N is from the usual one with these factors."""
    ratio = np.median(table.tokens / table.n_params) * of_tokens / of_size
    return abs(math.log(ratio / USUAL_RATIO))


def _of_count(values: np.ndarray, name: str) -> float:
    """Return the factor that a column of sizes or tokens seems to need, or 0."""
    named = 0.0
    if re.search(r"(?i)millions?|\bmio\b", name) or re.search(r"[\s_(\[]M[)\]]?$", name):
        named = 1e6
    elif re.search(r"(?i)billions?|\bbn\b", name) or re.search(r"[\s_(\[]B[)\]]?$", name):
        named = 1e9
    if named and values.max() < SMALL:
        return named
    if values.min() >= FEWEST:
        return 0.0
    return 1e6 if np.median(values) >= 10 and values.min() >= 1 else 1e9


def _of_ratio(table: Table, mapping: Mapping[str, str], stated: set[str]) -> list[str]:
    """Return a suspicion where tokens per parameter are out of any range."""
    if not {"n_params", "tokens"} <= set(mapping) or {"n_params", "tokens"} <= stated:
        return []
    ratio = float(np.median(table.tokens / table.n_params))
    if RATIOS[0] <= ratio <= RATIOS[1]:
        return []
    column = "tokens" if ratio < 1 or "n_params" in stated else "n_params"
    return [
        f"tokens / n_params is {ratio:.3g} in the median: are {column} in another unit (millions, "
        f"billions, steps)? state --unit={column}=FACTOR, or =1 if not"
    ]


def _of_compute(
    table: Table, mapping: Mapping[str, str], stated: set[str], suspected: Mapping[str, float]
) -> list[str]:
    """Return a suspicion where FLOPs do not fit 6 N D, or D = C / (6 N) is out of any range."""
    if not {"n_params", "flops"} <= set(mapping) or "flops" in stated:
        return []
    n_params = table.n_params * suspected.get("n_params", 1.0)
    if "tokens" in mapping:
        tokens = table.tokens * suspected.get("tokens", 1.0)
        ratio = float(np.median(table.flops / (6 * n_params * tokens)))
        if 1 / OFF_COMPUTE <= ratio <= OFF_COMPUTE:
            return []
        known, usual, what = ratio, 1.0, "flops / (6 n_params tokens)"
    else:
        known = float(np.median(table.flops / (6 * n_params**2)))
        if RATIOS[0] <= known <= RATIOS[1]:
            return []
        usual, what = USUAL_RATIO, "flops / (6 n_params^2), the tokens per parameter,"
    units = {n: f for n, f in NAMED.items() if isinstance(f, float) and "FLOP" in n and f > 1e3}
    near = {n: abs(math.log(known * f / usual)) for n, f in units.items()}
    best = min(near, key=lambda name: near[name])
    within = near[best] < math.log(OFF_COMPUTE)
    hint = best if within else "another unit"
    factor = best if within else "FACTOR"
    return [
        f"{what} is {known:.3g} in the median: flops in {hint}? state --unit=flops={factor}, or =1 "
        "if not; exponents are right in any unit, coefficients, N* and D* are not"
    ]


def _of_loss(table: Table, mapping: Mapping[str, str], stated: set[str]) -> list[str]:
    """Return a suspicion where the losses are no nats per token."""
    if "loss" not in mapping or "loss" in stated or not {"n_params", "flops"} & set(mapping):
        return []
    name = mapping["loss"].lower()
    named = bool(re.search(r"ppl|perplex", name)) and "log" not in name
    highest = float(table.loss.max())
    if not named and highest <= HIGHEST_LOSS:
        return []
    return [
        f"losses up to {highest:.4g} in column {mapping['loss']!r}: perplexity or percent, not "
        "nats per token? state --unit=loss=perplexity, or =1 if not"
    ]
