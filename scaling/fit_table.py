"""`scaling fit FILE.csv`: a law from anybody's table, printed, and written as JSON with its pictures."""

from __future__ import annotations

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


def run(args) -> int:
    """Fit as the flags say; returns the exit code, 3 where rows had to be left out."""
    machine.enable_compilation_cache()
    points = _points(args.at)
    if args.form == COMBINED and not points:
        raise UserError("--form=combined forecasts given runs; name them with --at=N:D,...")
    table = _table(args)
    for line in table.excluded:
        print(f"left out: {line}", file=sys.stderr)
    law, content = _fitted(args, table, points)
    for line in export.lines(content):
        print(line)
    if args.out:
        for path in _written(args, law, content, table, points):
            print(path)
    damaged = [line for line in table.excluded if not line.endswith(ASKED_FOR)]
    return EXIT_INCOMPLETE if damaged else 0


def _table(args) -> Table:
    """The rows; columns of a standard name need no flag where the form asks for them."""
    if args.form in ("isoflop", COMBINED):
        needed: tuple[str, ...] = ("n_params", "tokens", "loss")
    else:
        form = forms.form(args.form)
        needed = (*form.inputs, form.target)
    columns = {name: getattr(args, name) for name in (*OPTIONAL, "loss_se", "seed", "x", "error")}
    for name in ("n_params", "x", "error"):
        if not columns[name] and name in needed:
            columns[name] = name
    columns["loss"] = args.loss if "loss" in needed else ""
    return laws.read_csv(
        args.table,
        drop_highest=args.drop_highest,
        drop_above_flops=args.drop_above_flops,
        where=args.where,
        **columns,
    )


def _written(args, law, content: dict[str, Any], table: Table, points) -> list[Path]:
    """The law's JSON in the folder --out, and its pictures beside it."""
    from scaling.report import pictures

    out = Path(args.out)
    files.write_json(out / f"{args.form}.json", content)
    labels = {"x": args.x} if args.x else {}
    drawn = pictures.of(law, table, points, labels)
    return [
        out / f"{args.form}.json",
        *(picture.write(out / f"{args.form}_{name}") for name, picture in drawn.items()),
    ]


def _fitted(args, table: Table, points) -> tuple[Any, dict[str, Any]]:
    """(the law, the same as JSON)."""
    options = {"bootstrap": args.bootstrap, "confidence": args.confidence}
    if args.form == "isoflop":
        profiles = laws.fit_isoflop(table, method=args.method, **options)
        return profiles, export.isoflop(profiles, table)
    objective = laws.Objective(args.objective, args.huber_delta, args.quantile, args.linear)
    if args.form == COMBINED:
        sizes, lengths = zip(*points, strict=True)
        found = laws.forecast(table, sizes, lengths, objective=objective, **options)
        return found, export.combined(found, table, points)
    law = laws.fit(
        table,
        args.form,
        objective=objective,
        blocks=args.blocks,
        fixed=_numbers("--fixed", args.fixed),
        **options,
    )
    if points and law.form.inputs != ("n_params", "tokens"):
        raise UserError(f"--at: form {args.form} is no law of n_params and tokens alone")
    content = export.fitted(law, table)
    content["predictions"] = [
        export.prediction(n, d, law.prediction_interval(n, d)) for n, d in points
    ]
    return law, content


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
