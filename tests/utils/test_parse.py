"""Test the parsing of numbers, booleans and durations of a command line."""

from __future__ import annotations

import pytest

from scaling.utils import parse


@pytest.mark.parametrize(
    "text, value",
    [
        ("1000", 1000),
        ("1e6", 10**6),
        ("1_000_000", 10**6),
        ("1M", 10**6),
        ("2.5B", 2_500_000_000),
        ("12k", 12_000),
        ("3T", 3 * 10**12),
        ("-1", -1),
        ("9007199254740993", 9007199254740993),  # exact beyond float64
        ("1e22", 10**22),
        ("0x1F", 31),
    ],
)
def test_whole_numbers(text, value):
    assert parse.whole_number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "1.5",
        "1e-3",
        "1,000",
        "1 M",
        "1m",
        "one",
        "0xg",
        "1__0",
        "_1",
        "nan",
        "inf",
        "1e999999",
    ],
)
def test_what_is_no_whole_number_names_the_forms(text):
    with pytest.raises(ValueError, match=r"2\.5B"):
        parse.whole_number(text)


@pytest.mark.parametrize(
    "text, value",
    [("3e-3", 3e-3), (".5", 0.5), ("1.", 1.0), ("2.e3", 2e3), ("1M", 1e6), ("-2", -2.0)],
)
def test_numbers(text, value):
    assert parse.number(text) == value


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "", "1,5", "-", ".", "e5"])
def test_what_is_no_number_names_the_forms(text):
    with pytest.raises(ValueError, match="3e-3"):
        parse.number(text)


@pytest.mark.parametrize("text", ["true", "True", "yes", "1", "YES"])
def test_yes(text):
    assert parse.boolean(text) is True


@pytest.mark.parametrize("text", ["false", "no", "0", "No"])
def test_no(text):
    assert parse.boolean(text) is False


@pytest.mark.parametrize("text", ["", "2", "on", "x"])
def test_what_is_no_boolean_names_the_forms(text):
    with pytest.raises(ValueError, match="true, false, yes, no, 1 or 0"):
        parse.boolean(text)


@pytest.mark.parametrize(
    "text, value", [("90s", 90), ("10m", 600), ("90min", 5400), ("2h", 7200), ("1.5d", 129_600)]
)
def test_durations(text, value):
    assert parse.seconds(text) == value


@pytest.mark.parametrize("text", ["", "10", "0s", "-1m", "1w", "1e15", "2 hours"])
def test_what_is_no_duration_names_the_forms(text):
    with pytest.raises(ValueError, match="90s, 10m, 2h or 3d"):
        parse.seconds(text)
