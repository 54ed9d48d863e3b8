"""Fit a law to any CSV, print it, and write it as JSON with its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.commands import output, table_flags, table_rows
from scaling.commands.output import Output, Table
from scaling.laws import agreement, evidence, to_text
from scaling.laws import api as laws
from scaling.laws.forms import registry as forms
from scaling.laws.table import Table as Runs
from scaling.utils import files, machine
from scaling.utils.errors import UserError
from scaling.utils.notices import Notice

COMBINED, VARPRO = "combined", "varpro"
# flags of the objective, which only forms have, and their defaults
OF_FORMS = {"objective": "", "huber_delta": 0.0, "quantile": 0.5, "linear": False}
SIZE_AND_DATA = ("n_params", "tokens")
TUNED = {"lr_optimum": "lr", "batch_optimum": "batch"}  # the optimum of each group of runs
NOT_FORMS = (COMBINED, "isoflop", VARPRO, *TUNED)  # that --form takes, too
PRODUCTS = {"lr_law": "lr", "batch_law": "batch"}  # laws of a table of optima


def run(args) -> int:
    """Fit as the flags say and print the law. Return 3 if rows were left out. Raises UserError."""
    machine.enable_compilation_cache()
    points = table_flags.points(args.at)
    _refuse_unused(args)
    if args.form == COMBINED and not points:
        raise UserError(
            "--form=combined forecasts given runs; name them with --at=N:D,... or --at=X,..."
        )
    if any(len(point) != len(_point(args)) for point in points):
        raise UserError(f"--at={args.at}: --form={args.form} takes {':'.join(_point(args))}")
    needed = _needed(args)
    table = table_rows.read(table_rows.open_file(args.table, args), args, needed)
    if args.form == "isoflop":
        table = table_rows.in_budgets(table)
    law, content = _fitted(args, table, points)
    content["counts"] = to_text.counts(content)
    written = write(content, args.out, args.form)
    if args.out:
        written += _draw(args, law, table, points)
    output.show(args, law_output(content, written))
    return table_rows.exit_code(table)


def write(content: dict[str, Any], out: str, name: str) -> list[str]:
    """Write a law to `<out>/<name>.json` if `out` is given. Return the paths."""
    if not out:
        return []
    path = Path(out) / f"{name}.json"
    files.write_json(path, content)
    return [str(path)]


def law_output(content: dict[str, Any], written: list[str], tables: Sequence[Table] = ()) -> Output:
    """Return a law with its parameters, predictions, minima and weights as tables."""
    rows = {"Parameters": [{"parameter": k, **v} for k, v in content.get("params", {}).items()]}
    for key in ("predictions", "minima", "groups"):
        rows[key.capitalize()] = [_flat(row) for row in content.get(key, [])]
    rows["Weights"] = [{"form": k, "weight": v} for k, v in content.get("weights", {}).items()]
    made = [Table(title, value) for title, value in rows.items() if value]
    return Output(content, [*tables, *made], written, [*to_text.lines(content), *written])


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with each estimate as three columns."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict) and "value" not in value:
            flat |= {f"{name}_{key}": number for key, number in value.items()}
        elif isinstance(value, dict):
            flat[name] = value["value"]
            flat |= {f"{name}_{end}": value[end] for end in ("low", "high")}
        else:
            flat[name] = value
    return flat


def _draw(args, law, table: Runs, points) -> list[str]:
    """Write the law's pictures beside its JSON. Return their paths."""
    from scaling.report import pictures

    labels = {"x": args.x} if args.x else {}
    drawn = pictures.for_law(law, table, points, labels).items()
    return [str(p.write(Path(args.out) / f"{args.form}_{name}")) for name, p in drawn]


def _refuse_unused(args) -> None:
    """Raise UserError for a flag that the form would ignore."""
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


def _needed(args) -> tuple[str, ...]:
    """Return the columns that the form needs."""
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
        return forms.power_product(PRODUCTS[args.form], _inputs_of_product(args))
    if args.form not in forms.FORMS:
        known = ", ".join((*forms.FORMS, *NOT_FORMS))
        raise UserError(f"--form={args.form}: no such form; choose from {known}")
    return forms.form(args.form)


def _inputs_of_product(args) -> tuple[str, ...]:
    """Return the inputs of a law of lr or batch."""
    return tuple(part.strip() for part in args.of.split(","))


def fit_form(args, table: Runs, form: forms.Form) -> laws.Fit:
    """Fit the form with the objective, the fixed parameters and the bootstrap of the flags."""
    return laws.fit(
        table,
        form,
        objective=_objective(args),
        blocks=table_rows.block_column(table, args.blocks),
        fixed=table_flags.named_numbers("--fixed", args.fixed),
        bootstrap=args.bootstrap,
        confidence=args.confidence,
    )


def _objective(args) -> laws.Objective:
    return laws.Objective(args.objective or "huber", args.huber_delta, args.quantile, args.linear)


def _fitted(args, table: Runs, points) -> tuple[Any, dict[str, Any]]:
    """Return (the law, the same as JSON)."""
    options = {"bootstrap": args.bootstrap, "confidence": args.confidence}
    if args.form == "isoflop":
        profiles = laws.fit_isoflop(table, method=args.method, **options)
        return profiles, to_text.isoflop(profiles, table, _contradictions(profiles, table, args))
    if args.form == VARPRO:
        projected = laws.fit_varpro(table, **options)
        return projected, to_text.varpro(projected, table)
    if args.form in TUNED:
        tuned = laws.fit_optimum_of(table, TUNED[args.form], of=_inputs_of_product(args), **options)
        content = to_text.tuned(tuned, table)
        predictions = _predictions(args, tuned, table, points)
        return tuned, to_text.with_predictions(content, tuned.warnings, predictions, table)
    if args.form == COMBINED:
        stated = args.objective or args.huber_delta or args.linear or args.quantile != 0.5
        objective = _objective(args) if stated else None
        forecast = laws.forecast(table, *zip(*points, strict=True), objective=objective, **options)
        return forecast, to_text.combined(forecast, table, points, _point(args))
    law = fit_form(args, table, _form(args))
    content, predictions = to_text.fitted(law, table), _predictions(args, law, table, points)
    return law, to_text.with_predictions(content, law.warnings, predictions, table)


def _contradictions(profiles: laws.IsoflopFit, table: Runs, args) -> list[Notice]:
    """Return a notice if L(N, D) of the same rows gives another exponent of N*."""
    if not args.bootstrap or not agreement.comparable(table):
        return []
    try:
        law = laws.fit(table, bootstrap=evidence.JUDGED, confidence=args.confidence)
    except laws.CannotFit:
        return []
    return agreement.contradiction(profiles, law.intervals["a"], table)


def _point(args) -> tuple[str, ...]:
    """Return the names of the numbers of a point of --at."""
    if args.form == COMBINED:
        return _inputs(args)
    inputs = _inputs_of_product(args) if args.form in TUNED else _form(args).inputs
    return SIZE_AND_DATA if set(inputs) <= set(SIZE_AND_DATA) else inputs


def _inputs(args) -> tuple[str, ...]:
    """Return the inputs of a combined forecast: x if its column is named, else size and data."""
    return ("x",) if args.x else SIZE_AND_DATA


def _predictions(args, law: laws.Fit | laws.HyperFit, table: Runs, points) -> list[dict[str, Any]]:
    """Return the predictions at --at: of new runs, or of a law of a hyperparameter itself."""
    inputs, target = law.form.inputs, law.form.target
    if isinstance(law, laws.HyperFit):
        interval = law.predict_interval
    else:
        interval = law.mean_interval if law.form.product else law.prediction_interval
    rows = []
    for point in points:
        at = dict(zip(_point(args), point, strict=True))
        value = interval(*(at[name] for name in inputs))
        rows.append(to_text.prediction(table, at, value, target))
    return rows
