"""The commands and their parsers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from types import ModuleType

from scaling.commands import (
    check,
    clean,
    conventions,
    curves,
    data,
    design,
    fit,
    gain,
    holdout,
    plan,
    report,
    sample,
    status,
    sweep,
    train,
    tune,
    work,
)
from scaling.commands.flag_parser import OVERRIDE, FlagParser
from scaling.utils import suggest
from scaling.utils.errors import UserError

COMMANDS: dict[str, ModuleType] = {
    "plan": plan,
    "data": data,
    "check": check,
    "tune": tune,
    "train": train,
    "sweep": sweep,
    "work": work,
    "fit": fit,
    "conventions": conventions,
    "gain": gain,
    "design": design,
    "holdout": holdout,
    "curves": curves,
    "status": status,
    "report": report,
    "sample": sample,
    "clean": clean,
}
EPILOG = """\
exit codes:
  0   done
  2   bad input: one line says what is wrong and how to fix it
  3   incomplete: runs failed, diverged or are missing, or damaged files or rows were left out
  69  another process of the same run ended; the same command continues
  75  stopped by a signal, everything saved; the same command continues

--config.key=value overrides a key of the config. --n-params and --n_params are the same flag."""
COMPLETION = "--print_completion"
SHELLS = ("bash", "zsh", "tcsh")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line. `run` of the result is its command. Raises UserError, SystemExit.

    SystemExit ends --help, --version and --print_completion.
    """
    words = [word for word in argv if not word.startswith(OVERRIDE)]
    if words and not words[0].startswith("-"):
        name = words[0]
        if name not in COMMANDS:
            near = suggest.nearest(name, COMMANDS)
            hint = f"did you mean `scaling {near}`? " if near else ""
            raise UserError(
                f"{name}: no such command; {hint}usage: scaling COMMAND [--flag=value ...], with "
                f"one of {', '.join(COMMANDS)}"
            )
        at = list(argv).index(name)
        return _command_parser(name).parse([*argv[:at], *argv[at + 1 :]])
    parser = _whole_parser(
        completion=any(word.replace("-", "_")[2:] == COMPLETION[2:] for word in words)
    )
    parser.parse(argv)
    raise UserError(f"no command; {parser.short_usage()}")


def _command_parser(name: str) -> FlagParser:
    parser = FlagParser(**_options(name, f"scaling {name}"))
    _fill(parser, name)
    return parser


def _options(name: str, prog: str) -> dict:
    command = COMMANDS[name]
    return {
        "prog": prog,
        "description": command.HELP,
        "epilog": "examples:\n" + "\n".join(f"  {line}" for line in command.EXAMPLE.splitlines()),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _fill(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the flags of a command, and a usage of one line."""
    command = COMMANDS[name]
    command.add_flags(parser)
    parser.set_defaults(command=name, run=command.run)
    words = [f"{a.metavar}{'...' * (a.nargs == '+')}" for a in parser._get_positional_actions()]
    parser.usage = " ".join([f"scaling {name}", *words, "[--flag=value ...]"])


class _Version(argparse.Action):
    """Print the version, which takes a look at the installed packages."""

    def __call__(self, parser, namespace, values, option_string=None):
        import scaling

        print(f"scaling {scaling.__version__}")
        parser.exit()


def _whole_parser(completion: bool) -> FlagParser:
    """Return the parser of `scaling` without a command: help, version, completion."""
    parser = FlagParser(
        prog="scaling",
        description="Scaling laws, from a config to a fitted and tested law.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="scaling COMMAND [--flag=value ...]",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        # shtab reads the flags; --help needs only the names
        sub = commands.add_parser(name, help=command.HELP, **_options(name, f"scaling {name}"))
        if completion:
            _fill(sub, name)
    if completion:
        import shtab

        shtab.add_argument_to(parser, COMPLETION)
    else:
        parser.add_argument(
            COMPLETION,
            choices=SHELLS,
            metavar="SHELL",
            help=f"print completion for {', '.join(SHELLS)}",
        )
    return parser
