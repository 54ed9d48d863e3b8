"""Which pictures belong to a fitted law, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scaling.laws.fit import Fit
from scaling.laws.forecast import Combined
from scaling.laws.isoflop import IsoflopFit
from scaling.laws.lr_batch_law import HyperFit
from scaling.laws.table import Table
from scaling.laws.varpro import VarproFit
from scaling.report import bootstrap, curve, forecast, isoflop, measured, residuals, surface
from scaling.report.picture import Picture

Law = Fit | IsoflopFit | Combined | HyperFit | VarproFit
SIZE_AND_DATA = ("n_params", "tokens")


def of(
    law: Law,
    table: Table,
    points: Sequence[tuple[float, ...]] = (),
    labels: Mapping[str, str] | None = None,
) -> dict[str, Picture]:
    """The pictures of a law fitted to `table`; `points` are the N and D, or x, that a combined
    forecast is about.

    `labels` name the columns on the axes; without them they have their usual names.
    """
    if isinstance(law, IsoflopFit):
        return {
            "profiles": isoflop.profiles(law, table, labels),
            "laws": isoflop.optimum(law, labels),
        }
    if isinstance(law, Combined):
        names = next(iter(law.fits.values())).form.inputs
        found = {"forecast": forecast.points(law, points, names)} if points else {}
        return {"backtest": forecast.backtest(law), **found} if law.backtest else found
    return {} if isinstance(law, HyperFit | VarproFit) else of_form(law, table, labels)


def of_form(law: Fit, table: Table, labels: Mapping[str, str] | None = None) -> dict[str, Picture]:
    """Return contours or curve if the form has them, residuals and refits."""
    found: dict[str, Picture] = {}
    if law.form.inputs == SIZE_AND_DATA and law.form.target == "loss":
        costed = table
        if "flops" not in table:
            costed = table.with_columns(flops=6.0 * table.n_params * table.tokens)
        found["contours"] = surface.picture(law, costed, labels=labels)
    if len(law.form.inputs) == 1:
        found["curve"] = curve.picture(law, table, labels)
    else:
        found["predicted"] = measured.picture(law, table, labels)
    found["residuals"] = residuals.picture(law, table, labels)
    if len(law.draws_BP) and len(law.form.parameters) > 1:  # drawn in pairs
        found["bootstrap"] = bootstrap.picture(law, labels)
    return found
