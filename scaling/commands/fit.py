"""`scaling fit FILE.csv`: a law from anybody's table, printed, and written as JSON with its pictures."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from scaling.laws import api as laws
from scaling.laws import to_text
from scaling.laws.forms import registry as forms
from scaling.laws.table import Table
from scaling.utils import files, machine
from scaling.utils.errors import EXIT_INCOMPLETE, UserError

OPTIONAL = ("n_params", "tokens", "flops", "budget", "unique_tokens", "tokens_per_param")
ASKED_FOR = ("highest losses", "FLOPs")  # ends of lines on rows left out by request
COMBINED, VARPRO = "combined", "varpro"
# flags of the objective, which only forms have, and what they are where nobody set them
OF_FORMS = {"objective": "", "huber_delta": 0.0, "quantile": 0.5, "linear": False}
SIZE_AND_DATA = ("n_params", "tokens")
TUNED = {"lr_optimum": "lr", "batch_optimum": "batch"}  # the best in each group of runs
APART = (COMBINED, "isoflop", VARPRO, *TUNED)  # what --form takes besides the forms
PRODUCTS = {"lr_law": "lr", "batch_law": "batch"}  # of a table of optima


def run(args) -> int:
    """Fit as the flags say; returns the exit code, 3 where rows had to be left out."""
    machine.enable_compilation_cache()
    points = _points(args.at)
    _refuse_unused(args)
    if args.form == COMBINED and not points:
        raise UserError(
            "--form=combined forecasts given runs; name them with --at=N:D,... or --at=X,..."
        )
    if any(len(point) != len(_point(args)) for point in points):
        raise UserError(f"--at={args.at}: --form={args.form} takes {':'.join(_point(args))}")
    table = read(args.table, args, _needed(args))
    law, content = _fitted(args, table, points)
    write(content, args.out, args.form)
    if args.out:
        _draw(args, law, table, points)
    return exit_code(table)


def write(content: dict[str, Any], out: str, name: str) -> None:
    """Print a law; with `out`, write it to `<out>/<name>.json` too."""
    for line in to_text.lines(content):
        print(line)
    if out:
        path = Path(out) / f"{name}.json"
        files.write_json(path, content)
        print(path)


def _draw(args, law, table: Table, points) -> None:
    """The law's pictures beside its JSON."""
    from scaling.report import pictures

    labels = {"x": args.x} if args.x else {}
    for name, picture in pictures.of(law, table, points, labels).items():
        print(picture.write(Path(args.out) / f"{args.form}_{name}"))


def _refuse_unused(args) -> None:
    """Raises UserError for a flag that the form would ignore."""
    unused: tuple[str, ...] = ()
    if args.form in ("isoflop", VARPRO):
        unused = (*OF_FORMS, "blocks", "fixed", "at")
    elif args.form in TUNED:
        unused = (*OF_FORMS, "blocks", "fixed")
    elif args.form == COMBINED:
        unused = ("blocks", "fixed")
    for name in unused:
        if getattr(args, name) != OF_FORMS.get(name, ""):
            raise UserError(f"--{name} has no meaning for --form={args.form}; leave it out")


def exit_code(*tables: Table) -> int:
    """3 where rows were left out that nobody asked to leave out."""
    lines = [line for table in tables for line in table.excluded]
    return EXIT_INCOMPLETE if any(not line.endswith(ASKED_FOR) for line in lines) else 0


def _needed(args) -> tuple[str, ...]:
    """Columns that the form asks for."""
    if args.form == COMBINED:
        return (*_inputs(args), "loss")
    if args.form in ("isoflop", VARPRO):
        return (*SIZE_AND_DATA, "loss")
    if args.form in TUNED:
        groups = () if args.flops and not args.n_params and not args.tokens else ("n_params",)
        return (*groups, TUNED[args.form], "loss")
    form = _form(args)
    return (*form.inputs, form.target)


def _form(args) -> forms.Form:
    if args.form in PRODUCTS:
        return forms.power_product(PRODUCTS[args.form], _of(args))
    if args.form not in forms.FORMS:
        known = ", ".join((*forms.FORMS, *APART))
        raise UserError(f"--form={args.form}: no such form; choose from {known}")
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
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as handle:
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
    return laws.Objective(args.objective or "huber", args.huber_delta, args.quantile, args.linear)


def _fitted(args, table: Table, points) -> tuple[Any, dict[str, Any]]:
    """(the law, the same as JSON)."""
    options = {"bootstrap": args.bootstrap, "confidence": args.confidence}
    if args.form == "isoflop":
        profiles = laws.fit_isoflop(table, method=args.method, **options)
        return profiles, to_text.isoflop(profiles, table)
    if args.form == VARPRO:
        projected = laws.fit_varpro(table, **options)
        return projected, to_text.varpro(projected, table)
    if args.form in TUNED:
        tuned = laws.fit_optimum_of(table, TUNED[args.form], of=_of(args), **options)
        content = to_text.tuned(tuned, table)
        return tuned, content | {"predictions": _predictions(args, tuned, points)}
    if args.form == COMBINED:
        stated = args.objective or args.huber_delta or args.linear or args.quantile != 0.5
        objective = _objective(args) if stated else None
        found = laws.forecast(table, *zip(*points, strict=True), objective=objective, **options)
        return found, to_text.combined(found, table, points, _point(args))
    law = fit_form(args, table, _form(args))
    return law, to_text.fitted(law, table) | {"predictions": _predictions(args, law, points)}


def _point(args) -> tuple[str, ...]:
    """What a point of --at consists of."""
    if args.form == COMBINED:
        return _inputs(args)
    inputs = _of(args) if args.form in TUNED else _form(args).inputs
    return SIZE_AND_DATA if set(inputs) <= set(SIZE_AND_DATA) else inputs


def _inputs(args) -> tuple[str, ...]:
    """What a combined forecast is a law of: x where its column is named, else size and data."""
    return ("x",) if args.x else SIZE_AND_DATA


def _predictions(args, law: laws.Fit | laws.HyperFit, points) -> list[dict[str, Any]]:
    """The points of --at: new runs of a law of the loss, the law itself where it is of a hyperparameter."""
    inputs, target = law.form.inputs, law.form.target
    if isinstance(law, laws.HyperFit):
        interval = law.predict_interval
    else:
        interval = law.mean_interval if law.form.product else law.prediction_interval
    rows = []
    for point in points:
        at = dict(zip(_point(args), point, strict=True))
        rows.append(to_text.prediction(at, interval(*(at[name] for name in inputs)), target))
    return rows


def _points(text: str) -> list[tuple[float, ...]]:
    """ "7e9:1.4e11,..." as pairs, "1e21,..." as single numbers."""
    found = []
    for part in filter(None, text.split(",")):
        try:
            point = tuple(float(v) for v in part.split(":"))
        except ValueError:
            raise UserError(
                f"--at={text}: {part!r} is neither N:D, as in 7e9:1.4e11, nor one number"
            ) from None
        if not all(0 < v < math.inf for v in point):
            raise UserError(f"--at={text}: {part!r} must be positive and finite")
        found.append(point)
    return found


def computes(text: str) -> list[float]:
    """The computes of --at, "1e20,1e21"."""
    try:
        found = [float(part) for part in filter(None, text.split(","))]
    except ValueError:
        raise UserError(f"--at={text}: not numbers of FLOPs, as in 1e20,1e21") from None
    if any(not 0 < c < math.inf for c in found):
        raise UserError(f"--at={text}: FLOPs must be positive and finite")
    return found


def flops_per_n_d(table: Table) -> float:
    """k in C = k N D, the table's median; 6 for tables of compute alone."""
    if not {"n_params", "tokens", "flops"} <= set(table.columns):
        return 6.0
    return float(np.median(table.flops / (table.n_params * table.tokens)))


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
