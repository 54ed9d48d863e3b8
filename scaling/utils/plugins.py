"""Import the plugins that a config names: modules that register parts, see utils/registry.py."""

from __future__ import annotations

import hashlib
import importlib
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from scaling.utils import registry
from scaling.utils.errors import Preempted, UserError, one_line, shown


@dataclass(frozen=True)
class Plugin:
    """An imported plugin."""

    folder: Path  # that holds its top-level module
    sha256: str  # of its source


_loaded: dict[str, Plugin] = {}


def load(names: Any, folders: Iterable[str | Path] = ()) -> None:
    """Import the modules of `config.plugins` once per process.

    They are found as installed ones and on PYTHONPATH, then in `folders` and the current folder.
    Raises UserError in one line, with no name registered, if a module is missing, fails to import,
    or registers nothing or a known name.
    """
    if type(names) not in (tuple, list) or not all(_is_module(name) for name in names):
        raise UserError(
            f"config.plugins={shown(names)} should be names of modules, such as "
            '("my_study.blocks",)'
        )
    for name in names:
        if name not in _loaded:
            _loaded[name] = _import(name, [*folders, Path.cwd()])


def hashes(names: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of each plugin's source: its file, or all .py files of a package."""
    load(names)
    return {name: _loaded[name].sha256 for name in names}


def hash_of(module: str) -> str:
    """Return the hash of the plugin that a module is, or belongs to; "" for one of no plugin."""
    inside = [name for name in _loaded if f"{module}.".startswith(f"{name}.")]
    return _loaded[max(inside, key=len)].sha256 if inside else ""


def folders(names: Sequence[str]) -> list[str]:
    """Return the folders of plugins that are not installed, for other processes to look in."""
    load(names)
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    found = dict.fromkeys(str(_loaded[name].folder) for name in names)
    return [folder for folder in found if folder not in installed]


def _is_module(name: Any) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))


def _import(name: str, folders: Sequence[str | Path]) -> Plugin:
    looked = list(dict.fromkeys(str(Path(folder).resolve()) for folder in folders))
    paths, modules, entries = list(sys.path), set(sys.modules), registry.snapshot()
    importlib.invalidate_caches()
    try:
        # after installed modules, so that none of them is replaced
        sys.path += [folder for folder in looked if folder not in sys.path]
        plugin = _described(name, importlib.import_module(name))
    except BaseException as error:  # a plugin is arbitrary code: whatever it raises is bad input
        sys.path[:] = paths
        registry.restore(entries)
        top = name.partition(".")[0]
        for module in set(sys.modules) - modules:
            if module.partition(".")[0] == top:
                del sys.modules[module]
        if isinstance(error, KeyboardInterrupt | Preempted):
            raise
        raise UserError(f"config.plugins: {_reason(name, error, looked)}") from error
    # its functions may import modules beside it when called
    sys.path[:] = [path for path in sys.path if path in paths or path == str(plugin.folder)]
    return plugin


def _described(name: str, module: ModuleType) -> Plugin:
    """Return an imported plugin. Raises UserError if it registered nothing."""
    file = getattr(module, "__file__", None)
    top = name.partition(".")[0]
    if not file or not any(
        entry.module.partition(".")[0] == top
        for known in registry.ALL
        for entry in known.entries.values()
    ):
        where = f" ({file})" if file else ""
        raise UserError(
            f"{name}{where} registers nothing; see docs/extending.md, and rename it if an "
            "installed module has its name"
        )
    path, digest = Path(file).resolve(), hashlib.sha256()
    package = path.name == "__init__.py"
    root = path.parent
    for source in sorted(root.rglob("*.py")) if package else [path]:
        digest.update(f"{source.relative_to(root)}\n".encode() + source.read_bytes())
    return Plugin(path.parents[name.count(".") + package], digest.hexdigest())


def _reason(name: str, error: BaseException, looked: Sequence[str]) -> str:
    if isinstance(error, UserError):
        return one_line(error)
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and (name == missing or name.startswith(f"{missing}.")):
        return (
            f"cannot find {name}; looked in PYTHONPATH, {', '.join(looked)}; put its folder on "
            "PYTHONPATH"
        )
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = "" if isinstance(error, SyntaxError) else f" ({frame.filename}, line {frame.lineno})"
    return f"{name} fails to import: {type(error).__name__}: {one_line(error)}{where}"
