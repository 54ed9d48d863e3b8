"""Scaling laws from a table of runs. Imports no model, data or training code.

from scaling import laws
table = laws.read_csv("runs.csv", n_params="n_params", tokens="tokens", flops="flops", loss="loss")
fit = laws.fit_chinchilla(table, delta=1e-3, bootstrap=500)
fit.values, fit.intervals, fit.predict(n_params=1e9, tokens=2e10)
"""

from scaling.laws.envelope import EnvelopeFit, fit_envelope
from scaling.laws.isoflop import IsoflopFit, fit_isoflop
from scaling.laws.parametric import ChinchillaFit, fit_chinchilla
from scaling.laws.power import OffsetFit, PowerFit, fit_offset, fit_power
from scaling.laws.table import CannotFit, Table, read_csv

__all__ = [
    "CannotFit",
    "ChinchillaFit",
    "EnvelopeFit",
    "IsoflopFit",
    "OffsetFit",
    "PowerFit",
    "Table",
    "fit_chinchilla",
    "fit_envelope",
    "fit_isoflop",
    "fit_offset",
    "fit_power",
    "read_csv",
]
