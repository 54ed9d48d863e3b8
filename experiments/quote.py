"""Write the numbers that README and docs quote, from the committed files that hold them.

    python -m experiments.quote              # rewrite every quoted number
    python -m experiments.quote --check      # name the stale ones, and exit with 3
    python -m experiments.quote --measure    # first compute docs/laws/*.json anew, in a minute

A quoted number stands between two comments. The first names a JSON or CSV file beside the page, a
place in it, and, if the rule below is not wanted, a format:

    <!-- quote laws/design.json expected[flops=3e21].after .3g -->1.19<!-- end -->

A place is dotted; [key=value,...] chooses the row of a list or of a CSV, [-1] one by its number. An
interval (value, low, high, or CSV columns x, x_low, x_high) and a value with its error (x, x_se)
show the digits that are known (scaling/utils/precision.py). `value` and `ends` take a part of an
interval, %d a percentage of so many decimals.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaling import results
from scaling.laws import api as laws
from scaling.utils import files, precision
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE, UserError

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"(<!-- quote (\S+) (\S+)(?: (\S+))? -->)(.*?)(<!-- end -->)", re.DOTALL)
PART = re.compile(r"([^.\[\]]+)|\[([^\]]*)\]")


def pages() -> list[Path]:
    """Return README.md and the pages of docs and benchmarks."""
    return [
        ROOT / "README.md",
        ROOT / "benchmarks" / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ]


def rewritten(page: Path) -> str:
    """Return the text of a page with all quoted numbers as its files have them."""

    def one(match: re.Match) -> str:
        begin, file, place, form, _, end = match.groups()
        try:
            return begin + shown(found(read(page.parent / file), place), form) + end
        except (OSError, ValueError, LookupError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(
                f"{page}: {begin} cannot be quoted ({reason}); mend the mark"
            ) from error

    return MARK.sub(one, page.read_text())


@functools.cache
def read(path: Path) -> Any:
    """Return a JSON file, or a CSV file as a list of rows with numbers where cells are numbers."""
    if path.suffix == ".json":
        return json.loads(path.read_text())
    with path.open(newline="") as file:
        return [{k: _cell(v) for k, v in row.items()} for row in csv.DictReader(file)]


def _cell(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def found(content: Any, place: str) -> Any:
    """Return what stands at a place; a number with an interval or an error as their dict."""
    for name, choice in PART.findall(place):
        above, content = content, _row(content, choice) if choice else content[name]
    if isinstance(content, float) and isinstance(above, Mapping):
        for keys in (("low", "high"), ("se",)):
            beside = {key: above.get(f"{name}_{key}") for key in keys}
            if None not in beside.values():
                return {"value": content, **beside}
    return content


def _row(rows: list[Any], choice: str) -> Any:
    if re.fullmatch(r"-?\d+", choice):
        return rows[int(choice)]
    wanted = [pair.split("=") for pair in choice.split(",")]
    chosen = [r for r in rows if all(str(r[k]) == v or r[k] == _cell(v) for k, v in wanted)]
    if len(chosen) != 1:
        raise ValueError(f"[{choice}] chooses {len(chosen)} rows")
    return chosen[0]


def shown(number: Any, form: str | None) -> str:
    """Return a number, an interval or a value with its error as text."""
    if isinstance(number, Mapping) and "low" in number:
        value, low, high = precision.texts(number["value"], number["low"], number["high"])
        whole = precision.of_dict(number)
        text = {None: whole, "value": value, "ends": f"[{low}, {high}]"}.get(form)
        if text is not None:
            return text
    if isinstance(number, Mapping):
        if form is None:
            return precision.with_error(number["value"], number["se"])
        number = number["value"]
    if form and form.startswith("%"):
        return f"{100 * number:.{form[1:] or 0}f}%"
    return f"{number:{form or 'g'}}"


def measure(folder: Path) -> None:
    """Compute the numbers of docs/laws.md that the named commands give, and write them as JSON."""
    from scaling import cli

    study = ROOT / "experiments" / "lr_study" / "lr_study.csv"
    table = laws.read_csv(study, n_params="n_params", tokens="tokens", loss="loss", lr="lr")
    windows = []
    for near in (0.0, 0.03, 0.1):
        law = laws.fit_optimum_of(table, "lr", of=("n_params",), near=near).law
        windows.append({"near": near, **{k: dataclasses.asdict(i) for k, i in law.items()}})
    files.write_json(folder / "lr_windows.json", windows)
    with tempfile.TemporaryDirectory() as temporary:
        design, study = Path(temporary) / "design", Path(temporary) / "all"
        cli.main([
            "design", "--total_flops=1e21", "--max_runs=24", "--max_flops=3e20", "--at=3e21,3e22",
            "--careful", f"--out={design}",
        ])  # fmt: skip
        shutil.copy(design / "design.json", folder / "design.json")
        shutil.copytree(ROOT / "docs" / "quickstart", study)
        cli.main(["conventions", f"--workdir={study}"])
        for name in ("json", "csv", "svg", "png"):
            shutil.copy(study / "curves" / f"conventions.{name}", ROOT / "docs" / "quickstart")
    quickstart = ROOT / "docs" / "quickstart"
    fits = [fit_without_cheapest(quickstart, budgets) for budgets in range(3)]
    files.write_json(quickstart / "without_cheapest.json", {"fits": fits})


def fit_without_cheapest(study: Path, budgets: int) -> dict[str, Any]:
    """Return L(N, D) of a study's runs but those of its cheapest budgets, and its prediction.

    The prediction is for the held-out run, `excess` the measurement over it, less 1.
    """
    rows, _ = results.read_table(study / "runs.csv")
    (held_out,) = (r for r in rows if r.role == "holdout")
    swept = [r for r in rows if r.role == "sweep"]
    kept = sorted({r.budget for r in swept})[budgets:]
    swept = [r for r in swept if r.budget in kept]
    table = laws.make_table(
        n_params=[r.n_params for r in swept],
        tokens=[r.tokens for r in swept],
        loss=[r.loss for r in swept],
        flops=[r.flops_exact for r in swept],
    )
    law = laws.fit_chinchilla(table, delta=1e-2)
    loss = law.prediction_interval(held_out.n_params, held_out.tokens)
    found = {name: law.intervals[name].as_dict() for name in ("alpha", "beta")}
    assert held_out.loss is not None
    excess = held_out.loss / loss.value - 1
    return {"budgets": kept, **found, "loss": loss.as_dict(), "excess": excess}


def main(argv: list[str]) -> int:
    """Rewrite or check the pages. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--measure", action="store_true", help="compute docs/laws/*.json first")
    args = parser.parse_args(argv)
    if args.measure:
        measure(ROOT / "docs" / "laws")
    try:
        texts = {page: rewritten(page) for page in pages()}
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    stale = [page for page, text in texts.items() if text != page.read_text()]
    for page in stale:
        print(f"{page}: {'stale' if args.check else 'rewritten'}")
        if not args.check:
            page.write_text(texts[page])
    return EXIT_INCOMPLETE if stale and args.check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
