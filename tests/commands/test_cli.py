"""The command line: one clear line for bad input, distinct exit codes, nothing on disk harmed."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest

from scaling import cli
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE
from tests.common import ROOT, SHARED, run_cli


def call(capsys, *args):
    code = cli.main(list(args))
    out, err = capsys.readouterr()
    return code, out, err


BAD = {
    "plan --config=configs/quickstart.py --config.optim.lrr=1": "no such key; did you mean config.optim.lr?",
    "plan --config=configs/quickstart.py --config.optim.lr=quick": "could not convert string to float",
    "plan": "--config is missing",
    "plan --config=configs/nope.py": "--config=configs/nope.py: no such file",
    "plan --config=configs/base.py --config.model.head_dim=24": "not a multiple of config.model.head_dim=24",
    "plan --config=configs/quickstart.py --config.sweep.budgets=(1e3,)": "do not pay for one step of 1024 tokens",
    "sweep --config=configs/mini.py --workdir=nowhere --budget=lots": "--budget=lots: no amount",
    "sweep --config=configs/mini.py --workdir=nowhere --budget=20usd": "price_per_device_hour is 0",
    "sweep --config=configs/mini.py --workdir=nowhere --budget=1e10": "18 of 18 runs are left; together they need",
    "status --workdir=nowhere --watch=soon": "--watch=soon: not a number of seconds",
    "sweep --config=configs/mini.py": "--workdir is missing",
    "fit --config=configs/mini.py --workdir=nowhere": "--workdir=nowhere holds no sweep",
    "status --workdir=nowhere": "--workdir=nowhere holds no sweep",
    "report --workdir=nowhere": "nowhere/summary.txt: no such file",
    "fit t.csv --form=combined --tokens=tokens": "name them with --at=N:D",
    "fit t.csv --tokens=tokens --at=7e9": "--at=7e9: --form=chinchilla takes n_params:tokens",
    "fit t.csv --form=combined --tokens=tokens --at=7e9": "--form=combined takes n_params:tokens",
    "fit t.csv --tokens=tokens --at=a:b": "'a:b' is neither N:D",
    "fit t.csv --tokens=tokens --at=inf:1e9": "'inf:1e9' must be positive and finite",
    "fit t.csv --tokens=tokens --form=chinchila": "--form=chinchila: no such form; choose from chinchilla,",
    "fit t.csv --form=lr_law --tokens=tokens --of=flops,tokens": "--of=flops,tokens: choose n_params,tokens",
    "fit t.csv --tokens=tokens --form=isoflop --huber_delta=1e-3": "no meaning for --form=isoflop",
    "fit t.csv --tokens=tokens --bootstrap=-3": "--bootstrap=-3; must be 0 or more",
    "fit t.csv --tokens=tokens --confidence=1.5": "--confidence=1.5; must lie between 0 and 1",
    "fit nowhere.csv --tokens=tokens": "nowhere.csv: no such file",
    "gain t.csv": "give BASELINE.csv NEW.csv",
    "gain a.csv b.csv --at=1e18:1e19": "--at=1e18:1e19: not numbers of FLOPs",
    "gain a.csv b.csv --tokens=tokens": "a.csv: no such file",
    "design --max_runs=9 --max_flops=1e20 --at=1e21": "--total_flops is missing",
    "design --total_flops=1e21 --max_runs=9 --max_flops=1e20 --at=1e21 --tokens_per_param=5:inf":
        "--tokens_per_param=5:inf: not LOW:HIGH",
    "design nowhere.csv --total_flops=1e21 --max_runs=9 --max_flops=1e20 --at=1e21 --tokens=D":
        "nowhere.csv: no such file",
    "conventions": "--workdir is missing",
    "conventions --workdir=nowhere": "--workdir=nowhere holds no sweep",
    "conventions nowhere.csv --tokens=tokens --by=seed": "nowhere.csv: no such file",
    "conventions --workdir=w --config.laws.bootstrap=9": "--config is missing",
}  # fmt: skip


@pytest.mark.parametrize(("line", "said"), BAD.items(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_two(capsys, line, said):
    code, out, err = call(capsys, *line.split())
    assert code == EXIT_BAD_INPUT
    assert err.startswith("error: ") and said in err and len(err.splitlines()) == 1, err
    assert out == ""


UNUSED = {
    "gain A.csv B.csv --config.seed=1": "--config.seed=1: `scaling gain` reads no config here",
    "design --config.seed=1": "--config.seed=1: `scaling design` reads no config here",
    "work --workdir=W --config.seed=1": "--config.seed=1: `scaling work` reads no config here",
    "status --workdir=W --config.seed=1": "--config.seed=1: `scaling status` reads no config here; give --config",
    "report --workdir=W --config.seed=1": "--config.seed=1: `scaling report` reads no config here; give --config",
    "fit A.csv --config.seed=1": "--config.seed=1: `scaling fit` reads no config here",
    "conventions A.csv --config.seed=1": "--config.seed=1: `scaling conventions` reads no config",
    "fit A.csv --config=configs/mini.py": "--config belongs to a study, not to a CSV",
    "conventions A.csv --workdir=W": "--workdir belongs to a study, not to a CSV",
    "fit --workdir=W --confidence=0.5": "--confidence belongs to a CSV, `scaling fit FILE.csv`",
    "conventions --workdir=W --out=O": "--out belongs to a CSV, `scaling conventions FILE.csv`",
}


@pytest.mark.parametrize(("line", "said"), UNUSED.items(), ids=UNUSED)
def test_a_flag_that_would_do_nothing_is_refused(capsys, line, said):
    code, out, err = call(capsys, *line.split())
    assert code == EXIT_BAD_INPUT and out == ""
    assert err.startswith(f"error: {said}") and len(err.splitlines()) == 1, err


def test_all_forms_are_named_in_the_help_the_error_and_the_page(capsys):
    from scaling.commands import fit
    from scaling.laws.api import FORMS

    _, _, error = call(capsys, "fit", "t.csv", "--tokens=tokens", "--form=none")
    with pytest.raises(SystemExit):
        cli.main(["fit", "--help"])
    text = capsys.readouterr().out
    page = (ROOT / "docs" / "laws.md").read_text()
    for name in (*FORMS, *fit.APART):
        assert re.search(rf"\b{name}\b", error) and f"`{name}`" in page, name
        assert re.search(rf"\b{name}\b", text.replace("\n", " ")), name


BAD_RUNS = {
    "batch over the mesh": ("--config.train.batch_size=3", "config.train.batch_size=3"),
    "mesh over the devices": ("--config.parallel.fsdp=3", "does not make the 2 devices"),
    "missing folder": (
        "--config.data.name=text_folder --config.data.path=/nowhere", "no such folder",
    ),
    "other corpus": ("--config.data.hash=deadbeef", "config.data.hash=deadbeef"),
    "too much held out": ("--config.eval.tokens=100000000", "config.eval.tokens"),
}  # fmt: skip


@pytest.mark.parametrize(("flags", "said"), BAD_RUNS.values(), ids=BAD_RUNS.keys())
def test_runs_that_cannot_start_say_why(capsys, flags, said, tmp_path):
    code, _, err = call(
        capsys, "train", "--config=configs/base.py", *flags.split(), f"--workdir={tmp_path}"
    )
    assert code == EXIT_BAD_INPUT
    assert said in err and len(err.splitlines()) == 1, err


def test_a_sweep_whose_data_is_missing_stops_at_once(capsys, tmp_path):
    """Bad input common to all runs is one error, not one per run."""
    code, _, err = call(
        capsys, "sweep", "--config=configs/mini.py", "--config.data.hash=deadbeef",
        f"--workdir={tmp_path}",
    )  # fmt: skip
    assert code == EXIT_BAD_INPUT
    assert len(err.splitlines()) == 1 and "config.data.hash" in err


def test_plan_prints_every_run_and_trains_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from tests.common import ROOT

    code, out, _ = call(capsys, "plan", f"--config={ROOT}/configs/quickstart.py")
    assert code == 0
    assert "24 runs" in out and "held-out run" in out and "FLOPs" in out
    assert len(out.splitlines()) == 1 + 24 + 2
    assert list(tmp_path.iterdir()) == []

    other = ("--config.sweep.kind=none", "--config.model.kind=lru", "--config.model.experts=4")
    code, out, _ = call(capsys, "plan", f"--config={ROOT}/configs/quickstart.py", *other)
    assert code == 0 and out.splitlines()[1].endswith("  lru, 2 of 4 experts")


def test_status_counts_runs_and_compute(capsys, mini, tmp_path):
    code, out, _ = call(capsys, "status", f"--workdir={mini}")
    assert code == 0 and "18 done" in out and "(100%)" in out
    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    folders = sorted((workdir / "runs").iterdir())
    shutil.rmtree(folders[0])
    (folders[1] / "result.json").unlink()
    for path in folders[1].iterdir():
        os.utime(path, (1e9, 1e9))
    (folders[2] / "result.json").write_text("{")
    code, out, err = call(capsys, "status", f"--workdir={workdir}")
    assert code == EXIT_INCOMPLETE and str(folders[2]) in err
    assert "paused" in out and "waiting" in out and "15 done" in out


def test_report_repeats_the_summary(capsys, mini):
    code, out, _ = call(capsys, "report", f"--workdir={mini}")
    assert code == 0 and out == (mini / "summary.txt").read_text()


def test_fit_on_a_csv_with_damaged_rows_fits_the_rest_and_says_so(capsys, mini, tmp_path):
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
    assert law["n_rows"] == len(lines) - 2 and "alpha" in law["params"] and "alpha" in out


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
    assert law["verdict"] == "good"
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
    found = json.loads((tmp_path / "combined.json").read_text())
    truth = 1.7 + 400 * 7e9**-0.35 + 900 * 1.4e11**-0.37
    (predicted,) = found["predictions"]
    assert predicted["loss"]["low"] < truth < predicted["loss"]["high"]
    assert sum(found["weights"].values()) == pytest.approx(1)
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
    found = json.loads((tmp_path / "combined.json").read_text())
    assert [p["x"] for p in found["predictions"]] == [4e6, 8e6]
    assert found["predictions"][1]["loss"]["value"] == pytest.approx(1.5 + 30 * 8e6**-0.3, rel=0.01)
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
    flags = ("--tokens=tokens", "--form=varpro", "--bootstrap=10", f"--out={tmp_path}")
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
    assert code == EXIT_BAD_INPUT and "not a CSV in UTF-8" in err and len(err.splitlines()) == 1


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


def test_conventions_of_a_study(capsys, mini, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    code, out, err = call(capsys, "conventions", f"--workdir={workdir}")
    assert code == 0, err
    found = json.loads((workdir / "curves" / "conventions.json").read_text())
    rows = {(r["n_params"], r["flops"]): r for r in found["rows"]}
    sizes = ("n_params", "n_params_with_head", "n_params_total")
    prices = ("exact", "appendix_f", "kaplan", "porian", "chinchilla", "k N D")
    assert list(rows) == [(n, c) for n in sizes for c in prices]
    assert all(bool(r["refused"]) == (r["a"]["value"] is None) for r in rows.values())
    known = json.loads((mini / "curves" / "n_opt.json").read_text())["parameters"]
    own = rows["n_params", "exact"]
    assert own["a"]["value"] == pytest.approx(known["isoflop"]["exponent"]["value"], abs=2e-3)
    law = rows["n_params", "k N D"]
    assert law["a"]["value"] == pytest.approx(known["chinchilla"]["a"]["value"])
    assert len(out.splitlines()) == 1 + 18 + 1
    with open(workdir / "curves" / "conventions.csv") as file:
        assert len(file.readlines()) == 19
    assert (workdir / "curves" / "conventions.png").read_bytes().startswith(b"\x89PNG")

    code, out, err = call(capsys, "conventions", f"--workdir={workdir}", "--by=seed")
    assert code == EXIT_BAD_INPUT and "--by belongs to a CSV" in err and out == ""
    table = workdir / "runs.csv"
    header, first, *others = table.read_text().splitlines()
    broken = first.replace('"done"', '"done",')
    table.write_text("\n".join([header, broken, *others]) + "\n")
    code, _, err = call(capsys, "conventions", f"--workdir={workdir}")
    assert code == EXIT_INCOMPLETE and "row 2" in err


def write_csv(path, columns: dict):
    rows = [",".join(str(v) for v in row) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([",".join(columns), *rows]) + "\n")
    return str(path)


def test_laws_of_tuned_hyperparameters_of_a_csv(capsys, tmp_path):
    from tests.laws.test_lr_batch import P, Q, batch_opt, grids, lr_opt

    table = grids(0.001, batch=True)
    path = write_csv(tmp_path / "grid.csv", {**table.columns, "bs": table["batch"]})
    flags = ("--tokens=tokens", "--bootstrap=50", "--at=7e9:1e12", f"--out={tmp_path}")
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
    found = law["predictions"][0]["batch"]["value"]
    assert code == 0 and found == pytest.approx(batch_opt(1e12), rel=0.05), err


def test_the_law_of_a_table_of_optima(capsys, tmp_path):
    from tests.laws.test_lr_batch import P, optima

    path = write_csv(tmp_path / "optima.csv", optima(noise=0.0).columns)
    code, out, err = call(
        capsys, "fit", path, "--form=lr_law", "--tokens=tokens", "--at=7e9:1e12", "--bootstrap=20",
        f"--out={tmp_path}",
    )  # fmt: skip
    law = json.loads((tmp_path / "lr_law.json").read_text())
    assert code == 0 and law["params"]["p"]["value"] == pytest.approx(P, abs=1e-6), err
    assert law["predictions"][0]["lr"]["value"] > 0 and "lr " in out


def test_gain_of_two_csvs_and_of_one_with_families(capsys, tmp_path):
    from tests.laws.test_gain import GAMMA, family

    base, new = family(1.0), family(0.8)
    paths = [write_csv(tmp_path / f"{n}.csv", t.columns) for n, t in (("a", base), ("b", new))]
    flags = ("--tokens=tokens", "--at=1e19,1e21", "--bootstrap=20", f"--out={tmp_path}")
    code, out, err = call(capsys, "gain", *paths, *flags)
    assert code == 0 and "no dependence of the gain on compute" in out, err
    found = json.loads((tmp_path / "gain.json").read_text())
    assert found["params"]["slope"]["value"] == pytest.approx(0, abs=1e-4)
    assert found["n_rows"] == 72 and found["verdict"] == "good"
    assert any("extrapolated to 10 times its dearest run" in w for w in found["warnings"])
    lines = (tmp_path / "gain.csv").read_text().splitlines()
    assert lines[0] == "flops,new_loss,gain,low,high,never_in_share" and len(lines) == 3
    for line in lines[1:]:
        assert float(line.split(",")[2]) == pytest.approx(0.8 ** (-1 / GAMMA), rel=1e-3)
    both = {c: [*base[c], *new[c]] for c in ("n_params", "tokens", "loss")}
    one = write_csv(tmp_path / "one.csv", {**both, "recipe": ["old"] * 36 + ["new"] * 36})
    code, again, err = call(capsys, "gain", one, "--family=recipe", "--baseline=old", *flags)
    assert code == 0 and again.splitlines()[-6:-3] == out.splitlines()[-6:-3], err
    code, _, err = call(capsys, "gain", one, "--family=recipe", "--baseline=first", *flags)
    assert code == EXIT_BAD_INPUT and "column recipe has new, old" in err


def test_isoflop_by_akima_as_documented(capsys, tmp_path):
    from tests.laws.test_gain import family

    path = write_csv(tmp_path / "t.csv", family().columns)
    code, out, err = call(
        capsys, "fit", path, "--tokens=tokens", "--form=isoflop", "--method=akima", "--bootstrap=20"
    )
    assert code == 0 and "N*" in out, err


DESIGN = {"total_flops": "1e21", "max_runs": "10", "max_flops": "3e20", "at": "3e21,3e22"}
BAD_DESIGNS = {
    "no runs": ({"max_runs": ""}, "--max_runs is missing; say how many"),
    "no dearest": ({"max_flops": ""}, "--max_flops is missing"),
    "no targets": ({"at": ""}, "--at is missing; say the computes to predict"),
    "half a run": ({"max_runs": "8.5"}, "--max_runs=8.5: not a whole number"),
    "no number": ({"total_flops": "lots"}, "--total_flops=lots: not a positive number"),
    "targets that are none": ({"at": "3e21:1"}, "--at=3e21:1: not numbers of FLOPs"),
    "unknown quantity": ({"quantity": "d_opt"}, "--quantity=d_opt: choose one of loss, n_opt"),
    "a run above the whole": ({"max_flops": "1e22"}, "no run can cost more than all of --total_flops"),
    "too few runs": ({"max_runs": "3"}, "--max_runs=3 cannot determine the 5 parameters"),
    "unpaid": ({"min_flops": "2e20"}, "lower --min_flops or --max_runs"),
    "one ratio": ({"tokens_per_param": "20"}, "--tokens_per_param=20: not LOW:HIGH"),
    "ratios upside down": ({"tokens_per_param": "20:2"}, "--tokens_per_param=(20.0, 2.0)"),
    "unknown form": ({"forms": "chinchila"}, "is none of chinchilla, chinchilla_tied, kaplan"),
    "forms of no table": ({"forms": "kaplan"}, "--forms belongs to a table of runs"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), BAD_DESIGNS.values(), ids=BAD_DESIGNS.keys())
def test_a_design_that_cannot_be_says_which_flag_to_change(capsys, changes, said):
    flags = [f"--{name}={value}" for name, value in (DESIGN | changes).items()]
    code, _, err = call(capsys, "design", *flags)
    assert code == EXIT_BAD_INPUT and said in err and len(err.splitlines()) == 1, err


def test_design_in_rounds_and_its_plan_reads_back(capsys, tmp_path):
    import numpy as np

    from scaling.laws import api as laws

    flags = [f"--{name}={value}" for name, value in DESIGN.items()]
    code, out, err = call(capsys, "design", *flags, "--careful", f"--out={tmp_path / 'first'}")
    assert code == 0 and "starts from published laws" in out and "10 runs" in out, err
    plan = laws.read_csv(
        tmp_path / "first" / "design.csv", n_params="n_params", tokens="tokens", flops="flops"
    )
    assert len(plan) == 10 and plan.flops.sum() <= 1e21 and not plan.excluded
    np.testing.assert_allclose(plan.flops, 6 * plan.n_params * plan.tokens)
    ratio = plan.tokens / plan.n_params
    assert ratio.min() > 4.99 and ratio.max() < 100.01 and plan.flops.min() > 0.99e18
    first = json.loads((tmp_path / "first" / "design.json").read_text())
    assert sum(r["count"] for r in first["runs"]) == 10
    assert sum(r["share"] for r in first["runs"]) == pytest.approx(1)
    assert "before" not in first["expected"][0] and first["warnings"] == []

    rng = np.random.default_rng(0)
    clean = 1.82 + 478 * plan.n_params**-0.347 + 2143 * plan.tokens**-0.367
    loss = clean * np.exp(0.003 * rng.standard_normal(10))
    path = write_csv(tmp_path / "t.csv", {"N": plan.n_params, "D": plan.tokens, "loss": loss})
    code, out, err = call(
        capsys, "design", path, "--n_params=N", "--tokens=D", "--forms=chinchilla,chinchilla_tied",
        "--total_flops=3e20", "--max_runs=6", "--max_flops=1e20", "--at=1e20,3e21",
        "--quantity=n_opt", "--bootstrap=20", f"--out={tmp_path}",
    )  # fmt: skip
    assert code == 0 and "chinchilla_tied: fitted to 10 rows" in out, err
    assert "warning: --at=1e+20 is not beyond --max_flops=1e+20" in out
    found = json.loads((tmp_path / "design.json").read_text())
    assert found["forms"] == ["chinchilla", "chinchilla_tied"] and found["noise_of_a_run"] > 0
    for row in found["expected"]:
        assert row["after"] < row["after_isoflop_grid"] < row["before"]
    lines = (tmp_path / "design_runs.csv").read_text().splitlines()
    assert sum("done" in line.split(",") for line in lines) == 10
    for suffix in (".svg", ".png"):
        assert (tmp_path / f"design_runs{suffix}").stat().st_size > 1000


def test_limits_that_miss_the_expected_optimum_are_said(capsys, tmp_path):
    from tests.laws.test_gain import family

    table = family()
    path = write_csv(tmp_path / "t.csv", table.columns)
    dearest = table.flops.max()
    code, out, err = call(
        capsys, "design", path, "--tokens=tokens", f"--total_flops={3 * dearest}", "--max_runs=6",
        f"--max_flops={dearest}", f"--at={10 * dearest}", "--tokens_per_param=2000:9000",
        "--bootstrap=20",
    )  # fmt: skip
    assert code == 0 and "tokens per parameter, outside 2000 to 9000" in out, err


def test_a_grid_that_beats_the_proposal_is_said():
    from scaling.commands.design import beaten

    rows = [{"after": 1.17, "after_isoflop_grid": 0.89}, {"after": 1.0, "after_isoflop_grid": 2.0}]
    assert "the limits keep these runs from the optimum" in beaten(rows)[0]
    assert beaten(rows[1:]) == beaten([{"after": 1.0}]) == []
