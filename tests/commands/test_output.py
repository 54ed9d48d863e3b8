"""Tables and notes in the five formats."""

from __future__ import annotations

import argparse
import contextlib
import io
import json

from scaling.commands import output
from scaling.commands.output import Output, Table

ROWS = [
    {"name": "a_b & c|d", "count": 1_234_567, "loss": 2.34567, "share": 0.5, "gap": None},
    {"name": "x", "count": 7, "loss": float("nan"), "share": 1.0, "gap": 3},
]
MADE = Output({"rows": ROWS}, [Table("Runs", ROWS, formats={"share": ".0%"})], ["two rows"])


def test_text_aligns_numbers_to_the_right_and_words_to_the_left():
    assert output.text(MADE) == [
        "name           count   loss  share  gap",
        "a_b & c|d  1,234,567  2.346    50%    -",
        "x                  7      -   100%    3",
        "two rows",
    ]


def test_json_is_null_where_a_number_is_none():
    content = json.loads("\n".join(output.lines([MADE], "json")))
    assert content["rows"][1]["loss"] is None and content["rows"][0]["count"] == 1_234_567
    both = json.loads("\n".join(output.lines([MADE, Output({"more": 1})], "json")))
    assert set(both) == {"rows", "more"}


def test_csv_keeps_every_digit():
    assert output.lines([MADE], "csv") == [
        "name,count,loss,share,gap",
        "a_b & c|d,1234567,2.34567,0.5,",
        "x,7,nan,1.0,3",
    ]


def test_markdown_and_latex_escape_their_signs():
    assert output.lines([MADE], "markdown") == [
        "### Runs",
        "",
        "| name | count | loss | share | gap |",
        "|---|---|---|---|---|",
        r"| a_b & c\|d | 1,234,567 | 2.346 | 50% | - |",
        "| x | 7 | - | 100% | 3 |",
        "",
        "- two rows",
    ]
    latex = output.lines([MADE], "latex")
    assert latex[1] == r"\begin{tabular}{lrrrr}" and latex[-1] == "% two rows"
    assert r"a\_b \& c|d & 1,234,567 & 2.346 & 50\% & - \\" in latex


def test_a_table_leaves_out_optional_columns_until_it_fits():
    rows = [{f"column_{i}": "x" * 20 for i in range(6)}]
    table = Table("", rows, optional=("column_4", "column_1", "column_0"))
    lines = output.text_lines(table)
    assert lines[0].split() == ["column_0", "column_2", "column_3", "column_5"]
    assert lines[-1] == "columns left out: column_4, column_1; --wide shows all"
    assert len(lines[1]) == 4 * 20 + 3 * 2
    assert len(output.text_lines(table, wide=True)[0].split()) == 6
    long = output.text_lines(Table("", [{"note": "x" * 200}]))
    assert len(long[1]) == output.COLUMNS and long[1].endswith("…")
    assert long[-1] == "lines cut off; --wide shows all"


def test_text_is_printed_as_soon_as_it_is_made(capsys):
    args, seen = argparse.Namespace(json=False, format=None, wide=False), []

    def outputs():
        yield MADE
        seen.append(capsys.readouterr().out)
        yield Output({"b": 1}, notes=["later"])

    output.show_each(args, outputs())
    assert "two rows" in seen[0] and capsys.readouterr().out == "later\n"


def test_a_csv_cell_keeps_the_line_ends_inside_it():
    table = Table("", [{"family": "x\u2028y\fz", "n": 1}])
    rows = output.lines([Output({}, [table])], "csv")
    assert rows == ["family,n", "x\u2028y\fz,1"]


def test_lines_of_text_are_a_column_in_other_formats():
    args = argparse.Namespace(json=False, format="csv", wide=False)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        output.show_lines(args, "command", ["scaling work --workdir=W"])
    assert printed.getvalue() == "command\nscaling work --workdir=W\n"
