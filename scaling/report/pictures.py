"""Collect the pictures of a fitted law by name."""

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


def for_law(
    law: Law,
    table: Table,
    points: Sequence[tuple[float, ...]] = (),
    labels: Mapping[str, str] | None = None,
) -> dict[str, Picture]:
    """Return the pictures of a law fitted to `table`.

    `points`: the inputs (N and D, or x) at which a combined forecast predicts. `labels`: names of
    the columns on the axes, in place of the usual ones.
    """
    if isinstance(law, IsoflopFit):
        return {
            "profiles": isoflop.profiles(law, table, labels),
            "laws": isoflop.optimum(law, labels),
        }
    if isinstance(law, Combined):
        names = next(iter(law.fits.values())).form.inputs
        pictures = {"forecast": forecast.points(law, points, names)} if points else {}
        return {"backtest": forecast.backtest(law), **pictures} if law.backtest else pictures
    return {} if isinstance(law, HyperFit | VarproFit) else _for_form(law, table, labels)


def _for_form(law: Fit, table: Table, labels: Mapping[str, str] | None) -> dict[str, Picture]:
    """Return contours or a curve if the form has them, residuals and refits."""
    pictures: dict[str, Picture] = {}
    if law.form.inputs == SIZE_AND_DATA and law.form.target == "loss":
        priced = table
        if "flops" not in table:
            priced = table.with_columns(flops=6.0 * table.n_params * table.tokens)
        pictures["contours"] = surface.picture(law, priced, labels=labels)
    if len(law.form.inputs) == 1:
        pictures["curve"] = curve.picture(law, table, labels)
    else:
        pictures["predicted"] = measured.picture(law, table, labels)
    pictures["residuals"] = residuals.picture(law, table, labels)
    if len(law.draws_BP) and len(law.form.parameters) > 1:  # the picture needs pairs
        pictures["bootstrap"] = bootstrap.picture(law, labels)
    return pictures
