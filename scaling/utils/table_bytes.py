"""Load the bytes of a table: unpack .gz, .bz2, .xz and .zst, decode text, name what is no table.

The content decides, not the name of the file.
"""

from __future__ import annotations

from pathlib import Path

from scaling.utils import compressed
from scaling.utils.errors import UserError, one_line

PARQUET = b"PAR1"
AS_CSV = "save it as CSV"
# First bytes of files that are no table of text, and the fix
FOREIGN = {
    b"PK\x03\x04": f"a spreadsheet or zip archive; open it and {AS_CSV}",
    b"\xd0\xcf\x11\xe0": f"a spreadsheet of the old kind (.xls); open it and {AS_CSV}",
    b"ARROW1": "an Arrow or Feather file; save it as Parquet or CSV",
    b"\x89HDF": f"an HDF5 file; {AS_CSV}",
    b"SQLite format": f"an SQLite database; {AS_CSV}",
    b"\x93NUMPY": f"a NumPy array; {AS_CSV} with a header",
    b"%PDF": f"a PDF; copy its table and {AS_CSV}",
}


def load(path: Path) -> bytes:
    """Return the file's bytes, unpacked. Raises UserError: missing, unreadable, or no table."""
    packed = ""
    try:
        stream, packed = compressed.opened(path)
        with stream:
            content = stream.read()
    except IsADirectoryError:
        raise UserError(
            f"{path}: a folder; name a file, or a pattern in quotes such as '{path}/*.csv'"
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file") from None
    except compressed.BROKEN as error:
        if packed:
            text = one_line(error, 80)
            raise UserError(f"{path}: damaged {packed} file ({text}); copy it again") from None
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason})") from None
    for first, what in FOREIGN.items():
        if content.startswith(first):
            raise UserError(f"{path}: {what}")
    return content


def decode(content: bytes, path: Path) -> tuple[str, str]:
    """Return (text, the encoding if it is not UTF-8 and worth a line). Raises UserError."""
    for mark, encoding in (
        (b"\xff\xfe\x00\x00", "utf-32"),
        (b"\x00\x00\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if content.startswith(mark):
            return _decoded(content, encoding, path)
    head = content[:4096]
    if b"\x00" in head:  # UTF-16 without its mark: every other byte of ASCII is 0
        even, odd = head[0::2].count(0), head[1::2].count(0)
        if 2 * max(even, odd) > len(head) // 2 and not min(even, odd):
            return _decoded(content, "utf-16-le" if odd else "utf-16-be", path)
        raise UserError(f"{path}: not a table of text (it holds zero bytes); {AS_CSV} in UTF-8")
    try:
        return content.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        # ASCII, so every number, is the same in all encodings of one byte
        return content.decode("latin-1"), "Latin-1"


def _decoded(content: bytes, encoding: str, path: Path) -> tuple[str, str]:
    try:
        return content.decode(encoding).removeprefix("\ufeff"), encoding.upper()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: damaged {encoding.upper()} text ({error.reason}); save it as UTF-8"
        ) from None
