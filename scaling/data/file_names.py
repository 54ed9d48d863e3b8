"""Find the files that config.data.path names: a file, a folder, a glob, or several with commas."""

from __future__ import annotations

import glob
from collections import Counter
from pathlib import Path

from scaling.utils import compressed, files
from scaling.utils.errors import UserError, one_line

# files of a folder, by config.data.name, unless config.data.pattern is set
PATTERNS = {
    "text": ("*.txt",),
    "jsonl": ("*.jsonl", "*.ndjson", "*.json"),
    "parquet": ("*.parquet",),
}


def find(path: str, pattern: str | None, name: str) -> list[Path]:
    """Return the files, sorted within a folder or a glob. Raises UserError naming an empty one."""
    found: list[Path] = []
    for part in [path] if Path(path).expanduser().exists() else path.split(","):
        place = Path(part.strip()).expanduser()
        if place.is_dir():
            found += _of_folder(place, part, pattern, name)
        elif place.is_file():
            found.append(place)
        elif glob.has_magic(str(place)):
            matches = sorted(Path(f) for f in glob.glob(str(place), recursive=True))
            if not (matches := [f for f in matches if f.is_file()]):
                raise UserError(f"config.data.path={part}: no file matches this pattern")
            found += matches
        else:
            raise UserError(f"config.data.path={part}: no such file or folder")
    return list(dict.fromkeys(found))


def _of_folder(folder: Path, part: str, pattern: str | None, name: str) -> list[Path]:
    patterns = (pattern,) if pattern else PATTERNS[name]
    endings = ("",) if pattern else ("", *compressed.SUFFIXES)
    matches = {f for p in patterns for end in endings for f in folder.rglob(p + end)}
    if found := sorted(f for f in matches if f.is_file()):
        return found
    kinds = Counter(f.suffix for f in folder.rglob("*") if f.is_file() and f.suffix)
    has = ", ".join(f"*{suffix}" for suffix, _ in kinds.most_common(3)) or "no file"
    raise UserError(
        f"config.data.path={part}: no file matches {', '.join(patterns)}, it has {has}; set "
        "config.data.pattern or config.data.name"
    )


def saved_splits(path: str) -> dict[str, Path] | None:
    """Return split -> folder of what `datasets` saved, "" for a lone split; None if no folder.

    Raises UserError if the folder holds something else.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return None
    if (folder / "dataset_dict.json").is_file():
        with files.damage(folder / "dataset_dict.json", "save the data set again"):
            names = files.read_json(folder / "dataset_dict.json")["splits"]
            return {str(name): folder / str(name) for name in names}
    if (folder / "state.json").is_file():
        return {"": folder}
    raise UserError(
        f"config.data.path={path}: not a folder that `datasets` saved; save one with "
        "Dataset.save_to_disk, or read its files by config.data.name=parquet or jsonl"
    )


def saved_files(path: str, splits: dict[str, Path], split: str, key: str) -> list[Path]:
    """Return the files of a split. Raises UserError naming config.data.`key` or a missing file."""
    folder = splits.get("") if key == "train_split" and "" in splits else splits.get(split)
    if folder is None:
        names = ", ".join(filter(None, splits)) or "one split without a name"
        raise UserError(f"config.data.{key}={split!r}: {path} has {names}")
    with files.damage(folder / "state.json", "save the data set again"):
        names = files.read_json(folder / "state.json")["_data_files"]
        found = [folder / file["filename"] for file in names]
    for file in found:
        if not file.is_file():
            raise UserError(f"{file}: no such file, but state.json names it; save it again")
    return found


def unreachable(path: str, error: Exception) -> UserError:
    """Return the error of a data set of the hub that cannot be read."""
    return UserError(
        f"config.data.path={path}: no such folder, and the hub gave none "
        f"({one_line(error, 200)}); name a folder that `datasets` saved, or OWNER/NAME[:SUBSET]"
    )
