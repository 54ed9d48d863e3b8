"""`scaling fit` of a CSV and of a study."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil

import pytest

from scaling import cli
from scaling.config import load as config_lib
from scaling.study import pipeline
from scaling.sweep.execute import runner
from scaling.sweep.plan import planner
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE
from tests.commands.common import assert_refused, call, write_csv
from tests.common import ROOT, SHARED, run_cli

BAD = {
    "fit": "--workdir is missing",
    "fit --config=configs/mini.py --workdir=nowhere": "--workdir=nowhere holds no sweep",
    "fit --workdir=nowhere": "--workdir=nowhere holds no sweep",
    "fit t.csv --form=combined --tokens=tokens": "name them with --at=N:D",
    "fit t.csv --tokens=tokens --at=7e9": "--at=7e9: --form=chinchilla takes n_params:tokens",
    "fit t.csv --form=combined --tokens=tokens --at=7e9": "--form=combined takes n_params:tokens",
    "fit t.csv --tokens=tokens --at=a:b": "'a:b' is neither N:D",
    "fit t.csv --tokens=tokens --at=inf:1e9": "numbers are positive and finite",
    "fit t.csv --tokens=tokens --at=-1e9:1e9": "numbers are positive and finite",
    "fit t.csv --tokens=tokens --form=chinchila": "--form=chinchila: no such form; choose from",
    "fit t.csv --form=lr_law --tokens=tokens --of=flops,tokens": "--of=flops,tokens: choose n_",
    "fit t.csv --tokens=tokens --form=isoflop --huber_delta=1e-3": "no meaning for --form=isoflop",
    "fit t.csv --tokens=tokens --bootstrap=-3": "--bootstrap=-3; must be 0 or more",
    "fit t.csv --tokens=tokens --confidence=1.5": "--confidence=1.5; must lie between 0 and 1",
    "fit nowhere.csv --tokens=tokens": "nowhere.csv: no such file",
    "fit A.csv --config.seed=1": "--config.seed=1: `scaling fit` reads no config here",
    "fit A.csv --config=configs/mini.py": "--config belongs to a study, not to a CSV",
    "fit --workdir=W --confidence=0.5": "--confidence belongs to a CSV, `scaling fit FILE.csv`",
    "fit --workdir=W --config.seed=1": "`scaling fit` reads the workdir's own config here",
}


@pytest.mark.parametrize(("line", "words"), BAD.items(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_two(capsys, line, words):
    assert_refused(capsys, line, words)


def test_all_forms_are_named_in_the_help_the_error_and_the_page(capsys):
    from scaling.commands import fit_csv
    from scaling.laws.api import FORMS

    _, _, error = call(capsys, "fit", "t.csv", "--tokens=tokens", "--form=none")
    with pytest.raises(SystemExit):
        cli.main(["fit", "--help"])
    text = capsys.readouterr().out
    page = (ROOT / "docs" / "laws.md").read_text()
    for name in (*FORMS, *fit_csv.NOT_FORMS):
        assert re.search(rf"\b{name}\b", error) and f"`{name}`" in page, name
        assert re.search(rf"\b{name}\b", text.replace("\n", " ")), name


def test_fit_on_a_csv_with_damaged_rows_fits_the_rest_and_names_them(capsys, mini, tmp_path):
    lines = (mini / "runs.csv").read_text().splitlines()
    header = lines[0].replace('"', "").split(",")
    cells = lines[3].split(",")
    cells[header.index("loss")] = "none"
    path = tmp_path / "runs.csv"
    path.write_text("\n".join([*lines[:3], ",".join(cells), *lines[4:]]) + "\n")
    code, out, err = call(
        capsys, "fit", str(path), "--tokens=tokens", "--flops=flops_exact", "--bootstrap=20",
        f"--out={tmp_path}",
    )  # fmt: skip
    assert code == EXIT_INCOMPLETE and "row 4" in err
    law = json.loads((tmp_path / "chinchilla.json").read_text())
    sweep = sum(',"sweep",' in line for line in lines)  # the held-out run is left out, too
    assert law["n_rows"] == sweep - 1 < len(lines) - 2 and "alpha" in law["params"]
    assert law["counts"] == {"rows": {"used": sweep - 1, "left_out": 2}} and "alpha" in out


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")
def test_the_documented_fit_command_works_as_written(tmp_path):
    done = run_cli(
        "fit", str(SHARED / "chinchilla" / "svg_extracted_data.csv"), "--form=chinchilla",
        "--n_params=Model Size", "--flops=Training FLOP", "--loss=loss", "--drop_highest=5",
        "--huber_delta=1e-3", "--bootstrap=100", f"--out={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    law = json.loads((tmp_path / "chinchilla.json").read_text())
    assert law["params"]["alpha"]["value"] == pytest.approx(0.3473105, rel=1e-4)
    assert law["params"]["E"]["value"] == pytest.approx(1.8172181, rel=1e-4)
    assert law["n_rows"] == 240 and len(law["excluded"]) == 5
    assert law["objective"] == pytest.approx(1.0182740178e-3, rel=1e-6)
    assert law["verdict"] == "doubtful"  # its residuals follow a curve in tokens per parameter
    assert set(law["warning_kinds"]) >= {"structured_residuals", "unusual_row"}
    assert set(law["params"]["beta"]) == {"value", "se", "low", "high"}


def test_combined_forecast_of_a_csv(capsys, tmp_path):
    import numpy as np

    rng = np.random.default_rng(0)
    n = np.exp(rng.uniform(np.log(1e6), np.log(1e9), 40))
    d = n * np.exp(rng.uniform(np.log(3), np.log(300), 40))
    loss = (1.7 + 400 * n**-0.35 + 900 * d**-0.37) * np.exp(0.003 * rng.standard_normal(40))
    rows = [f"{a},{b},{c}" for a, b, c in zip(n, d, loss, strict=True)]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(["n_params,tokens,loss", *rows]) + "\n")
    code, out, err = call(
        capsys, "fit", str(path), "--tokens=tokens", "--form=combined", "--at=7e9:1.4e11",
        "--bootstrap=100", f"--out={tmp_path}",
    )  # fmt: skip
    assert code == 0, err
    forecast = json.loads((tmp_path / "combined.json").read_text())
    truth = 1.7 + 400 * 7e9**-0.35 + 900 * 1.4e11**-0.37
    (predicted,) = forecast["predictions"]
    assert predicted["loss"]["low"] < truth < predicted["loss"]["high"]
    assert sum(forecast["weights"].values()) == pytest.approx(1)
    assert "for a new run" in out
    for picture in ("combined_backtest", "combined_forecast"):
        assert f"{picture}.png" in out
        for suffix in (".csv", ".svg", ".png"):
            assert (tmp_path / f"{picture}{suffix}").stat().st_size > 100


@pytest.mark.slow  # of a table: above
def test_combined_forecast_of_a_curve(capsys, tmp_path):
    rows = ["steps,val", *(f"{x},{1.5 + 30 * x**-0.3}" for x in (1e3 * 2**k for k in range(12)))]
    path = tmp_path / "curve.csv"
    path.write_text("\n".join(rows) + "\n")
    flags = ("--x=steps", "--loss=val", "--form=combined", "--bootstrap=20", f"--out={tmp_path}")
    code, out, err = call(capsys, "fit", str(path), *flags, "--at=4e6,8e6")
    assert code == 0, err
    forecast = json.loads((tmp_path / "combined.json").read_text())
    assert [p["x"] for p in forecast["predictions"]] == [4e6, 8e6]
    assert forecast["predictions"][1]["loss"]["value"] == pytest.approx(
        1.5 + 30 * 8e6**-0.3, rel=0.01
    )
    assert (tmp_path / "combined_forecast.svg").is_file() and "x 4e+06: loss" in out
    code, _, err = call(capsys, "fit", str(path), *flags, "--at=4e6:8e6")
    assert code == EXIT_BAD_INPUT and "--form=combined takes x" in err


def test_values_with_commas_are_quoted_in_where(capsys, tmp_path):
    rows = [f'{x},{1.5 + 30 * x**-0.3},"6 Enc, 6 Dec"' for x in (1e3 * 2**k for k in range(8))]
    path = tmp_path / "curve.csv"
    path.write_text("\n".join(["steps,loss,model", *rows, "5,9,other"]) + "\n")
    flags = ("--x=steps", "--form=power_offset", "--bootstrap=0", f"--out={tmp_path}")
    code, _, err = call(capsys, "fit", str(path), *flags, '--where="model=6 Enc, 6 Dec",steps=1000')
    assert code == EXIT_BAD_INPUT and "1 usable rows" in err
    code, _, err = call(capsys, "fit", str(path), *flags, '--where="model=6 Enc, 6 Dec"')
    assert code == 0, err
    assert json.loads((tmp_path / "power_offset.json").read_text())["n_rows"] == 8


def test_variable_projection_of_a_csv(capsys, tmp_path):
    from tests.laws.test_gain import family

    path = write_csv(tmp_path / "t.csv", family().columns)
    flags = ("--tokens=tokens", "--form=varpro", "--bootstrap=100", f"--out={tmp_path}")
    code, _, err = call(capsys, "fit", path, *flags)
    assert code == 0, err
    law = json.loads((tmp_path / "varpro.json").read_text())
    assert law["params"]["alpha"]["value"] == pytest.approx(0.35, rel=0.01)
    assert law["n_rows"] == 36 and law["verdict"] == "good"


def test_files_from_spreadsheets(capsys, tmp_path):
    lines = ["n_params,tokens,loss", *(f"{10.0**k},{10.0 ** (k + 2)},{9 - k}" for k in range(5, 8))]
    path = tmp_path / "bom.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    code, _, err = call(capsys, "fit", str(path), "--tokens=tokens")
    assert code == EXIT_BAD_INPUT and "3 usable rows for 5 parameters" in err
    path.write_bytes("\n".join([*lines, "1,2,\xe9"]).encode("latin-1"))
    code, _, err = call(capsys, "fit", str(path), "--tokens=tokens")
    assert code == EXIT_BAD_INPUT and "read: text read as Latin-1" in err
    assert "left out: row 5: loss='é' is not a number" in err


def test_fit_leaves_pictures_with_their_arrays_beside_the_law(capsys, tmp_path):
    rows = ["steps,val", *(f"{x},{1.5 + 30 * x**-0.3}" for x in (1e3 * 2**k for k in range(12)))]
    path = tmp_path / "curve.csv"
    path.write_text("\n".join(rows) + "\n")
    code, out, err = call(
        capsys, "fit", str(path), "--x=steps", "--loss=val", "--form=power_offset",
        "--bootstrap=10", f"--out={tmp_path / 'laws'}",
    )  # fmt: skip
    assert code == 0, err
    names = {"curve", "residuals", "bootstrap"}
    expected = {f"power_offset_{n}{s}" for n in names for s in (".csv", ".svg", ".png")}
    assert {p.name for p in (tmp_path / "laws").iterdir()} == {"power_offset.json", *expected}
    assert "power_offset_curve.png" in out


def test_isoflop_form_takes_the_method_that_the_docs_name(capsys, tmp_path):
    lines = ["N,D,loss"]
    for budget in (1e17, 1e18):
        for k in range(6):
            n = (budget / 120) ** 0.5 * 2.0 ** (k - 3)
            d = budget / 6 / n
            lines.append(f"{n},{d},{1.7 + 400 * n**-0.35 + 900 * d**-0.37}")
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(lines) + "\n")
    code, _, err = call(
        capsys, "fit", str(path), "--n_params=N", "--tokens=D", "--form=isoflop", "--method=akima",
        "--bootstrap=10", f"--out={tmp_path}",
    )  # fmt: skip
    assert code == 0, err
    assert (tmp_path / "isoflop_profiles.svg").is_file() and (
        tmp_path / "isoflop_laws.csv"
    ).is_file()


def test_laws_of_tuned_hyperparameters_of_a_csv(capsys, tmp_path):
    from tests.laws.test_lr_batch import P, Q, batch_opt, grids, lr_opt

    table = grids(0.001, batch=True)
    path = write_csv(tmp_path / "grid.csv", {**table.columns, "bs": table["batch"]})
    flags = ("--tokens=tokens", "--bootstrap=100", "--at=7e9:1e12", f"--out={tmp_path}")
    code, out, err = call(capsys, "fit", path, "--form=lr_optimum", "--batch=bs", *flags)
    assert code == 0 and "lr(N, D) = k N^p D^q" in out and "costs less than 1% of the loss" in out
    law = json.loads((tmp_path / "lr_optimum.json").read_text())
    for name, value in (("p", P), ("q", Q)):
        assert law["params"][name]["value"] == pytest.approx(value, abs=0.02)
        assert set(law["params"][name]) == {"value", "se", "low", "high"}
    assert law["n_rows"] == len(table) and law["verdict"] == "good" and law["excluded"] == []
    assert law["predictions"][0]["lr"]["value"] == pytest.approx(lr_opt(7e9, 1e12), rel=0.05)
    low, high = law["groups"][0]["range_within_1_percent"]
    assert low < law["groups"][0]["lr"]["value"] < high
    code, _, err = call(
        capsys, "fit", path, "--form=batch_optimum", "--batch=bs", "--of=tokens", *flags
    )
    law = json.loads((tmp_path / "batch_optimum.json").read_text())
    batch = law["predictions"][0]["batch"]["value"]
    assert code == 0 and batch == pytest.approx(batch_opt(1e12), rel=0.05), err


def test_the_law_of_a_table_of_optima(capsys, tmp_path):
    from tests.laws.test_lr_batch import P, optima

    path = write_csv(tmp_path / "optima.csv", optima(noise=0.0).columns)
    code, out, err = call(
        capsys, "fit", path, "--form=lr_law", "--tokens=tokens", "--at=7e9:1e12", "--bootstrap=100",
        f"--out={tmp_path}",
    )  # fmt: skip
    law = json.loads((tmp_path / "lr_law.json").read_text())
    assert code == 0 and law["params"]["p"]["value"] == pytest.approx(P, abs=1e-6), err
    assert law["predictions"][0]["lr"]["value"] > 0 and "lr " in out


def test_isoflop_by_akima_as_documented(capsys, tmp_path):
    from tests.laws.test_gain import family

    path = write_csv(tmp_path / "t.csv", family().columns)
    code, out, err = call(
        capsys, "fit", path, "--tokens=tokens", "--form=isoflop", "--method=akima", "--bootstrap=20"
    )
    assert code == 0 and "N*" in out, err


def test_a_law_in_every_format(capsys, tmp_path):
    rows = {"steps": [1e3 * 2**k for k in range(12)]}
    rows["loss"] = [1.5 + 30 * x**-0.3 for x in rows["steps"]]
    path = write_csv(tmp_path / "curve.csv", rows)
    flags = ("fit", path, "--x=steps", "--form=power_offset", "--bootstrap=10", "--at=4M")
    code, out, _ = call(capsys, *flags, "--json")
    law = json.loads(out)
    assert code == 0 and law["predictions"][0]["x"] == 4e6
    _, out, _ = call(capsys, *flags, "--format=csv")
    table = list(csv.DictReader(io.StringIO(out)))
    assert [row["parameter"] for row in table] == list(law["params"])
    assert float(table[0]["value"]) == law["params"][table[0]["parameter"]]["value"]
    _, out, _ = call(capsys, *flags, "--format=markdown")
    assert "### Parameters" in out and "### Predictions" in out
    _, out, _ = call(capsys, *flags, "--format=latex")
    assert out.count(r"\begin{tabular}") == 2


def test_a_study_needs_only_its_workdir(capsys, mini, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    code, out, err = call(capsys, "fit", f"--workdir={workdir}")
    assert code == 0 and out.startswith((mini / "summary.txt").read_text()), err
    code, out, _ = call(capsys, "fit", f"--workdir={workdir}", "--json")
    content = json.loads(out)
    assert content["summary"] == (mini / "summary.txt").read_text().splitlines()
    assert "alpha" in content["curves"]["chinchilla"]["parameters"] and content["pictures"]
    code, _, err = call(
        capsys, "fit", "--config=configs/mini.py", "--config.seed=1", f"--workdir={workdir}"
    )
    assert code == EXIT_BAD_INPUT and "belongs to another sweep" in err


def test_planned_runs_without_a_result_are_counted(mini, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    config = config_lib.load(str(ROOT / "configs" / "mini.py"))
    assert pipeline.without_result(config, workdir) == []
    (gone, *_) = [run.run_id for run in planner.plan(config)]
    shutil.rmtree(workdir / "runs" / gone)
    runner.write_table(workdir, [])
    (line,) = pipeline.without_result(config, workdir)
    assert line.startswith(f"1 of 18 planned runs have no result (first {gone}); the laws are of")
