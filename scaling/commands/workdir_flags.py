"""--config and --workdir: load a config, open a workdir, fetch and push a remote one."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.utils import signals
from scaling.utils.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

CONFIG_HELP = "a study: a name such as quickstart, or a file; --config.key=value overrides a key"
STORED_HELP = f"{CONFIG_HELP}; without it the config that the workdir stores"


def add(parser: argparse.ArgumentParser, stored: bool = False) -> None:
    """Add --config and --workdir. With `stored` the command does without --config."""
    parser.add_argument(
        "--config", default="", metavar="STUDY", help=STORED_HELP if stored else CONFIG_HELP
    )
    add_workdir(parser)


def add_workdir(parser: argparse.ArgumentParser) -> None:
    """Add --workdir alone."""
    parser.add_argument(
        "--workdir",
        default="",
        metavar="FOLDER",
        help="folder of the study's results, or s3:// or gs://",
    )


def load(args: argparse.Namespace) -> ConfigDict:
    """Return the config of --config with its overrides. Raises UserError."""
    from scaling.config import load as config_lib

    return config_lib.load(args.config, args.overrides)


def load_if_given(args: argparse.Namespace) -> ConfigDict | None:
    """Return the config of --config, None without it. Raises UserError at lonely overrides."""
    if not args.config:
        refuse_overrides(args, "reads the workdir's own config here; give --config, too")
        return None
    return load(args)


def refuse_overrides(args: argparse.Namespace, reason: str = "reads no config here; leave it out"):
    """Raise UserError where an override would have no effect."""
    if args.overrides:
        raise UserError(f"{args.overrides[0]}: `scaling {args.command}` {reason}")


@contextlib.contextmanager
def opened(args: argparse.Namespace, create: bool = False, push: bool = True) -> Iterator[Path]:
    """Open the workdir. A URL's scratch folder is fetched before and pushed after the block.

    Raises UserError without --workdir, and where a URL is not a workdir and `create` is false.
    """
    from scaling.sweep.shared import workdir_url

    signals.check()  # the imports of a command take seconds
    if not args.workdir:
        raise UserError("--workdir is missing; name a folder for the results, or s3:// or gs://")
    place = workdir_url.open_workdir(args.workdir, create=create)
    workdir_url.retry(place.pull_results)
    try:
        yield place.path
        if push:
            workdir_url.retry(place.push_table)
    except UserError as error:
        named = str(error).replace(f"--workdir={place.path}", f"--workdir={place.name}")
        raise UserError(named) from error


def stored_config(config: ConfigDict | None, workdir: Path) -> ConfigDict:
    """Return the workdir's config, or `config` if it is of the same sweep. Raises UserError."""
    from scaling.sweep.shared import sweep_json

    if config is None:
        return sweep_json.read(workdir)
    return sweep_json.require(config, workdir)
