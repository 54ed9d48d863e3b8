"""Find a study's file, call its get_config, and put what it raises on one line."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from scaling.configs import base
from scaling.utils.errors import UserError, one_line
from scaling.utils.suggest import nearest

SHIPPED = Path(base.__file__).parent  # studies that --config names without a path


def find(name: str) -> Path:
    """Return the file of a study, or of a shipped one. Raises UserError with the nearest name."""
    shipped = sorted(f.stem for f in SHIPPED.glob("[!_]*.py"))
    if name in shipped:
        return SHIPPED / f"{name}.py"
    with contextlib.suppress(OSError):  # too long a name, or a folder that may not be read
        if Path(name).is_file():
            return Path(name)
    near = nearest(Path(name).stem, shipped)
    hint = f"did you mean --config={near}?" if near else f"shipped are {', '.join(shipped)}"
    raise UserError(f"--config={name}: no such file and no shipped study; {hint}")


def call(file: Path, *arguments: str) -> ConfigDict:
    """Return what `get_config` of a study returns. It may import the modules beside its file."""
    spec = importlib.util.spec_from_file_location("scaling_study", file)
    if spec is None or spec.loader is None:
        raise UserError("not a Python file; name a study such as quickstart")
    module = importlib.util.module_from_spec(spec)
    with _importable(str(file.resolve().parent)):
        spec.loader.exec_module(module)
        study = module.get_config(*arguments)
    if not isinstance(study, ConfigDict):
        raise UserError(f"get_config() returned {type(study).__name__}; return a ConfigDict")
    return study


@contextlib.contextmanager
def _importable(folder: str) -> Iterator[None]:
    """Find the modules of a folder after all installed ones, so that none of them is replaced."""
    before = list(sys.path)
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path[:] = before


def reason(error: BaseException, file: Path) -> str:
    """Return in one line what a study raised, and the line of its file that led there."""
    if isinstance(error, UserError):
        return one_line(error)
    if isinstance(error, ModuleNotFoundError) and error.name == "configs":
        return "the package configs is scaling.configs; write `from scaling.configs import ...`"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {one_line(error)}"
