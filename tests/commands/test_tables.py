"""Tables of four commands: a study's own need no flags, and no row is left out silently."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from scaling.commands import command_line, table_rows
from scaling.laws import api as laws
from scaling.utils import notices
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE, UserError
from tests.commands.common import assert_refused, call
from tests.common import ROOT

OWN = ROOT / "docs" / "quickstart" / "runs.csv"
LIMITS = ("--total_flops=1e15", "--max_runs=9", "--max_flops=1e14", "--at=1e16")


def read(*words, needed=("n_params", "tokens", "loss"), table=None):
    """Return the rows that a command reads."""
    args = command_line.parse(list(words))
    path = table or (args.tables[0] if args.command == "gain" else args.table)
    return table_rows.read(table_rows.open_file(path, args), args, needed)


@pytest.fixture
def workdir(tmp_path):
    """A workdir with the table of the quickstart, as CSV and as Parquet."""
    from pyarrow import csv, parquet

    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "runs.csv").write_bytes(OWN.read_bytes())
    parquet.write_table(csv.read_csv(io.BytesIO(OWN.read_bytes())), folder / "runs.parquet")
    return folder


@pytest.mark.parametrize("command", ["fit", "gain", "design"])
def test_a_study_s_own_table_needs_no_flags(capsys, workdir, command):
    more = {"gain": ("other.csv",), "design": LIMITS}.get(command, ())
    tables = [
        read(command, str(workdir / name), *more) for name in ("runs.csv", "runs.parquet", "")
    ]
    for table in tables:
        assert set(table.columns) == {"n_params", "tokens", "flops", "loss", "budget"}
        assert len(table) == 50 and [n.kind for n in table.excluded] == [notices.OTHER_ROLE]
        for name, values in table.columns.items():
            np.testing.assert_array_equal(values, tables[0][name])
        assert len(set(table.budget)) == 5 and not table.warnings
        assert not np.allclose(table.flops, 6 * table.n_params * table.tokens)  # flops_exact
        assert table_rows.exit_code(table) == 0
    assert "left out: row 46: holdout run" in capsys.readouterr().err


def test_conventions_of_an_own_table_cross_its_counts_and_prices(capsys, workdir):
    flags = ("conventions", str(workdir), "--bootstrap=0", "--json")
    code, out, err = call(capsys, *flags, "--n_params=n_params_total")
    found = json.loads(out)["rows"]
    assert code == 0 and "left out: row 46: holdout run" in err
    prices = ("exact", "appendix_f", "kaplan", "porian", "chinchilla")
    assert [(r["n_params"], r["flops"]) for r in found] == [
        ("n_params_total", f"flops_{c}") for c in prices
    ]
    assert found[0]["budgets"] == 5
    code, out, _ = call(capsys, *flags, "--flops=flops_exact")
    sizes = ("n_params", "n_params_with_head", "n_params_total")
    assert code == 0 and [r["n_params"] for r in json.loads(out)["rows"]] == list(sizes)
    assert json.loads(out)["rows"][2] == found[0]


def test_rows_of_another_role_are_kept_where_asked(workdir):
    assert len(read("fit", str(workdir), "--where=role=holdout")) == 1
    lines = OWN.read_text().splitlines()
    (workdir / "runs.csv").write_text("\n".join([lines[0], lines[46 - 1]]))
    with pytest.raises(UserError, match="no finished run of a sweep; row 2: holdout run"):
        read("fit", str(workdir))


def test_histories_of_a_folder_become_runs(capsys, tmp_path):
    for size in (10, 30):
        points = [f"{s},{s * size * 1e6},{'' if s % 10 else 9 - s / 20}" for s in range(101)]
        (tmp_path / f"{size}M.csv").write_text("\n".join(["step,tokens,loss", *points]) + "\n")
    pattern = str(tmp_path / "*.csv")
    table = read("fit", pattern, "--last_of=step", "--n_params=@name")
    assert table.n_params.tolist() == [1e7, 3e7] and table.tokens.tolist() == [1e9, 3e9]
    assert table.loss.tolist() == [4, 4] and table.names == ("10M.csv row 102", "30M.csv row 102")
    assert table_rows.exit_code(table) == 0
    *read_lines, left_out = capsys.readouterr().err.splitlines()
    assert read_lines == [
        "read: 2 files as one table",
        "read: @name: numbers from the names of files, '10M' = 10000000",
    ]
    assert left_out.startswith("left out: 200 rows: 10M.csv row 3: no loss at step='1'; ")
    assert left_out.count("row ") == 3 and left_out.endswith("; …")
    shell = sorted(map(str, tmp_path.glob("*.csv")))  # as a shell expands the pattern
    same = read("fit", *shell, "--last_of=step", "--n_params=@name")
    assert same.hash() == table.hash()
    with pytest.raises(UserError, match="the name '10M' does not hold one number after 'N'"):
        read("fit", pattern, "--last_of=step", "--n_params=@name:N")


def isoflop_table(path, stray: int) -> str:
    """Write profiles of two budgets, and rows between them."""
    lines = ["N,D,loss"]
    for budget, sizes in ((1e17, 6), (1e18, 6), *((2e17 * 1.3**k, 1) for k in range(stray))):
        for k in range(sizes):
            n = (budget / 120) ** 0.5 * 2.0 ** (k - 3)
            d = budget / 6 / n
            lines.append(f"{n},{d},{1.7 + 400 * n**-0.35 + 900 * d**-0.37}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_rows_without_a_budget_are_counted_and_lower_the_verdict(capsys, tmp_path):
    flags = ("--n_params=N", "--tokens=D", "--form=isoflop", "--bootstrap=0")
    path = isoflop_table(tmp_path / "t.csv", stray=5)
    code, out, err = call(capsys, "fit", path, *flags, "--json")
    law = json.loads(out)
    assert code == EXIT_INCOMPLETE and "left out: 5 rows: row 14: no budget at 2e+17 FLOPs" in err
    assert law["counts"] == {
        "rows": {"used": 12, "left_out": 5}, "budgets": {"used": 2, "left_out": 0},
    }  # fmt: skip
    assert "no_budget" in law["warning_kinds"] and law["excluded_kinds"] == ["no_budget"] * 5
    assert "5 of 17 rows belong to no budget" in law["warnings"][0]
    assert law["verdict"] != "good"
    code, out, _ = call(capsys, "fit", isoflop_table(tmp_path / "t.csv", stray=0), *flags)
    assert code == 0 and "  used: 12 rows (0 left out), 2 budgets (0 left out)" in out


def test_a_budget_of_few_sizes_names_the_way_out(capsys, tmp_path):
    path = tmp_path / "t.csv"
    isoflop_table(path, stray=0)
    lines = path.read_text().splitlines()
    named = [f"{lines[0]},C", *(f"{x},{1 if k < 6 else 2}" for k, x in enumerate(lines[1:9]))]
    path.write_text("\n".join(named))
    code, _, err = call(
        capsys, "fit", str(path), "--n_params=N", "--tokens=D", "--form=isoflop", "--budget=C"
    )
    assert code == EXIT_BAD_INPUT and len(err.splitlines()) == 1
    assert "2 sizes, a parabola needs 4; add sizes at this budget, or name a column" in err


BAD = {
    "fit t.csv --blocks": "--blocks: name the column that tells runs apart, e.g. --blocks=run_name",
    "fit tests": "tests: a folder without runs.csv; `scaling sweep --workdir=tests` writes it",
    "fit tests/*.none": "tests/*.none: no file matches this pattern",
    "fit t.csv --unit=n_params": "t.csv: no such file",
    "design --unit=n_params=1 --total_flops=1e15 --max_runs=9 --max_flops=1e14 --at=1e16":
        "--unit belongs to a table of runs",
    "conventions --workdir=w --last_of=step": "--last_of belongs to a CSV",
}  # fmt: skip


RUNS = [(n, d) for n in (1e7, 3e7, 1e8, 3e8) for d in (2e8, 1e9, 4e9, 2e10)]


def runs_table(path, header="N,D,loss", cells=lambda row, loss: f"{loss:.4f}") -> str:
    """Write runs of a law; `cells` makes the cells after N and D of a row of the file."""
    lines = [header]
    for row, (n, d) in enumerate(RUNS, start=2):
        loss = 1.8 + 480 * n**-0.35 + 2100 * d**-0.37
        lines.append(f"{n:.0f},{d:.0f},{cells(row, loss)}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


FIT = ("--n_params=N", "--tokens=D", "--loss=loss", "--bootstrap=10")
REFUSED = {
    "another header": (
        "N,D,loss,train_loss",
        lambda row, loss: f"{loss},{loss}" + "\nN,D,train_loss,loss" * (row == 9), (),
        "row 10 is another header ('N, D, train_loss, loss')",
    ),
    "split decimals": (
        "N,D,loss,note", lambda row, loss: f"{loss:.4f}".replace(".", ","), (),
        "row 2: loss='5' and every other one is whole, and the next column (note) holds only "
        "digits: decimal commas?",
    ),
    "two units": (
        "N,D,loss", lambda row, loss: f"{100 * loss:.2f}%", ("--unit=loss=percent",),
        "states its unit, and --unit=loss another one; leave one of them out",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("header", "cells", "flags", "words"), REFUSED.values(), ids=REFUSED)
def test_what_a_file_does_not_clearly_state_is_refused(
    capsys, tmp_path, header, cells, flags, words
):
    path = runs_table(tmp_path / "t.csv", header, cells)
    code, _, err = call(capsys, "fit", path, *FIT, *flags)
    assert code == EXIT_BAD_INPUT and words in err and len(err.splitlines()) == 1, err


def test_runs_without_a_result_and_odd_digits_are_left_out_by_name(tmp_path):
    path = runs_table(
        tmp_path / "t.csv", "N,D,loss,status",
        lambda row, loss: f"{loss:.3f}".replace(".", "_" if row == 7 else ".")
        + (",diverged" if row == 4 else ",done"),
    )  # fmt: skip
    table = laws.read_csv(path, n_params="N", tokens="D", loss="loss")
    assert len(table) == len(RUNS) - 2 and "row 4" not in table.names
    texts = sorted(map(str, table.excluded))
    assert texts[0] == "row 4: status=diverged; keep such rows by --where"
    assert texts[1].startswith("row 7: loss='") and texts[1].endswith("' is not a number")
    kept = laws.read_csv(path, n_params="N", tokens="D", loss="loss", where="status=diverged")
    assert kept.names == ("row 4",)


def test_seeds_that_tie_after_rounding_are_no_copies(tmp_path):
    def kinds(name):
        path = runs_table(
            tmp_path / f"{name}.csv", f"N,D,loss,{name},row",
            lambda row, loss: "\n".join(
                f"{'' if s == 1 else f'{RUNS[row - 2][0]:.0f},{RUNS[row - 2][1]:.0f},'}"
                f"{loss:.1f},{s},{row}" for s in (1, 2)
            ),
        )  # fmt: skip
        table = laws.read_csv(path, n_params="N", tokens="D", loss="loss")
        return {notice.kind for notice in table.warnings}

    assert notices.DUPLICATE_ROWS not in kinds("seed")
    assert notices.DUPLICATE_ROWS in kinds("copy")


@pytest.mark.parametrize(("line", "words"), BAD.items(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_two(capsys, line, words):
    assert_refused(capsys, line, words)
