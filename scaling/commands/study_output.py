"""Output of a fitted study: its summary, its laws' parameters and its pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.commands.output import Output, Table
from scaling.report import saved_summary
from scaling.utils import files

if TYPE_CHECKING:  # a report needs nothing that fits
    from scaling.study.pipeline import Written

VALUES = ("value", "se", "low", "high")


def of(written: Written, workdir: Path) -> Output:
    """Return what a fit of the workdir wrote."""
    pictures = ["Pictures", *(f"  {path}" for path in written.pictures)]
    text = [*written.notes, *written.summary, *pictures]
    content = {"summary": written.summary, "notes": written.notes, **curves(workdir)}
    content["pictures"] = [str(path) for path in written.pictures]
    return Output(content, [parameters(workdir)], [*written.notes, *written.summary], text)


def of_summary(summary: list[str], workdir: Path) -> Output:
    """Return the summary that an earlier fit wrote."""
    return Output({"summary": summary, **curves(workdir)}, [parameters(workdir)], summary, summary)


def curves(workdir: Path) -> dict[str, Any]:
    """Return the laws of `<workdir>/curves` by name."""
    paths = sorted((workdir / "curves").glob("*.json"))
    read = {p.stem: files.read_json(p, saved_summary.FIX) for p in paths if p.stem != "inputs"}
    return {"curves": read}


def parameters(workdir: Path) -> Table:
    """Return one row per fitted parameter. Several curves of one law are one."""
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for name, law in curves(workdir)["curves"].items():
        fitted = law.get("parameters")
        text = json.dumps(fitted, sort_keys=True)
        if text not in seen:
            seen.add(text)
            rows += [
                {"curve": name, "parameter": path, **{k: value.get(k) for k in VALUES}}
                for path, value in _estimates(fitted)
            ]
    return Table("Parameters", rows)


def _estimates(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (dotted path, estimate) of all estimates in nested dicts and lists."""
    if isinstance(value, dict) and {"value", "low", "high"} <= set(value):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _estimates(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _estimates(inner, f"{path}[{i}]")
