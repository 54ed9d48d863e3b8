"""`scaling check`: train a few steps at several widths and depths, and see what grows."""

from __future__ import annotations

import argparse

from scaling.commands import flag_types, output, workdir_flags
from scaling.utils import parse
from scaling.utils.errors import EXIT_INCOMPLETE, UserError

HELP = "coordinate check: do layer outputs keep their size with width and depth?"
EXAMPLE = """\
scaling check --config=quickstart --config.model.parametrization=mup
scaling check --config=study.py --widths=64,128,256 --depths=2,4,8 --seeds=5 --out=check"""
MULTIPLES = (1, 2, 4, 8)  # of the config's width, where no sizes are named
STEPS, SEEDS = 10, 3


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `check`."""
    parser.add_argument("--config", default="", metavar="STUDY", help=workdir_flags.CONFIG_HELP)
    parser.add_argument(
        "--widths",
        default="",
        metavar="D,...",
        help="model widths; without it 1, 2, 4 and 8 times config.model.width",
    )
    parser.add_argument(
        "--depths", default="", metavar="L,...", help="numbers of blocks; without it none"
    )
    for name, default, text in (
        ("steps", STEPS, "training steps before the check"),
        ("seeds", SEEDS, "seeds of each size"),
    ):
        parser.add_argument(
            f"--{name}",
            type=flag_types.count,
            default=default,
            metavar="N",
            help=f"{text}; without it {default}",
        )
    parser.add_argument(
        "--out",
        default="",
        metavar="FOLDER",
        help="folder for coordinates.json, .csv and a picture",
    )
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Print how every layer's output follows width and depth, and a verdict per side.

    Return 3 if a run diverged.
    """
    config = workdir_flags.load(args)
    widths, depths = _sizes(args, "widths"), _sizes(args, "depths")
    if not widths and not depths:
        widths = [k * config.model.width for k in MULTIPLES]

    import sys
    from pathlib import Path

    from scaling.study import coordinate_check
    from scaling.utils import files, machine

    machine.start_jax(config.parallel.cpu_devices)
    if args.out:  # before minutes of training
        with files.report_unwritable(Path(args.out)):
            Path(args.out).mkdir(parents=True, exist_ok=True)
    found = coordinate_check.check(
        config, widths, depths, args.steps, args.seeds, lambda line: print(line, file=sys.stderr)
    )
    output.show(args, _output(args, config, found))
    return EXIT_INCOMPLETE if found.diverged else 0


def _sizes(args: argparse.Namespace, name: str) -> list[int]:
    try:
        given = getattr(args, name)
        sizes = [parse.whole_number(text) for text in given.split(",")] if given else []
        if any(size < 1 for size in sizes):
            raise ValueError("a size below 1")
    except ValueError as error:
        raise UserError(f"--{name}={getattr(args, name)}: {error}; give 64,128,256") from error
    return sizes


def _output(args, config, found) -> output.Output:
    import dataclasses
    from pathlib import Path

    from scaling.report import coordinates
    from scaling.utils import files

    sides = list(dict.fromkeys(s.side for s in found.slopes))
    rows = [{**dataclasses.asdict(s), "trend": s.trend} for s in found.slopes]
    verdicts = {side: found.verdict(side) for side in sides}
    content = {
        "parametrization": config.model.parametrization,
        "optimizer": config.optim.name,
        "steps": args.steps,
        "seeds": args.seeds,
        "slopes": rows,
        "verdicts": verdicts,
    }
    written = []
    if args.out:
        folder = Path(args.out)
        files.write_json(folder / "coordinates.json", content)
        drawn = coordinates.picture(found.columns).write(folder / "coordinates")
        written = [str(folder / "coordinates.json"), str(drawn)]
    sizes = [row for row in rows if row["quantity"] == "size"]
    table = output.Table(
        f"d log mean |x| / d log side after {args.steps} steps, 90% intervals",
        [{k: v for k, v in row.items() if k != "quantity"} for row in sizes],
        formats=dict.fromkeys(("value", "low", "high"), "+.2f"),
    )
    return output.Output(content, [table], [*verdicts.values(), *written])
