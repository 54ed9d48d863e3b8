"""Define `Form`, a function of the logs of its inputs with starting points for its fit.

Shapes: N rows, F inputs, P parameters, R starts. The solver works on unconstrained parameters
`params_P`, which store positive numbers as logs. `natural` converts them to the numbers that papers
print, and `internal` converts those back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

DEAD_FLOOR = 0.05  # share of the lowest loss below which a floor E counts as absent


@dataclass(frozen=True)
class Form:
    """A law. To add one, write `log_predict` and `starts` and list it in `forms/registry.py`.

    Write `log_predict` with jax.numpy, since gradients come from jax. Make it a module-level
    function, since it is the key of the cache of compiled programs. `natural` and `internal` use
    numpy.
    """

    name: str
    equation: str
    source: str  # the paper
    domain: str  # conditions under which the equation holds
    inputs: tuple[str, ...]  # columns of the table, all positive, e.g. ("n_params", "tokens")
    parameters: tuple[str, ...]  # names of the columns of `natural`, in order
    log_predict: Callable  # (params_P, log_inputs_NF) -> log of the predicted target, [N]
    starts: Callable  # (log_inputs_NF, log_target_N) -> [R, P]
    stored_as_logs: tuple[str, ...] = ()  # parameters that the solver stores as logs
    positive: tuple[str, ...] = ()  # other parameters that must be positive: exponents
    to_natural: Callable | None = None  # params_RP -> [R, P] if exp alone is not enough
    target: str = "loss"  # the predicted column
    distinct: int = 3  # least number of distinct values of each input
    judged: tuple[str, ...] = ()  # parameters whose intervals enter the verdict
    product: bool = False  # True if linear in the logs: exponents may have any sign or be 0

    @property
    def invertible(self) -> bool:
        """True if `internal` exists, so that parameters can be held fixed."""
        return self.to_natural is None

    def natural(self, params_RP) -> np.ndarray:
        """Convert the solver's parameters to `[R, P]` parameters as papers print them."""
        if self.to_natural is not None:
            return self.to_natural(params_RP)
        with np.errstate(over="ignore"):
            return self._changed(params_RP, np.exp)

    def internal(self, natural_RP) -> np.ndarray:
        """Convert parameters as papers print them to the solver's `[R, P]` parameters."""
        assert self.invertible, f"{self.name} has no inverse"
        return self._changed(natural_RP, np.log)

    def _changed(self, values_RP, change: Callable) -> np.ndarray:
        values_RP = np.array(values_RP, float)
        columns = [self.parameters.index(name) for name in self.stored_as_logs]
        values_RP[..., columns] = change(values_RP[..., columns])
        return values_RP

    def legal(self, natural_RP: np.ndarray) -> np.ndarray:
        """Return `[R]`, True for solutions in the form's domain."""
        columns = [self.parameters.index(name) for name in self.positive]
        return np.isfinite(natural_RP).all(axis=1) & (natural_RP[:, columns] > 0).all(axis=1)
