"""What a functional form is: a function of the logs of its inputs, and where to start looking for it.

Shapes: N rows, F inputs, P parameters, R starts. The solver works on unconstrained parameters
`params_P`, in which positive numbers stand as their logs; `natural` turns them into the numbers that
papers print, and `internal` turns those back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

DEAD_FLOOR = 0.05  # share of the lowest loss below which a floor E is none


def always(natural_RP: np.ndarray) -> np.ndarray:
    """Every finite solution is in the form's domain."""
    return np.isfinite(natural_RP).all(axis=1)


@dataclass(frozen=True)
class Form:
    """One law. To add one, write `log_predict` and `starts` and list it in `forms/__init__.py`.

    Gradients come from jax, so `log_predict` is written with jax.numpy; it is a module-level
    function, since compiled programs are kept by it. `natural` and `internal` are numpy.
    """

    name: str
    equation: str
    source: str  # the paper
    domain: str  # where the equation may be used
    inputs: tuple[str, ...]  # columns of the table, all positive, e.g. ("n_params", "tokens")
    parameters: tuple[str, ...]  # names of what `natural` returns, in order
    log_predict: Callable  # (params_P, log_inputs_NF) -> log of the predicted target, [N]
    natural: Callable  # params_RP -> the parameters as printed, [R, P]
    starts: Callable  # (log_inputs_NF, log_target_N) -> [R, P]
    legal: Callable = always  # natural_RP -> which solutions lie in the domain, [R]
    internal: Callable | None = None  # the inverse of `natural`; needed to hold parameters fixed
    target: str = "loss"  # the column it predicts
    distinct: int = 3  # different values that each input must take
    judged: tuple[str, ...] = ()  # parameters whose intervals decide whether it is identified
    product: bool = False  # linear in the logs: exponents of any sign, 0 among them


def stored_as_logs(start: int, stop: int) -> tuple[Callable, Callable]:
    """(natural, internal) where parameters `start` to `stop` (excluded) are stored as logs."""

    def changed(values_RP, change):
        values_RP = np.array(values_RP, float)
        with np.errstate(over="ignore"):
            values_RP[..., start:stop] = change(values_RP[..., start:stop])
        return values_RP

    return lambda params_RP: changed(params_RP, np.exp), lambda natural_RP: changed(
        natural_RP, np.log
    )
