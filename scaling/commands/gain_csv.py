"""Fit two families of runs and print their compute-equivalent gain."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scaling.commands import fit_csv, output, table_flags, table_rows
from scaling.commands.output import Table
from scaling.laws import api as laws
from scaling.laws import extrapolation, to_text
from scaling.laws.forms import registry as forms
from scaling.laws.read import distinct
from scaling.laws.table import Table as Runs
from scaling.utils import files, machine
from scaling.utils.errors import UserError
from scaling.utils.notices import Notice
from scaling.utils.table_file import TableFile

POINTS = 5  # computes of the curve without --at


def run(args) -> int:
    """Fit both families with one form and print their gain. Return 3 if rows were left out."""
    machine.enable_compilation_cache()
    flops = table_flags.computes(args.at)
    isoflop = args.form == "isoflop"
    form = forms.form("chinchilla" if isoflop else args.form)
    needed = (*form.inputs, form.target)
    base, new = (table_rows.read(file, args, needed, where) for file, where in _families(args))
    if isoflop:
        base, new = table_rows.in_budgets(base), table_rows.in_budgets(new)
    options = {"bootstrap": args.bootstrap, "confidence": args.confidence}
    fits = []
    for name, table in (("baseline", base), ("new", new)):
        try:
            fits.append(
                laws.fit_isoflop(table, method=args.method, **options)
                if isoflop
                else fit_csv.fit_form(args, table, form)
            )
        except laws.CannotFit as error:
            raise laws.CannotFit(f"{name} family: {error}") from error
    both = (base, new)
    low, high = max(min(_compute(t)) for t in both), min(max(_compute(t)) for t in both)
    if not flops and not low < high:
        raise UserError("the families share no range of compute; name computes with --at=C1,C2,...")
    gain = laws.compute_equivalent_gain(
        fits[0],
        fits[1],
        flops or np.geomspace(low, high, POINTS),
        flops_per_n_d=(table_rows.flops_per_n_d(base), table_rows.flops_per_n_d(new)),
        confidence=args.confidence,
    )
    more = []
    for name, table, law in (("baseline", base, fits[0]), ("new", new, fits[1])):
        own = law.warnings if isoflop else ()
        more += [notice.about(name) for notice in (*table.warnings, *own)]
    content = to_text.gain(gain, base, new, [*more, *_beyond(gain, base, new)])
    content["counts"] = to_text.counts(content)
    columns = _columns(gain)
    written = fit_csv.write(content, args.out, "gain")
    if args.out:
        from scaling.report import gain as drawing

        path = Path(args.out) / "gain.csv"
        files.write_bytes(path, files.csv_bytes(columns))
        picture = drawing.picture(gain).write(Path(args.out) / "gain_curve")
        written += [str(path), str(picture)]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    output.show(args, fit_csv.law_output(content, written, [Table("Gain", rows)]))
    return table_rows.exit_code(base, new)


def _families(args) -> list[tuple[TableFile, str]]:
    """Return (table, rows to keep) of the baseline and of the new family. Raises UserError."""
    if len(args.tables) == 2 and not args.family:
        return [(table_rows.open_file(path, args), "") for path in args.tables]
    if len(args.tables) != 1 or not args.family or not args.baseline:
        raise UserError(
            "give BASELINE.csv NEW.csv, or one CSV with --family=COLUMN and --baseline=VALUE"
        )
    file = table_rows.open_file(args.tables[0], args)
    family = args.family.strip()
    values = sorted({cells[family] for cells in distinct(file, [family])})
    others = [v for v in values if v != args.baseline]
    if args.baseline not in values:
        raise UserError(f"--baseline={args.baseline}: column {family} has {', '.join(values)}")
    new = args.new or (others[0] if len(others) == 1 else "")
    if new not in others:
        raise UserError(f"--new={args.new}: name the other family, one of {', '.join(others)}")
    quoted = [value.replace('"', '""') for value in (args.baseline, new)]
    return [(file, f'"{family}={value}"') for value in quoted]


def _compute(table: Runs) -> np.ndarray:
    return table["flops" if "flops" in table else "x"]


def _beyond(gain: laws.Gain, base: Runs, new: Runs) -> list[Notice]:
    """Return where the curve is extrapolated: the new family at C, the baseline at gain times C."""
    warnings = []
    for name, table, used in (
        ("new", new, gain.flops),
        ("baseline", base, gain.flops * np.array([g.value for g in gain.gain])),
    ):
        dearest = _compute(table).max()
        beyond = used[np.isfinite(used)].max(initial=0.0) / dearest
        if beyond > 2:
            text = f"the {name} family is extrapolated to {beyond:.3g} times its dearest run"
            warnings.append(Notice(extrapolation.kind(beyond), text))
    return warnings


def _columns(gain: laws.Gain) -> dict:
    """Return the curve of the gain as columns."""
    return {
        "flops": [float(c) for c in gain.flops],
        "new_loss": [float(v) for v in gain.new_loss],
        "gain": [g.value for g in gain.gain],
        "low": [g.low for g in gain.gain],
        "high": [g.high for g in gain.gain],
        "never_in_share": [float(v) for v in gain.never],
    }
