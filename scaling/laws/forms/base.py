"""A functional form: a function of the logs of its inputs, with starting points for its fit.

Shapes: N rows, F inputs, P parameters, R starts. The solver works on unconstrained parameters
`params_P`, in which positive numbers stand as their logs. `natural` turns them into the numbers
that papers print, and `internal` turns those back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

DEAD_FLOOR = 0.05  # share of the lowest loss below which a floor E is none


@dataclass(frozen=True)
class Form:
    """One law. To add one, write `log_predict` and `starts` and list it in `forms/registry.py`.

    Gradients come from jax, so `log_predict` is written with jax.numpy. It is a module-level
    function, since compiled programs are cached by it. `natural` and `internal` are numpy.
    """

    name: str
    equation: str
    source: str  # the paper
    domain: str  # where the equation may be used
    inputs: tuple[str, ...]  # columns of the table, all positive, e.g. ("n_params", "tokens")
    parameters: tuple[str, ...]  # names of what `natural` returns, in order
    log_predict: Callable  # (params_P, log_inputs_NF) -> log of the predicted target, [N]
    starts: Callable  # (log_inputs_NF, log_target_N) -> [R, P]
    stored_as_logs: tuple[str, ...] = ()  # parameters whose logs the solver works on
    positive: tuple[str, ...] = ()  # other parameters that must be positive: exponents
    to_natural: Callable | None = None  # params_RP -> [R, P] where logs alone do not do it
    target: str = "loss"  # the column it predicts
    distinct: int = 3  # different values that each input must take
    judged: tuple[str, ...] = ()  # parameters whose intervals decide whether it is identified
    product: bool = False  # linear in the logs: exponents of any sign, 0 among them

    @property
    def invertible(self) -> bool:
        """Whether `internal` exists; without it no parameter can be held fixed."""
        return self.to_natural is None

    def natural(self, params_RP) -> np.ndarray:
        """Return `[R, P]` parameters as papers print them, from the solver's."""
        if self.to_natural is not None:
            return self.to_natural(params_RP)
        with np.errstate(over="ignore"):
            return self._changed(params_RP, np.exp)

    def internal(self, natural_RP) -> np.ndarray:
        """Return `[R, P]` parameters of the solver, the inverse of `natural`."""
        assert self.invertible, f"{self.name} has no inverse"
        return self._changed(natural_RP, np.log)

    def _changed(self, values_RP, change: Callable) -> np.ndarray:
        values_RP = np.array(values_RP, float)
        columns = [self.parameters.index(name) for name in self.stored_as_logs]
        values_RP[..., columns] = change(values_RP[..., columns])
        return values_RP

    def legal(self, natural_RP: np.ndarray) -> np.ndarray:
        """Return `[R]` whether each solution lies in the form's domain."""
        columns = [self.parameters.index(name) for name in self.positive]
        return np.isfinite(natural_RP).all(axis=1) & (natural_RP[:, columns] > 0).all(axis=1)
