"""Define the result of analysing a sweep: its curves by name, and its summary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scaling.laws import to_text
from scaling.laws.fit import Fit
from scaling.laws.table import Table
from scaling.report.picture import Picture
from scaling.results import RunResult
from scaling.utils import notices
from scaling.utils.notices import Notice


@dataclass(frozen=True)
class SavedCurve:
    """One curve on disk: its law as JSON, and its picture with the numbers in it."""

    law: dict[str, Any]  # estimator, equation, parameters, diagnostics, and the kind's own keys
    picture: Picture


@dataclass(frozen=True)
class Analysis:
    """All curves of a sweep, and the lines of its summary."""

    curves: dict[str, SavedCurve]
    lines: list[str]
    used: list[RunResult]
    left_out: list[Notice]
    ranges: dict[str, list[float]] = field(default_factory=dict)  # of validity, by column
    table: Table | None = None  # the table of the fits; None: the losses of `used`
    held_out: dict[str, Any] | None = None  # the forecast beside the measurement
    problems: tuple[str, ...] = ()  # one line per file that was left out in part


def fitted(law: Fit, names: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a parametric law as the JSON of a curve. `names` replace letters of its equation."""
    return {
        "estimator": law.described,
        "equation": renamed(law.equation, names or {}),
        "source": law.form.source,
        "parameters": {k: i.as_dict() for k, i in law.intervals.items()},
        "verdict": law.verdict,
        "diagnostics": {
            "refused": None,
            "objective": law.objective,
            "huber_delta": law.delta,
            "starts_that_reach_it": law.reached,
            "residual_rms": to_text.residual_rms(law),
            **notices.as_json("warnings", law.warnings),
        },
    }


def refused(reason: str, equation: str, names: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON of a curve that has only measured points, as its law was refused."""
    return {
        "estimator": "none: the law was refused",
        "equation": renamed(equation, names or {}),
        "parameters": {},
        "verdict": "refused",
        "diagnostics": {"refused": reason, **notices.as_json("warnings", [])},
    }


def renamed(equation: str, names: dict[str, str]) -> str:
    """Return an equation in other letters: with x as D, L(x) = E + k x^-a is L(D) = E + k D^-a."""
    for letter, other in names.items():
        equation = equation.replace(letter, other)
    return equation


def parameter_lines(law: Fit) -> list[str]:
    """Return parameters with intervals, the verdict and the warnings as lines of the summary."""
    lines = [f"  {name:6} {i.brief()}" for name, i in law.intervals.items()]
    return [*lines, f"  verdict: {law.verdict}", *(f"  warning: {w}" for w in law.warnings)]
