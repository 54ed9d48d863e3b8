"""Names of config values and the functions behind them; plugins register further ones.

A registry belongs to one config key. `configs/base.py` declares the names that ship with this
package; their functions, too, are registered by decorators. docs/extending.md has examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from scaling.utils.errors import UserError, one_line, shown
from scaling.utils.suggest import nearest

F = TypeVar("F", bound=Callable)
OURS = "scaling."  # modules that may register the shipped names


@dataclass(frozen=True)
class Entry:
    """A function under its name, with the traits that its registration states."""

    key: str
    name: str
    function: Callable[..., Any]
    traits: Mapping[str, Any]

    @property
    def module(self) -> str:
        """Return the name of the module that defines the function."""
        return self.function.__module__

    def __call__(self, *args: Any) -> Any:
        """Call the function. What a plugin raises becomes a UserError that names the plugin."""
        return self.guarded(self.function, *args)

    def guarded(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function that runs code of the entry, see `__call__`."""
        if self.module.startswith(OURS):
            return function(*args)
        try:
            return function(*args)
        except UserError:
            raise
        except Exception as error:
            raise self.error(f"{type(error).__name__}: {one_line(error)}") from error

    def error(self, text: str) -> UserError:
        """Return the error of a plugin that does not do as documented."""
        return UserError(f"{self.key}={self.name!r} of plugin {self.module}: {text}")


class Registry:
    """Functions by name, for one config key. `traits` are those of an entry, with defaults."""

    def __init__(self, key: str, **traits: Any):
        self.key, self.traits = key, traits
        self.shipped: tuple[str, ...] = ()  # names of configs/base.py
        self.entries: dict[str, Entry] = {}

    def register(self, name: str, **traits: Any) -> Callable[[F], F]:
        """Return a decorator that registers a function or a class under a new name.

        Raises UserError for a known name, and for a trait that entries of this registry lack.
        """

        def add(function: F) -> F:
            entry = Entry(self.key, name, function, {**self.traits, **traits})
            if not isinstance(name, str) or not name:
                raise entry.error("give a name, a text")
            ours = entry.module.startswith(OURS)
            if name in self.entries or (name in self.shipped and not ours):
                by = self.entries[name].module if name in self.entries else OURS.rstrip(".")
                raise entry.error(f"the name is taken by {by}; choose another")
            if unknown := sorted(set(traits) - set(self.traits)):
                known = ", ".join(self.traits) or "none"
                raise entry.error(f"no trait {unknown[0]!r}; the traits are: {known}")
            self.entries[name] = entry
            return function

        return add

    def names(self) -> tuple[str, ...]:
        """Return all names: those that ship, then those of plugins."""
        return tuple(dict.fromkeys((*self.shipped, *self.entries)))

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __getitem__(self, name: str) -> Entry:
        """Return an entry. Raises UserError for an unknown name, naming the nearest."""
        if name not in self.entries:
            near = nearest(name, self.names())
            hint = f"did you mean {near}?" if near else f"choose one of {', '.join(self.names())}"
            raise UserError(f"{self.key}={shown(name)}: not registered; {hint}")
        return self.entries[name]


MLPS = Registry("config.model.mlp", inputs=1)  # input matrices, 2 if one gates the other
OPTIMIZERS = Registry("config.optim.name", width_exponent=None)  # see models/parametrization.py
SCHEDULES = Registry("config.optim.schedule")
SOURCES = Registry("config.data.name")
ALL = (MLPS, OPTIMIZERS, SCHEDULES, SOURCES)


def snapshot() -> list[dict[str, Entry]]:
    """Return the entries of all registries, for `restore`."""
    return [dict(registry.entries) for registry in ALL]


def restore(entries: list[dict[str, Entry]]) -> None:
    """Undo all registrations since `snapshot`."""
    for registry, before in zip(ALL, entries, strict=True):
        registry.entries = before
