"""Notices: a finding as a kind, which code reads, and a text, which people read.

Verdicts, exit codes and hints depend on kinds and severities only: a new wording changes none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

# Severities, from the worst down. `worst` reads them. A NOTE changes no verdict.
WEAK = "weak"  # the rows do not determine a parameter
DOUBT = "doubt"  # the rows or the form are suspect
NOTE = "note"


@dataclass(frozen=True)
class Kind:
    """A kind of finding."""

    name: str  # in JSON
    severity: str
    requested: bool = False  # by a flag or a config key


# How a file was read
READ_AS = Kind("read_as", NOTE)
# Rows as a whole
DUPLICATE_ROWS = Kind("duplicate_rows", DOUBT)
NO_RESULT = Kind("no_result", NOTE)  # a status that says so
MIXED_UNITS = Kind("mixed_units", DOUBT)
UNUSUAL_UNITS = Kind("unusual_units", DOUBT)
TRAINING_CURVES = Kind("training_curves", DOUBT)  # points of a run taken as runs
MIXED_FAMILIES = Kind("mixed_families", DOUBT)  # a column of labels tells the rows apart
MIXED_SCHEDULES = Kind("mixed_schedules", DOUBT)
REPEATED_DATA = Kind("repeated_data", NOTE)
NARROW_COMPUTE = Kind("narrow_compute", DOUBT)
COLLINEAR_INPUTS = Kind("collinear_inputs", WEAK)
NO_DEGREES_OF_FREEDOM = Kind("no_degrees_of_freedom", WEAK)
FEW_DEGREES_OF_FREEDOM = Kind("few_degrees_of_freedom", DOUBT)
# A fit
NO_INTERVALS = Kind("no_intervals", WEAK)
FEW_RESAMPLES = Kind("few_resamples", DOUBT)
FAILED_REFITS = Kind("failed_refits", WEAK)
NOT_IDENTIFIED = Kind("not_identified", WEAK)
WIDE_INTERVAL = Kind("wide_interval", WEAK)
SECOND_MINIMUM = Kind("second_minimum", WEAK)
RARE_OPTIMUM = Kind("rare_optimum", DOUBT)
L1_IN_EFFECT = Kind("l1_in_effect", NOTE)
STRUCTURED_RESIDUALS = Kind("structured_residuals", DOUBT)
LACK_OF_FIT = Kind("lack_of_fit", DOUBT)
RISING_LAW = Kind("rising_law", DOUBT)  # rises where it must fall
OUTLIER = Kind("outlier", DOUBT)
UNUSUAL_ROW = Kind("unusual_row", NOTE)  # an outlier that hardly moves the law
LARGE_SCATTER = Kind("large_scatter", DOUBT)
HIDDEN_GROUPS = Kind("hidden_groups", DOUBT)  # of residuals, with a gap between them
DIFFERENT_FAMILIES = Kind("different_families", DOUBT)  # residuals differ between labels
SERIAL_RESIDUALS = Kind("serial_residuals", DOUBT)  # those of neighbours in tokens are alike
CONTRADICTION = Kind("contradiction", DOUBT)  # two methods give two exponents
# Profiles and their minima
FEW_SIZES = Kind("few_sizes", DOUBT)
NO_MINIMUM = Kind("no_minimum", DOUBT)
EDGE_MINIMUM = Kind("edge_minimum", DOUBT)
NO_PARABOLA = Kind("no_parabola", DOUBT)
EDGE_OF_ENVELOPE = Kind("edge_of_envelope", NOTE)
# Tuned hyperparameters
NOT_VARIED = Kind("not_varied", NOTE)
EDGE_OF_GRID = Kind("edge_of_grid", NOTE)
UNDETERMINED_QUADRATIC = Kind("undetermined_quadratic", NOTE)
SADDLE = Kind("saddle", NOTE)
OUTSIDE_MINIMUM = Kind("outside_minimum", NOTE)
NOISY_MINIMUM = Kind("noisy_minimum", NOTE)
HIDDEN_VARIABLE = Kind("hidden_variable", NOTE)
NO_RESIDUALS = Kind("no_residuals", NOTE)
# Searches
ONE_SEED = Kind("one_seed", NOTE)
TIED_SETTINGS = Kind("tied_settings", NOTE)
# Gains
UNCERTAIN_FAMILY = Kind("uncertain_family", WEAK)
DOUBTFUL_FAMILY = Kind("doubtful_family", DOUBT)
INFINITE_GAIN = Kind("infinite_gain", NOTE)
OFTEN_INFINITE_GAIN = Kind("often_infinite_gain", NOTE)
WIDE_GAIN = Kind("wide_gain", WEAK)
NO_FLOOR = Kind("no_floor", DOUBT)
EXTRAPOLATED = Kind("extrapolated", NOTE)
FAR_EXTRAPOLATION = Kind("far_extrapolation", DOUBT)
# Forecasts
UNFITTED_MEMBER = Kind("unfitted_member", NOTE)
NO_BACKTEST = Kind("no_backtest", NOTE)
FEW_FOLDS = Kind("few_folds", NOTE)
MEMBERS_DISAGREE = Kind("members_disagree", NOTE)
# Designs
MEASURABLE_TARGET = Kind("measurable_target", NOTE)
OPTIMUM_OUTSIDE_LIMITS = Kind("optimum_outside_limits", NOTE)
GRID_IS_BETTER = Kind("grid_is_better", NOTE)
TOO_WIDE_FOR_FORM = Kind("too_wide_for_form", NOTE)
VARYING_COST = Kind("varying_cost", NOTE)
# Single rows or runs left out
MALFORMED_ROW = Kind("malformed_row", NOTE)
UNREADABLE_CELL = Kind("unreadable_cell", NOTE)
NO_BUDGET = Kind("no_budget", DOUBT)
CURVE_POINT = Kind("curve_point", NOTE, requested=True)
HIGHEST_LOSS = Kind("highest_loss", NOTE, requested=True)
ABOVE_FLOPS = Kind("above_flops", NOTE, requested=True)
SHORT_RUN = Kind("short_run", NOTE, requested=True)
OTHER_ROLE = Kind("other_role", NOTE, requested=True)  # by the plan of the sweep
UNFINISHED_RUN = Kind("unfinished_run", NOTE)
NO_CONFIG = Kind("no_config", NOTE)


@dataclass(frozen=True)
class Notice:
    """A finding about rows, a fit or a plan."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return self.text

    def about(self, subject: str) -> Notice:
        """Return the notice with its subject in front of the text: "baseline: ..."."""
        return replace(self, text=f"{subject}: {self.text}")


def worst(notices: Iterable[Notice]) -> str:
    """Return the worst severity among the notices; NOTE without any."""
    severities = {notice.kind.severity for notice in notices}
    return next((severity for severity in (WEAK, DOUBT) if severity in severities), NOTE)


def lines(notices: Iterable[Notice], most: int = 3) -> list[str]:
    """Return one line per notice, or one per kind with its count if a kind has more than `most`."""
    by_kind: dict[Kind, list[str]] = {}
    for notice in notices:
        by_kind.setdefault(notice.kind, []).append(notice.text)
    made: list[str] = []
    for texts in by_kind.values():
        short = (
            texts if len(texts) <= most else [f"{len(texts)} rows: {'; '.join(texts[:most])}; …"]
        )
        made += short
    return made


def as_json(name: str, notices: Iterable[Notice]) -> dict[str, list[str]]:
    """Return {"warnings": texts, "warning_kinds": kinds} for the name "warnings"."""
    notices = list(notices)
    return {
        name: [notice.text for notice in notices],
        f"{name.removesuffix('s')}_kinds": [notice.kind.name for notice in notices],
    }
