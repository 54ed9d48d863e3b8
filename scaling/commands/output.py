"""Print the results of a command as text, JSON, Markdown, LaTeX or CSV."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scaling.commands import flag_types
from scaling.utils import files
from scaling.utils.errors import EXIT_INCOMPLETE, UserError

FORMATS = ("text", "json", "markdown", "latex", "csv")
COLUMNS = 100  # width of a table in text without --wide
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}


@dataclass(frozen=True)
class Table:
    """Rows with equal keys. Text leaves out `optional` columns, first to last, until it fits."""

    title: str
    rows: Sequence[Mapping[str, Any]]
    optional: tuple[str, ...] = ()
    formats: Mapping[str, str] = field(default_factory=dict)  # column -> format of its numbers

    @property
    def columns(self) -> list[str]:
        return list(self.rows[0]) if self.rows else []


@dataclass(frozen=True)
class Output:
    """The results of a command, in the shapes that the formats need."""

    content: Any  # as JSON
    tables: Sequence[Table] = ()  # CSV holds the first
    notes: Sequence[str] = ()  # lines below the tables
    text: Sequence[str] | None = None  # lines to print instead of the tables and the notes


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add --format, --json and --wide."""
    parser.add_argument(
        "--format",
        choices=FORMATS,
        metavar="FORMAT",
        help=f"how to print the results: {', '.join(FORMATS)}; without it text",
    )
    flag_types.add_switch(parser, "--json", "short for --format=json")
    flag_types.add_switch(parser, "--wide", f"all columns, not only what fits {COLUMNS} characters")


def format_of(args: argparse.Namespace) -> str:
    """Return the format that the flags choose. Raises UserError where they choose two."""
    if args.json and args.format not in (None, "json"):
        raise UserError(f"--json and --format={args.format} are two formats; give one of them")
    return "json" if args.json else args.format or "text"


def show(args: argparse.Namespace, *outputs: Output) -> None:
    """Print the outputs to stdout in the format that the flags choose."""
    show_each(args, outputs)


def show_each(args: argparse.Namespace, outputs: Iterable[Output]) -> None:
    """Print the outputs, in text each as soon as it is made. JSON joins them to one object."""
    chosen = format_of(args)
    if chosen == "text":
        for output in outputs:
            print("\n".join(text(output, args.wide)), flush=True)
        return
    made = list(outputs)
    printed = lines(made, chosen)
    if printed:
        print("\n".join(printed))


def show_lines(args: argparse.Namespace, name: str, texts: Sequence[str]) -> None:
    """Print lines of text; the other formats hold them as rows of one column."""
    show(
        args,
        Output({f"{name}s": list(texts)}, [Table("", [{name: t} for t in texts])], text=texts),
    )


def warn(problems: Sequence[str]) -> int:
    """Print the problems to stderr. Return the exit code: 3 where some are, else 0."""
    for line in problems:
        print(f"warning: {line}", file=sys.stderr)
    return EXIT_INCOMPLETE if problems else 0


def text(output: Output, wide: bool = False) -> list[str]:
    """Return the lines of the output as text."""
    if output.text is not None:
        return list(output.text)
    tables = [line for table in output.tables for line in text_lines(table, wide)]
    return [*tables, *output.notes]


def lines(outputs: Sequence[Output], chosen: str) -> list[str]:
    """Return the outputs as lines of json, csv, markdown or latex. CSV has the first table."""
    tables = [table for output in outputs for table in output.tables if table.rows]
    if chosen == "json":
        content = outputs[0].content
        if len(outputs) > 1:
            content = {key: value for output in outputs for key, value in output.content.items()}
        return files.json_bytes(content).decode().splitlines()
    if chosen == "csv":
        return _csv(tables[0]) if tables else []
    table_lines, note = (_latex, "% ") if chosen == "latex" else (_markdown, "- ")
    made = [line for table in tables for line in table_lines(table)]
    return [*made, *(f"{note}{line.strip()}" for output in outputs for line in output.notes)]


def text_lines(table: Table, wide: bool = False) -> list[str]:
    """Return the table as aligned text, at most COLUMNS wide unless `wide`."""
    columns, left_out = table.columns, []
    if not columns:
        return []
    cells = {
        c: [c, *(cell(row[c], table.formats.get(c, "")) for row in table.rows)] for c in columns
    }
    numeric = {c: all(_is_number(row[c]) for row in table.rows) for c in columns}

    def width() -> int:
        return sum(max(map(len, cells[c])) + 2 for c in columns) - 2

    for name in table.optional:
        if not wide and width() > COLUMNS and name in columns:
            columns = [c for c in columns if c != name]
            left_out.append(name)
    made = []
    for i in range(len(table.rows) + 1):
        padded = (
            f"{cells[c][i]:{'>' if numeric[c] else '<'}{max(map(len, cells[c]))}}" for c in columns
        )
        made.append("  ".join(padded).rstrip())
    short = [clipped(line, wide) for line in made]
    hints = [f"columns left out: {', '.join(left_out)}"] if left_out else []
    hints += ["lines cut off"] if short != made else []
    return [*short, *([f"{'; '.join(hints)}; --wide shows all"] if hints else [])]


def clipped(line: str, wide: bool = False) -> str:
    """Return the line, cut to COLUMNS with an ellipsis unless `wide`."""
    return line if wide or len(line) <= COLUMNS else line[: COLUMNS - 1] + "…"


def cell(value: Any, format: str = "") -> str:
    """Return a value as a table shows it: four digits of a float, "-" for what is not known."""
    if value is None or value != value:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:{format or ','}}"
    if isinstance(value, float):
        return f"{value:{format or '.4g'}}"
    return str(value)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def _csv(table: Table) -> list[str]:
    text = io.StringIO()
    writer = csv.DictWriter(text, table.columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _flat(v) for k, v in row.items()} for row in table.rows)
    return text.getvalue().rstrip("\n").split("\n")  # a cell may hold other line ends


def _flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list | tuple) else value


def _markdown(table: Table) -> list[str]:
    rows = [[cell(row[c], table.formats.get(c, "")) for c in table.columns] for row in table.rows]
    return [
        *([f"### {table.title}", ""] if table.title else []),
        f"| {' | '.join(table.columns)} |",
        f"|{'---|' * len(table.columns)}",
        *(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |" for row in rows),
        "",
    ]


def _latex(table: Table) -> list[str]:
    def row_of(texts: Sequence[str]) -> str:
        return " & ".join("".join(LATEX.get(sign, sign) for sign in t) for t in texts) + r" \\"

    aligned = "".join(
        "r" if all(_is_number(row[c]) for row in table.rows) else "l" for c in table.columns
    )
    return [
        *([f"% {table.title}"] if table.title else []),
        rf"\begin{{tabular}}{{{aligned}}}",
        r"\hline",
        row_of(table.columns),
        r"\hline",
        *(
            row_of([cell(row[c], table.formats.get(c, "")) for c in table.columns])
            for row in table.rows
        ),
        r"\hline",
        r"\end{tabular}",
    ]
