"""Export the public names that fit scaling laws to a table of runs.

No model, data or training code is imported. For example:

from scaling import laws
table = laws.read_csv("runs.csv", n_params="n_params", tokens="tokens", flops="flops", loss="loss")
law = laws.fit(table, "chinchilla", objective=laws.Objective(delta=1e-3), bootstrap=500)
law.values, law.intervals, law.verdict, law.warnings
law.predict(1e9, 2e10), law.prediction_interval(1e9, 2e10), law.optimum(1e21)
laws.fit_optimum_of(table, "lr"), laws.compute_equivalent_gain(law, another_law, [1e20, 1e21])
"""

from scaling.laws.design import Prior, Proposal, Target, expected_se, inside, propose
from scaling.laws.design_plans import expected_optimum, isoflop_grid, mean_se
from scaling.laws.envelope import EnvelopeFit, fit_envelope
from scaling.laws.fit import Fit, fit, fit_chinchilla
from scaling.laws.forecast import Combined, forecast
from scaling.laws.forms.registry import FORMS, Form, power_product
from scaling.laws.gain import Gain, compute_equivalent_gain
from scaling.laws.isoflop import IsoflopFit, fit_isoflop
from scaling.laws.lr_batch_law import HyperFit, fit_optimum_of
from scaling.laws.objective import Objective
from scaling.laws.power import PowerFit, fit_power
from scaling.laws.read import read_csv
from scaling.laws.table import CannotFit, Table, make_table
from scaling.laws.varpro import VarproFit, fit_varpro

__all__ = [
    "FORMS",
    "CannotFit",
    "Combined",
    "EnvelopeFit",
    "Fit",
    "Form",
    "Gain",
    "HyperFit",
    "IsoflopFit",
    "Objective",
    "PowerFit",
    "Prior",
    "Proposal",
    "Table",
    "Target",
    "VarproFit",
    "compute_equivalent_gain",
    "expected_optimum",
    "expected_se",
    "fit",
    "fit_chinchilla",
    "fit_envelope",
    "fit_isoflop",
    "fit_optimum_of",
    "fit_power",
    "fit_varpro",
    "forecast",
    "inside",
    "isoflop_grid",
    "make_table",
    "mean_se",
    "power_product",
    "propose",
    "read_csv",
]
