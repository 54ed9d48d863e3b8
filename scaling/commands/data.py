"""`scaling data`: prepare the text of a config and describe it."""

from __future__ import annotations

import argparse
from typing import Any

from scaling.commands import output, workdir_flags
from scaling.utils.errors import UserError

HELP = "prepare the text of a config and describe it: sizes, duplicates, overlap, excerpts"
EXAMPLE = """\
scaling data --config=quickstart
scaling data --config=study.py --config.data.name=jsonl --config.data.path=corpus --json"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `data`."""
    parser.add_argument("--config", default="", metavar="STUDY", help=workdir_flags.CONFIG_HELP)
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Prepare the data, unless they are in the cache, and print their description."""
    config = workdir_flags.load(args)
    if config.data.field != "language":
        raise UserError(
            f"config.data.field={config.data.field!r}: `scaling data` describes text; see "
            "meta.json in config.data.cache_dir"
        )
    from scaling.data import describe, prepare

    output.show(args, _output(describe.describe(prepare.prepare(config.data))))
    return 0


def _output(found: dict[str, Any]) -> output.Output:
    overlap = found["overlap"]
    share = overlap["held_out_runs_in_train"] / max(1, overlap["held_out_runs"])
    return output.Output(
        found,
        [
            output.Table("splits", found["splits"], ("10%", "99%", "bytes", "shortest")),
            output.Table("left out", found["left_out"]),
            output.Table("excerpts", found["excerpts"]),
        ],
        [
            f"held-out documents in train: {overlap['held_out_documents_in_train']:,}",
            f"held-out runs of {overlap['run_tokens']} tokens in train: {share:.1%} of "
            f"{overlap['held_out_runs']:,}",
            f"lengths are in tokens; documents' SHA-256 {found['documents_hash'][:16]}, "
            f"fingerprint {found['fingerprint']}",
            f"folder {found['folder']}",
        ],
    )
