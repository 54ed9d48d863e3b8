"""English text out of four Debian packages, about 100 MB once they are unpacked: `debian/english`, or one of them by name.

  dict-gcide      the Collaborative International Dictionary of English, one document per entry (GPL-2+)
  linux-doc       the kernel's documentation, one document per .rst or .txt file (GPL-2)
  anarchism       "An Anarchist FAQ", one document per page of Markdown (GPL-2+)
  wordnet-base    words and definitions, one document per set of synonyms (WordNet licence)

Files stay compressed as Debian ships them. The dictionary quotes WordNet here and there: config.data.dedupe='near' finds it.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scaling.utils.errors import UserError


@dataclass(frozen=True)
class Package:
    """What apt calls it, its files below /usr/share, and the documents of the text of one of them."""

    apt: str
    glob: str
    documents: Callable[[str], Iterator[str]]


def entries(text: str) -> Iterator[str]:
    """Dictionary entries: what follows a blank line and is not indented."""
    yield from re.split(r"\n\n+(?=\S)", text)


def page(text: str) -> Iterator[str]:
    yield text


def definitions(text: str) -> Iterator[str]:
    """`word, word: definition; "example"` of each set of synonyms; its pointers to others are left out (wndb(5))."""
    for line in text.splitlines():
        if line.startswith(" "):  # the licence
            continue
        fields, _, gloss = line.partition(" | ")
        _, _, _, count, *rest = fields.split(" ")
        words = rest[: 2 * int(count, 16) : 2]
        yield f"{', '.join(w.replace('_', ' ') for w in words)}: {gloss.strip()}"


PACKAGES = {
    "dict-gcide": Package("dict-gcide", "dictd/gcide.dict.dz", entries),
    "linux-doc": Package("linux-doc-6.1", "doc/linux-doc-*/Documentation/**/*", page),
    "anarchism": Package("anarchism", "doc/anarchism/markdown/*.md.gz", page),
    "wordnet-base": Package("wordnet-base", "wordnet/data.*", definitions),
}
PREFIX, ALL = "debian/", "debian/english"
NAMES = (ALL, *(PREFIX + name for name in PACKAGES))
SUFFIXES = (".dz", ".rst", ".txt", ".md", ".noun", ".verb", ".adj", ".adv")  # less .gz


class DebianText:
    """The documents of `name`, one of NAMES, below `root`: "/", or where `dpkg -x` put the packages.

    Raises UserError where a package is missing, with the command that brings it.
    """

    def __init__(self, name: str, root: str = ""):
        chosen = (
            PACKAGES
            if name == ALL
            else {name.removeprefix(PREFIX): PACKAGES[name.removeprefix(PREFIX)]}
        )
        share = Path(root or "/").expanduser() / "usr" / "share"
        self.parts = [(package, _files(share, package)) for package in chosen.values()]
        if missing := [package.apt for package, files in self.parts if not files]:
            raise UserError(
                f"config.data.name={name!r}: below {share} there is nothing of {', '.join(missing)}; "
                f"`apt-get install --no-install-recommends {' '.join(missing)}`, or `dpkg -x` the packages and "
                "name the folder in config.data.path"
            )

    @property
    def files(self) -> list[Path]:
        return [file for _, files in self.parts for file in files]

    def __iter__(self) -> Iterator[str]:
        for package, files in self.parts:
            for file in files:
                yield from (d for d in package.documents(_text(file)) if d.strip())


def _files(share: Path, package: Package) -> list[Path]:
    return sorted(
        file
        for file in share.glob(package.glob)
        if Path(file.name.removesuffix(".gz")).suffix in SUFFIXES and file.is_file()
    )


def _text(file: Path) -> str:
    """What is not UTF-8 (a few bytes of the dictionary) is replaced."""
    raw = file.read_bytes()
    try:
        content = gzip.decompress(raw) if file.suffix in (".gz", ".dz") else raw
    except (OSError, EOFError) as error:
        raise UserError(f"{file}: damaged ({error}); install its package again") from error
    return content.decode("utf-8", errors="replace")
