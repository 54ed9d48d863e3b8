"""Read English text from four Debian packages: `debian/english`, about 100 MB, or one by name.

  dict-gcide      Collaborative International Dictionary of English, a document per entry (GPL-2+)
  linux-doc       the kernel's documentation, a document per .rst or .txt file (GPL-2)
  anarchism       "An Anarchist FAQ", a document per page of Markdown (GPL-2+)
  wordnet-base    words and definitions, a document per set of synonyms (WordNet licence)

Files stay compressed as Debian ships them. The dictionary quotes WordNet in some entries, which
config.data.dedupe='near' finds.
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
    """A Debian package of text."""

    apt: str  # its name for apt
    glob: str  # its files below /usr/share
    documents: Callable[[str], Iterator[str]]  # splits the text of one file


def entries(text: str) -> Iterator[str]:
    """Yield dictionary entries: text after a blank line that is not indented."""
    yield from re.split(r"\n\n+(?=\S)", text)


def page(text: str) -> Iterator[str]:
    """Yield the whole text as one document."""
    yield text


def definitions(text: str) -> Iterator[str]:
    """Yield `word, word: definition; "example"` of each set of synonyms, without its pointers.

    The format is that of wndb(5).
    """
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
SUFFIXES = (".dz", ".rst", ".txt", ".md", ".noun", ".verb", ".adj", ".adv")  # without .gz


class DebianText:
    """The documents of `name`, one of NAMES, below `root`: "/", or the target of `dpkg -x`.

    Raises UserError with the command that installs a package if it is missing.
    """

    def __init__(self, name: str, root: str = ""):
        packages = PACKAGES.values() if name == ALL else [PACKAGES[name.removeprefix(PREFIX)]]
        share = Path(root or "/").expanduser() / "usr" / "share"
        self.parts = [(package, _files(share, package)) for package in packages]
        if missing := [package.apt for package, files in self.parts if not files]:
            raise UserError(
                f"config.data.name={name!r}: {share} has no files of {', '.join(missing)}; "
                f"`apt-get install --no-install-recommends {' '.join(missing)}`, or `dpkg -x` the "
                "packages and set config.data.path to the folder"
            )

    @property
    def files(self) -> list[Path]:
        """All files of the packages."""
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
    """Return the text of a file, with invalid UTF-8 (a few bytes of the dictionary) replaced."""
    raw = file.read_bytes()
    try:
        content = gzip.decompress(raw) if file.suffix in (".gz", ".dz") else raw
    except (OSError, EOFError) as error:
        raise UserError(f"{file}: damaged ({error}); install its package again") from error
    return content.decode("utf-8", errors="replace")
