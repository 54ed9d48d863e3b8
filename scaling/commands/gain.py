"""`scaling gain BASELINE.csv NEW.csv`: how much more compute the baseline needs to match the new family."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scaling.commands import fit
from scaling.laws import api as laws
from scaling.laws import to_text
from scaling.laws.forms import registry as forms
from scaling.laws.read import distinct
from scaling.laws.table import Table
from scaling.utils import files, machine
from scaling.utils.errors import UserError

POINTS = 5  # computes of the curve where --at names none


def run(args) -> int:
    """Fit both families with one form and write their gain; returns the exit code."""
    machine.enable_compilation_cache()
    flops = fit.computes(args.at)
    isoflop = args.form == "isoflop"
    form = forms.form("chinchilla" if isoflop else args.form)
    needed = (*form.inputs, form.target)
    base, new = (fit.read(path, args, needed, where) for path, where in _families(args))
    options = {"bootstrap": args.bootstrap, "confidence": args.confidence}
    fits = []
    for name, table in (("baseline", base), ("new", new)):
        try:
            fits.append(
                laws.fit_isoflop(table, method=args.method, **options)
                if isoflop
                else fit.fit_form(args, table, form)
            )
        except laws.CannotFit as error:
            raise laws.CannotFit(f"{name} family: {error}") from error
    both = (base, new)
    low, high = max(min(_compute(t)) for t in both), min(max(_compute(t)) for t in both)
    if not flops and not low < high:
        raise UserError("the families share no range of compute; name computes with --at=C1,C2,...")
    found = laws.compute_equivalent_gain(
        fits[0],
        fits[1],
        flops or np.geomspace(low, high, POINTS),
        flops_per_n_d=(fit.flops_per_n_d(base), fit.flops_per_n_d(new)),
        confidence=args.confidence,
    )
    content = to_text.gain(found, base, new)
    for name, table, law in (("baseline", base, fits[0]), ("new", new, fits[1])):
        own = law.warnings if isoflop else ()
        content["warnings"] += [f"{name}: {w}" for w in (*table.warnings, *own)]
    content["warnings"] += _beyond(found, base, new)
    fit.write(content, args.out, "gain")
    if args.out:
        path = Path(args.out) / "gain.csv"
        files.write_bytes(path, files.csv_bytes(_columns(found)))
        print(path)
    return fit.exit_code(base, new)


def _families(args) -> list[tuple[str, str]]:
    """(path, rows to keep) of the baseline and of the new family."""
    if len(args.tables) == 2 and not args.family:
        return [(path, "") for path in args.tables]
    if len(args.tables) != 1 or not args.family or not args.baseline:
        raise UserError(
            "give BASELINE.csv NEW.csv, or one CSV with --family=COLUMN and --baseline=VALUE"
        )
    (path,) = args.tables
    values = sorted({cells[args.family] or "" for cells in distinct(path, [args.family])})
    others = [v for v in values if v != args.baseline]
    if args.baseline not in values:
        raise UserError(f"--baseline={args.baseline}: column {args.family} has {', '.join(values)}")
    new = args.new or (others[0] if len(others) == 1 else "")
    if new not in others:
        raise UserError(f"--new={args.new}: name the other family, one of {', '.join(others)}")
    quoted = [value.replace('"', '""') for value in (args.baseline, new)]
    return [(path, f'"{args.family}={value}"') for value in quoted]


def _compute(table: Table) -> np.ndarray:
    return table["flops" if "flops" in table else "x"]


def _beyond(found: laws.Gain, base: Table, new: Table) -> list[str]:
    """Where the curve leaves what was measured: the new family at C, the baseline at gain times C."""
    said = []
    for name, table, used in (
        ("new", new, found.flops),
        ("baseline", base, found.flops * np.array([g.value for g in found.gain])),
    ):
        dearest = _compute(table).max()
        beyond = used[np.isfinite(used)].max(initial=0.0) / dearest
        if beyond > 2:
            said.append(f"the {name} family is extrapolated to {beyond:.3g} times its dearest run")
    return said


def _columns(found: laws.Gain) -> dict:
    return {
        "flops": found.flops,
        "new_loss": found.new_loss,
        "gain": [g.value for g in found.gain],
        "low": [g.low for g in found.gain],
        "high": [g.high for g in found.gain],
        "never_in_share": found.never,
    }
