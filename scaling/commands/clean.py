"""`scaling clean`: say what a workdir holds without need; free it with --yes."""

from __future__ import annotations

import argparse

from scaling.commands import flag_types, output, workdir_flags
from scaling.utils.errors import UserError

HELP = "list what killed processes left and, on request, old checkpoints; --yes frees it"
EXAMPLE = """\
scaling clean --workdir=results/quickstart --checkpoints
scaling clean --workdir=results/quickstart --checkpoints --yes"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `clean`."""
    workdir_flags.add_workdir(parser)
    flag_types.add_switch(
        parser,
        "--checkpoints",
        "also the checkpoints of runs that have a result; such a run cannot be continued or merged",
    )
    flag_types.add_switch(parser, "--yes", "delete it; without this nothing is deleted")
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """List the leftovers of a workdir; delete them with --yes. Raises UserError for a URL."""
    workdir_flags.refuse_overrides(args)

    from scaling.study import leftovers
    from scaling.sweep.shared.storage import is_remote
    from scaling.utils import units

    if is_remote(args.workdir):
        raise UserError(f"--workdir={args.workdir}: clean frees folders; name a folder")
    with workdir_flags.opened(args, push=False) as workdir:
        found, building = leftovers.find(workdir, args.checkpoints)
        if args.yes:
            leftovers.free(found)
    size = units.size(sum(leftover.size for leftover in found))
    if not found:
        notes = ["nothing to free"]
    elif args.yes:
        notes = [f"freed {size}"]
    else:
        notes = [f"{size} can be freed; nothing is deleted without --yes"]
    notes += [f"{path} stays: another machine may be building it" for path in building]
    rows = [
        {"kind": x.kind, "bytes": x.size, "path": str(x.path).removeprefix(f"{workdir}/")}
        for x in found
    ]
    content = {"freed": bool(args.yes), "leftovers": rows, "kept": [str(p) for p in building]}
    output.show(args, output.Output(content, [output.Table("Leftovers", rows)], notes))
    return 0
