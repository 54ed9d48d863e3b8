"""Traits of fields that packages below scaling/fields need: the unit of D and the form of a row."""

from __future__ import annotations

# What D, and each column and duration named tokens, counts in each field.
UNITS = {
    "language": "tokens",
    "vision": "images",
    "speech": "segments",
    "recommend": "positions",
}
SEQUENCES = ("language", "recommend")  # fields whose rows have a target at each position
LABELLED = ("vision", "speech")  # fields whose rows are grids with one label
