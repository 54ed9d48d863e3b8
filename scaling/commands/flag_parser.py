"""Parse flags: two spellings of each, whole names or unique beginnings, one line per error."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from scaling.commands import flag_types
from scaling.utils import suggest
from scaling.utils.errors import UserError

OVERRIDE = "--config."  # of a key: --config.key=value
# Flags that no beginning of a name stands for. They are younger than `--form` and `--workdir`,
# whose beginnings keep working.
WHOLE_NAMES_ONLY = (
    *("--format", "--wide", "--time", "--usd", "--cost"),
    *("--unit", "--last_of", "--decimal", "--separator"),
)


class FlagParser(argparse.ArgumentParser):
    """A parser whose errors are UserErrors."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise UserError. It names the flag, or else has the usage."""
        flag = re.match(r"argument (--\w+)(?:/--\w+)*: (.*)", message)
        if flag:
            raise UserError(f"{flag[1]}: {flag[2]}")
        raise UserError(f"{message}; {self.short_usage()}")

    def short_usage(self) -> str:
        """Return the usage as part of a line."""
        usage = " ".join(self.format_usage().split())
        return f"{usage}, `{self.prog} --help` lists the flags"

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse the arguments of a command. Raises UserError at an unknown flag or a wrong value.

        The result has `overrides`, the arguments `--config.key=value`, and `changed`, the names of
        the flags that are not at their default.
        """
        words = [word for word in argv if not word.startswith(OVERRIDE)]
        args = self.parse_args(self._canonical(words))
        args.changed = {k for k, v in vars(args).items() if v != self.get_default(k)}
        args.overrides = [word for word in argv if word.startswith(OVERRIDE)]
        return args

    def _canonical(self, words: Sequence[str]) -> list[str]:
        """Return the words with each flag by its declared name, and a switch alone as `=true`."""
        made: list[str] = []
        for i, word in enumerate(words):
            if word == "--":
                return [*made, *words[i:]]
            if not word.startswith("--"):
                made.append(word)
                continue
            name, equals, value = word.partition("=")
            name = self._flag(name)
            if not equals and self._option_string_actions[name].type is flag_types.boolean:
                equals, value = "=", "true"
            made.append(f"{name}{equals}{value}")
        return made

    def _flag(self, name: str) -> str:
        """Return the flag that `name` spells or begins. Raises UserError with the nearest one."""
        known = list(self._option_string_actions)
        spelled = "--" + name[2:].replace("-", "_")
        if spelled in known:
            return spelled
        begun = [f for f in known if f.startswith(spelled) and f not in WHOLE_NAMES_ONLY]
        if len(begun) == 1 and len(spelled) > 2:
            return begun[0]
        if len(begun) > 1 and len(spelled) > 2:
            raise UserError(f"{name}: could be {', '.join(begun)}; give the whole name")
        near = suggest.nearest(spelled, known)
        hint = f"did you mean {near}? " if near else ""
        raise UserError(f"{name}: no such flag; {hint}{self.short_usage()}")
