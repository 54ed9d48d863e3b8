"""Numbers print as precisely as their intervals and errors know them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from scaling.commands import run_table
from scaling.laws import to_text
from scaling.metrics.metric import Metric
from scaling.utils import precision

INTERVALS = {
    (1.336, 1.234, 1.455): "1.34 [1.23, 1.46]",
    (0.6318, 0.5814, 0.6941): "0.632 [0.581, 0.694]",
    (-0.13021, -0.14382, -0.11711): "-0.130 [-0.144, -0.117]",
    (5e-29, 1e-30, 0.34): "0.00 [0.00, 0.34]",
    (-1e-20, -0.3, 0.3): "0.00 [-0.30, 0.30]",
    (482.01, 150.2, 1600.4): "480 [150, 1600]",
    (400.0, 50.0, 1e6): "400 [50, 1.0e+06]",  # known by a factor
    (12345.6, 10000.0, 15000.0): "12300 [10000, 15000]",
    (2.486e6, 2.2e6, 2.7e6): "2.49e+06 [2.20e+06, 2.70e+06]",
    (2.5e12, 1e12, 4e12): "2.5e+12 [1.0e+12, 4.0e+12]",
    (1e-5, 9e-6, 1.1e-5): "1.00e-05 [9.0e-06, 1.10e-05]",
    (15.43, 7.02, math.inf): "15.4 [7.0, inf]",
    (math.inf, 3.0, math.inf): "inf [3, inf]",
    (0.38817, math.nan, math.nan): "0.3882 [no interval]",
    (2.0, 2.0, 2.0): "2 [2, 2]",
}
ERRORS = {
    (1.32971, 0.01021): "1.330 +- 0.010",
    (5e-29, 0.17): "0.00 +- 0.17",
    (1234.5, 67.0): "1234 +- 67",
    (1.3, 123.0): "0 +- 120",
    (9.9961, 0.0996): "9.996 +- 0.100",
    (1.3, 0.0): "1.3 +- 0",
    (1.3, None): "1.3000",
    (1.3, math.nan): "1.3000 (one draw, no standard error)",
}


@pytest.mark.parametrize(("numbers", "text"), INTERVALS.items(), ids=str)
def test_an_interval_decides_the_digits_of_its_numbers(numbers, text):
    assert precision.with_interval(*numbers) == text
    assert precision.of_dict(dict(zip(("value", "low", "high"), numbers, strict=True))) == text


@pytest.mark.parametrize(("numbers", "text"), ERRORS.items(), ids=str)
def test_an_error_decides_the_digits_of_its_value(numbers, text):
    assert precision.with_error(*numbers) == text
    assert precision.rounded(*numbers) == text.split()[0]


def test_a_metric_of_one_draw_states_no_error():
    assert str(Metric(0.25, math.nan, 1)) == "0.2500 (one draw, no standard error)"
    assert str(Metric(0.25, 0.0123, 40)) == "0.250 +- 0.012 (n 40)"


def test_lines_of_a_law_print_no_more_than_is_known():
    nan, unknown = math.nan, {"value": 0.38817, "se": math.nan, "low": math.nan, "high": math.nan}
    content = {
        "equation": "L = E", "n_rows": 3, "excluded": [], "verdict": "good", "warnings": [],
        "params": {
            "E": {"value": 5e-29, "se": 0.1712, "low": 0.0, "high": 0.3412}, "alpha": unknown,
        },
        "weights": {"level": 1.0}, "backtest_rms_log_errors": {"level": []},
        "predictions": [{"tokens": 1e9, "loss": {"value": 1.3361, "low": 1.234, "high": 1.455}}],
        "gains": [{"flops": 1e20, "new_loss": 2.5, "gain": {"value": 3, "low": nan, "high": nan}}],
    }  # fmt: skip
    assert to_text.lines(content)[2:-1] == [
        "  E      0.00 [0.00, 0.34]  se 0.17",
        "  alpha  0.3882 [no interval]",
        "  level            weight 1.00  backtest errors none",
        "  D 1e+09: loss 1.34 [1.23, 1.46] for a new run",
        "  C 1e+20: loss 2.5, gain 3 [no interval]",
    ]


def test_a_run_on_one_held_out_document_states_no_error():
    told = {"run_id": "r", "loss": 2.34567, "flops_exact": 1e9, "field": "language", "mfu": None}
    one = SimpleNamespace(**told, loss_se=math.nan, bits_per_byte=3.456, metrics={"accuracy": 0.25})
    assert run_table.in_words(one) == (
        "r: loss 2.3457 (one draw, no standard error) nats/token, 3.4560 bits per byte, "
        "accuracy 25.0000 %, 1e+09 FLOPs"
    )
    many = SimpleNamespace(
        **told, loss_se=0.1, bits_per_byte=3.456, metrics={"accuracy": 0.25, "accuracy_se": 0.012}
    )
    assert run_table.in_words(many) == (
        "r: loss 2.35 +- 0.10 nats/token, 3.46 bits per byte, accuracy 25.0 %, 1e+09 FLOPs"
    )


def test_a_value_that_is_not_there_is_a_dash():
    nan = float("nan")
    assert precision.texts(nan, nan, nan) == ("-", "", "")
