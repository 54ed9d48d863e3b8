"""Exit codes and hints of commands follow from the kinds of notices, never from the wording."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from scaling.commands import design_runs, table_rows
from scaling.laws import api as laws
from scaling.utils import notices
from scaling.utils.errors import EXIT_INCOMPLETE
from scaling.utils.notices import Notice
from tests.laws.test_fit import seeds_of


def bent():
    """Runs with seeds whose losses follow another form."""
    table = seeds_of(15, 3)
    return table.with_columns(loss=table.loss * (1 + 0.02 * np.sin(4 * np.log(table.n_params))))


def csv(folder: Path, last: str) -> Path:
    path = folder / "runs.csv"
    path.write_text("\n".join(["x,loss", *(f"{i},{5 / i}" for i in range(1, 9)), last]) + "\n")
    return path


@pytest.fixture
def reworded(monkeypatch):
    """Every notice loses its text, as if all of them read otherwise; return the kinds created."""
    kinds = []

    def create(self, kind, text):
        kinds.append(kind)
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "text", "")

    monkeypatch.setattr(Notice, "__init__", create)
    return kinds


def test_exit_codes_without_texts(tmp_path, reworded):
    def code(last, **options):
        columns = {"flops": "x", "loss": "loss"}
        return table_rows.exit_code(laws.read_csv(csv(tmp_path, last), **columns, **options))

    assert code("9,0.5") == 0 and not reworded
    assert code("9,0.5", drop_highest=1) == code("9,0.5", drop_above_flops=8.5) == 0
    assert code("9,high") == code("9,high", drop_highest=1) == EXIT_INCOMPLETE
    assert set(reworded) == {notices.HIGHEST_LOSS, notices.ABOVE_FLOPS, notices.UNREADABLE_CELL}


def test_the_hint_to_be_careful_without_texts(reworded):
    args = argparse.Namespace(
        table="", careful=False, objective="", huber_delta=0.0, quantile=0.5, linear=False,
        blocks="", fixed="", bootstrap=5, confidence=0.9,
    )  # fmt: skip
    for table, hint in ((seeds_of(15, 3), False), (bent(), True)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(table_rows, "open_file", lambda *a: None)
            patch.setattr(table_rows, "read", lambda *a, table=table, **k: table)
            kinds = {w.kind for w in design_runs._of_table(args, ["chinchilla"]).warnings}
        assert (notices.LACK_OF_FIT in kinds) == (notices.TOO_WIDE_FOR_FORM in kinds) == hint
