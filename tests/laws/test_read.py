"""Numbers of tables from elsewhere: read where the file states them, refused or suspected else."""

from __future__ import annotations

import math

import pytest

from scaling.laws import api as laws
from scaling.laws import checks
from scaling.utils import notices, number_text
from scaling.utils.errors import UserError

COLUMNS = {"n_params": "N", "tokens": "D", "loss": "loss"}


def table(tmp_path, text, **options):
    path = tmp_path / "t.csv"
    path.write_text(text)
    return laws.read_csv(path, **{**COLUMNS, **options})


def rows(*lines, header="N;D;loss"):
    return "\n".join([header, *lines]) + "\n"


# name -> (a row, its numbers, what is said)
READ = {
    "plain": ("1e7;2e8;5.3306", (1e7, 2e8, 5.3306), ""),
    "three decimals": ("10000000;2e8;5.331", (1e7, 2e8, 5.331), ""),
    "underscores": ("10_000_000;2e8;5.33", (1e7, 2e8, 5.33), "thousands separators removed"),
    "suffixes": (
        "12M;1.5B;5.33",
        (12e6, 1.5e9, 5.33),
        "suffixes read as factors, '12M' = 12000000",
    ),
    "small suffixes": ("210k;300b;5.33", (210e3, 300e9, 5.33), "suffixes"),
    "words": ("7 million;1.5 billion tokens;5.33", (7e6, 1.5e9, 5.33), "suffixes"),
    "percent": ("1e7;2e8;53.31%", (1e7, 2e8, 0.5331), "percent read as hundredths"),
    "thousands": ("10,000,000;200,000,000;5.33", (1e7, 2e8, 5.33), "thousands separators removed"),
    "one group beside a point": ("10,000;2e8;5.33", (1e4, 2e8, 5.33), "thousands separators"),
    "decimal commas": ("10000000;2e8;5,3306", (1e7, 2e8, 5.3306), "decimal commas read, '5,3306'"),
    "decimal commas, 1.234": ("10.000.000;200.000.000;5,33", (1e7, 2e8, 5.33), "thousands"),
    "an exponent": ("1,5e7;2e8;5,33", (1.5e7, 2e8, 5.33), "decimal commas"),
    "spaces": ("10 000 000;200\u00a0000\u00a0000;5.33", (1e7, 2e8, 5.33), "thousands"),
    "apostrophes": ("10'000'000;2e8;5.33", (1e7, 2e8, 5.33), "thousands"),
}


@pytest.mark.parametrize(("row", "numbers", "said"), READ.values(), ids=READ)
def test_a_number_that_the_file_states_is_read_and_said(tmp_path, row, numbers, said):
    found = table(tmp_path, rows(row, row.replace("5", "4", 1)))
    assert tuple(found[c][0] for c in COLUMNS) == numbers
    assert any(said in n.text for n in found.reading) and not found.excluded
    assert len(found.reading) == 1 + bool(said) + (said.startswith("thousands") and "5,33" in row)


REFUSED = {
    "a group alone": (("10,000;2e8;5",), {}, "row 2 has N='10,000': a decimal comma or thousands? "
                      "state --decimal=comma or --decimal=point"),
    "a loss of three decimals": (("1e7;2e8;5,331",), {}, "row 2 has loss='5,331': a decimal comma"),
    "points in a table of commas": (("10.000;2e8;5,33",), {}, "N='10.000': a decimal point or"),
    "two ways": (("1e7;2e8;5.33", "1e7;2e8;5,33"), {}, "row 3 has loss='5,33', row 2 has loss="),
    "some percent": (("1e7;2e8;53.3%", "1e7;2e8;0.45"), {}, "column loss has percent ('53.3%' = "),
    "no number": (("many;2e8;5.3",), {}, "no usable row of 1; row 2: N='many' is not a number"),
    "a long cell": (("x" * 99 + ";2e8;5",), {}, f"N='{'x' * 39}…' is not a number"),
    "wrong groups": (("1,00,000;2e8;5",), {}, "N='1,00,000' is not a number"),
    "a loss with a suffix": (("1e7;2e8;5k",), {}, "loss='5k' is not a number"),
    "a range": (("1e7;2e8;5.3±0.1",), {}, "loss='5.3±0.1' is not a number"),
    "a share of parameters": (("50%;2e8;5.3",), {}, "N='50%' is not a number"),
    "an unknown meaning": (("1;2;3",), {"n_param": "N"}, "n_param: no meaning of a column; did"),
    "an unknown mark": (("1;2;3",), {"decimal": ","}, "--decimal=,: choose comma or point"),
    "no such unit": (("1;2;3",), {"units": "loss=lots"}, "--unit=loss=lots: neither a factor"),
    "a unit of no column": (("1;2;3",), {"units": "x=1e6"}, "--unit=x=1e6: no column is x"),
    "a size in perplexity": (("1;2;3",), {"units": "n_params=perplexity"}, "of the loss alone"),
    "blocks of no column": (("1;2;3",), {"blocks": "seed"}, "--blocks=seed: no column 'seed'; name "
                            "it with --seed=COLUMN"),
    "a certain row": (("1;2;0",), {"loss_se": "loss", "loss": ""}, "fit without --loss_se"),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_number_in_doubt_is_refused_with_the_fix(tmp_path, lines, options, words):
    with pytest.raises(UserError) as caught:
        table(tmp_path, rows(*lines), **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_stated_decimal_mark_settles_a_doubt(tmp_path):
    text = rows("10,250;200,000;5,331")
    assert [v[0] for v in table(tmp_path, text, decimal="comma").columns.values()][:3] == [
        10.25, 200.0, 5.331,
    ]  # fmt: skip
    with pytest.raises(UserError, match="loss='5,331' is not a number"):  # no loss of thousands
        table(tmp_path, text, decimal="point")
    assert table(tmp_path, rows("10,250;200,000;5"), decimal="point").n_params[0] == 10250


UNITS = {
    "millions and billions": (rows("10;0.2;5", "1000;20;3"), {}, [
        "n_params between 10 and 1000: in millions? state --unit=n_params=1e6",
        "tokens between 0.2 and 20: in billions? state --unit=tokens=1e9",
    ]),
    "billions beside tokens": (rows("0.5;1e10;5", "70;2e12;3"), {}, ["n_params between 0.5 and 70: "
                               "in billions? state --unit=n_params=1e9"]),
    "a name": (rows("1300;2e10;5", "7000;2e12;3", header="params (M);D;loss"),
               {"n_params": "params (M)"}, ["n_params between 1300 and 7000: in millions?"]),
    "tokens per parameter": (rows("1e9;2000;5", "2e9;4000;3"), {}, ["tokens / n_params is 2e-06"]),
    "GFLOPs": (rows("1e9;2e10;3;1.2e11", header="N;D;loss;C"), {"flops": "C"},
               ["flops in GFLOPs? state --unit=flops=GFLOPs"]),
    "PFLOP-days without tokens": (rows("1e9;2e10;3;1.389", header="N;D;loss;C"),
                                  {"flops": "C", "tokens": ""}, ["--unit=flops=PFLOP-days"]),
    "perplexity": (rows("1e7;2e8;40.1"), {}, ["--unit=loss=perplexity"]),
    "perplexity by name": (rows("1e7;2e8;9.1", header="N;D;ppl"), {"loss": "ppl"}, ["perplexity"]),
    "as they should be": (rows("1e7;2e8;5.3;1.2e16", header="N;D;loss;C"), {"flops": "C"}, []),
    "stated": (rows("10;0.2;5", "1000;20;3"), {"units": "n_params=1e6,tokens=billions"}, []),
    "stated as it is": (rows("10;0.2;5", "1000;20;3"), {"units": "n_params=1,tokens=1"}, []),
}  # fmt: skip


@pytest.mark.parametrize(("text", "options", "words"), UNITS.values(), ids=UNITS)
def test_another_unit_is_suspected_by_rule(tmp_path, text, options, words):
    found = list(table(tmp_path, text, **options).warnings)
    assert [n.kind for n in found] == [notices.UNUSUAL_UNITS] * len(words), found
    assert all(word in notice.text for word, notice in zip(words, found, strict=True)), found


def test_a_stated_unit_is_applied(tmp_path):
    text = rows("10;0.2;20", "1000;20;e", "30;20;1", header="N;D;loss")
    units = {"n_params": 1e6, "tokens": "billions", "loss": "perplexity"}
    found = table(tmp_path, text, units=units)
    assert (found.n_params[0], found.tokens[0], found.loss[0]) == (1e7, 2e8, math.log(20))
    assert [n.text for n in found.excluded] == [
        "row 3: loss='e' is not a number", "row 4: perplexity 1 is not above 1",
    ]  # fmt: skip


def grid(tokens, sizes=6, extra=lambda n, k: ""):
    """Rows of a law: sizes times the values of tokens, by size."""
    return rows(
        *(
            f"{n:.6g};{d:.6g};{1.7 + 400 * n**-0.34 + 900 * d**-0.3:.5f}{extra(n, k)}"
            for n in (1e7 * 2**i for i in range(sizes))
            for k, d in enumerate(tokens)
        ),
        header=f"N;D;loss{';run;optimizer;split' if extra(1, 1) else ''}",
    )


EVENLY, EVER_LONGER = [1e8 * k for k in range(1, 13)], [1e8 * 2**k for k in range(12)]
KINDS = {
    "evenly spaced points": (grid(EVENLY), {}, notices.TRAINING_CURVES),
    "many points": (grid([1e8 * 1.1**k for k in range(45)]), {}, notices.TRAINING_CURVES),
    "points of a named run": (
        grid(EVER_LONGER, extra=lambda n, k: f";r{n};a;x"), {}, notices.TRAINING_CURVES
    ),
    "runs of a grid": (grid(EVER_LONGER), {}, None),
    "runs with names": (grid(EVER_LONGER, extra=lambda n, k: f";r{n}{k};a;x"), {}, None),
    "whole curves resampled": (grid(EVENLY), {"blocks": "n_params"}, None),
    "optimizers": (
        grid(EVER_LONGER, extra=lambda n, k: f";r{n}{k};{'ab'[k % 2]};x"), {},
        notices.MIXED_FAMILIES,
    ),
    "one optimizer": (
        grid(EVER_LONGER, extra=lambda n, k: f";r{n}{k};{'ab'[k % 2]};x"),
        {"where": "optimizer=b"}, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "options", "kind"), KINDS.values(), ids=KINDS)
def test_curves_and_families_are_told_from_runs(tmp_path, text, options, kind):
    found = table(tmp_path, text, **options).warnings
    assert [n.kind for n in found] == ([kind] if kind else []), found
    if kind == notices.TRAINING_CURVES:
        assert "--last_of=D" in found[0].text and "--blocks=" in found[0].text


def test_the_last_point_of_each_run_is_kept(tmp_path):
    found = table(tmp_path, grid(EVENLY), last_of="D")
    assert found.tokens.tolist() == [1.2e9] * 6 and found.names[0] == "row 13"
    assert {n.kind for n in found.excluded} == {notices.CURVE_POINT} and len(found.excluded) == 66
    twice = grid(EVENLY) + "".join(grid(EVENLY).splitlines(keepends=True)[1:])
    assert len(table(tmp_path, twice, last_of="D")) == 6  # a resumed run repeats its rows
    other_seed = grid(EVENLY) + grid([1.5 * d for d in EVENLY]).partition("\n")[2]
    with pytest.raises(UserError, match=r"D='1.5e\+08' repeats or restarts within one run; name"):
        table(tmp_path, other_seed, last_of="D")
    named = (
        grid(EVENLY, extra=lambda n, k: f";{n};a;x")
        + grid([1.5 * d for d in EVENLY], extra=lambda n, k: f";b{n};a;x").partition("\n")[2]
    )
    assert len(table(tmp_path, named, last_of="D", blocks="run")) == 12


def test_a_point_without_loss_is_passed_over_and_a_diverged_run_left_out(tmp_path):
    text = rows("1e7;1e8;4", "1e7;2e8;3.5", "1e7;3e8;", "2e7;1e8;4", "2e7;2e8;nan")
    found = table(tmp_path, text, last_of="D")
    assert found.names == ("row 3",)
    assert [(n.kind, n.text) for n in found.excluded if n.kind != notices.CURVE_POINT] == [
        (notices.UNREADABLE_CELL, "row 6: loss='nan' is not positive and finite")
    ]


def test_labels_of_a_column_are_blocks(tmp_path):
    text = grid(EVER_LONGER, extra=lambda n, k: f";r{k % 3};a;x")
    found = table(tmp_path, text, blocks="run")
    assert sorted(set(found["blocks"])) == [1, 2, 3] and len(found) == 72
    assert checks.require_blocks(found, "blocks") == 3


NAMES = {
    ("70M", ""): 70e6, ("pythia-70M-seed1", ""): 70e6, ("12000000", ""): 12e6,
    ("a/1.5B", ""): 1.5e9, ("N=70M_D=2B", "N"): 70e6, ("N70M-D2B", "D"): 2e9,
    ("70M-2B", ""): None, ("run3", ""): None, ("n", ""): None, ("d=9_l=8", ""): None,
    ("XN=7", "N"): None,
}  # fmt: skip


@pytest.mark.parametrize(("name", "key"), NAMES)
def test_the_number_in_a_name(name, key):
    if NAMES[name, key] is None:
        with pytest.raises(ValueError):
            number_text.in_name(name, key)
    else:
        assert number_text.in_name(name, key) == NAMES[name, key]
