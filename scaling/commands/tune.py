"""`scaling tune`: fit a recipe for learning rate, batch and weight decay to a study."""

from __future__ import annotations

import argparse

from scaling.commands import flag_types, output, workdir_flags
from scaling.utils.errors import UserError

HELP = "fit lr, batch and weight decay as power laws of size and length, on the study's own models"
EXAMPLE = """\
scaling tune --config=quickstart --time=5m --workdir=results/tune
scaling tune --config=my_study.py --time=2h --workdir=W --config.model.parametrization=mup"""
NAME = "recipe.json"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `tune`."""
    workdir_flags.add(parser)
    parser.add_argument(
        "--time",
        type=flag_types.seconds,
        metavar="DURATION",
        help="about how long the runs may take on this machine, e.g. 3m or 2h",
    )
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Train the design, write recipe.json and print it. Return 3 if runs failed or diverged."""
    config = workdir_flags.load(args)
    if not args.time:
        raise UserError("--time is missing; say how long the runs may take, e.g. --time=3m")

    import sys

    from scaling.study import tune
    from scaling.utils import files, machine

    machine.start_jax(config.parallel.cpu_devices)
    with workdir_flags.opened(args, create=True) as workdir:
        tuning = tune.tune(config, workdir, args.time, lambda line: print(line, file=sys.stderr))
        content = tune.content(config, tuning)
        files.write_json(workdir / NAME, content)
        rows = [
            {"rule": rule, "number": name, **interval}
            for rule in ("lr", "batch_tokens", "tau")
            for name, interval in (content[rule] or {}).items()
        ]
        grouped = content["grouped"]
        rows += [
            {
                "rule": f"{name}, by optima",
                "number": k,
                **{e: v[e] for e in ("value", "low", "high")},
            }
            for name, found in grouped.items()
            for k, v in (found["rule"] or {}).items()
        ]
        reasons = [f"{n}, by optima: {f['reason']}" for n, f in grouped.items() if not f["rule"]]
        formats = dict.fromkeys(("value", "low", "high"), ".3g")
        table = output.Table("Rules with 90% intervals", rows, formats=formats)
        notes = [
            *tune.proposals(tuning),
            *reasons,
            f"a factor of 2 in lr costs {content['loss_of_factor_2']:.2%} of the loss",
            f"{workdir / NAME}: use it with --config.sweep.recipe=fitted:{workdir / NAME}",
        ]
        output.show(args, output.Output(content, [table], notes))
    return output.warn(tuning.problems)
