"""`scaling fit FILE.csv`: a law from anybody's table, printed and written as JSON."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from scaling import files, laws, machine
from scaling.errors import EXIT_INCOMPLETE, UserError
from scaling.laws import export, forms
from scaling.laws.table import Table

OPTIONAL = ("n_params", "tokens", "flops", "budget", "unique_tokens", "tokens_per_param")
ASKED_FOR = ("highest losses", "FLOPs")  # ends of lines on rows left out by request
COMBINED = "combined"
TUNED = {"lr_optimum": "lr", "batch_optimum": "batch"}  # the best in each group of runs
PRODUCTS = {"lr_law": "lr", "batch_law": "batch"}  # of a table of optima


def run(args) -> int:
    """Fit as the flags say; returns the exit code, 3 where rows had to be left out."""
    machine.enable_compilation_cache()
    points = _points(args.at)
    if args.form == COMBINED and not points:
        raise UserError("--form=combined forecasts given runs; name them with --at=N:D,...")
    table = read(args.table, args, _needed(args))
    content = _content(args, table, points)
    write(content, args.out, args.form)
    return exit_code(table)


def write(content: dict[str, Any], out: str, name: str) -> None:
    """Print a law; with `out`, write it to `<out>/<name>.json` too."""
    for line in export.lines(content):
        print(line)
    if out:
        path = Path(out) / f"{name}.json"
        files.write_json(path, content)
        print(path)


def exit_code(*tables: Table) -> int:
    """3 where rows were left out that nobody asked to leave out."""
    lines = [line for table in tables for line in table.excluded]
    return EXIT_INCOMPLETE if any(not line.endswith(ASKED_FOR) for line in lines) else 0


def _needed(args) -> tuple[str, ...]:
    """Columns that the form asks for."""
    if args.form in ("isoflop", COMBINED):
        return ("n_params", "tokens", "loss")
    if args.form in TUNED:
        groups = () if args.flops and not args.n_params and not args.tokens else ("n_params",)
        return (*groups, TUNED[args.form], "loss")
    form = _form(args)
    return (*form.inputs, form.target)


def _form(args) -> forms.Form:
    if args.form in PRODUCTS:
        return forms.power_product(PRODUCTS[args.form], _of(args))
    return forms.form(args.form)


def _of(args) -> tuple[str, ...]:
    return tuple(part.strip() for part in args.of.split(","))


def read(path: str, args, needed: tuple[str, ...], where: str = "") -> Table:
    """The rows, those left out said; columns of a standard name need no flag where they are needed."""
    names = (*OPTIONAL, "loss_se", "seed", "x", "error", "lr", "batch")
    columns = {name: getattr(args, name) for name in names}
    for name in ("n_params", "x", "error", "lr", "batch"):
        if not columns[name] and name in needed:
            columns[name] = name
    if "loss" in needed and {"lr", "batch"} & set(needed):  # two that are tuned together
        for name in ("lr", "batch"):
            columns[name] = columns[name] or (name if name in header(path) else "")
    columns["loss"] = args.loss if "loss" in needed else ""
    table = laws.read_csv(
        path,
        drop_highest=args.drop_highest,
        drop_above_flops=args.drop_above_flops,
        where=",".join(filter(None, (args.where, where))),
        **columns,
    )
    for line in table.excluded:
        print(f"left out: {line}", file=sys.stderr)
    return table


def header(path: str) -> list[str]:
    """The file's column names; none where there is no such file, which `read_csv` says."""
    if not Path(path).is_file():
        return []
    with open(path, newline="") as handle:
        return next(csv.reader(handle), [])


def fit_form(args, table: Table, form: forms.Form) -> laws.Fit:
    """The form with the objective, the fixed parameters and the bootstrap of the flags."""
    return laws.fit(
        table,
        form,
        objective=_objective(args),
        blocks=args.blocks,
        fixed=_numbers("--fixed", args.fixed),
        bootstrap=args.bootstrap,
        confidence=args.confidence,
    )


def _objective(args) -> laws.Objective:
    return laws.Objective(args.objective, args.huber_delta, args.quantile, args.linear)


def _content(args, table: Table, points) -> dict[str, Any]:
    options = {"bootstrap": args.bootstrap, "confidence": args.confidence}
    if args.form == "isoflop":
        return export.isoflop(laws.fit_isoflop(table, method=args.method, **options), table)
    if args.form in TUNED:
        tuned = laws.fit_optimum_of(table, TUNED[args.form], of=_of(args), **options)
        content = export.tuned(tuned, table)
        return content | {"predictions": _predictions(args, tuned, points)}
    if args.form == COMBINED:
        sizes, lengths = zip(*points, strict=True)
        found = laws.forecast(table, sizes, lengths, objective=_objective(args), **options)
        return export.combined(found, table, points)
    law = fit_form(args, table, _form(args))
    return export.fitted(law, table) | {"predictions": _predictions(args, law, points)}


def _predictions(args, law: laws.Fit | laws.HyperFit, points) -> list[dict[str, Any]]:
    """The points of --at: new runs of a law of the loss, the law itself where it is of a hyperparameter."""
    if not points:
        return []
    inputs, target = law.form.inputs, law.form.target
    if isinstance(law, laws.HyperFit):
        interval = law.predict_interval
    else:
        interval = law.mean_interval if law.form.product else law.prediction_interval
    if not set(inputs) <= {"n_params", "tokens"} or (target == "loss" and len(inputs) < 2):
        raise UserError(f"--at: form {args.form} is no law of n_params and tokens alone")
    rows = []
    for n, d in points:
        at = {"n_params": n, "tokens": d}
        rows.append(export.prediction(n, d, interval(*(at[name] for name in inputs)), target))
    return rows


def _points(text: str) -> list[tuple[float, float]]:
    """ "7e9:1.4e11,..." as pairs."""
    found = []
    for part in filter(None, text.split(",")):
        try:
            n, d = (float(v) for v in part.split(":"))
        except ValueError:
            raise UserError(f"--at={text}: {part!r} is not N:D, as in 7e9:1.4e11") from None
        if not (n > 0 and d > 0):
            raise UserError(f"--at={text}: {part!r} must be positive")
        found.append((n, d))
    return found


def _numbers(flag: str, text: str) -> dict[str, float]:
    """ "A=1,B=2" as a dict."""
    found = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise UserError(f"{flag}={text}: {part!r} is not NAME=NUMBER") from None
    return found
