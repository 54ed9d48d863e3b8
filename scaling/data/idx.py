"""Read gzipped files in the IDX format of MNIST (LeCun et al. 1998): dimensions, then uint8."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from scaling.utils.errors import UserError

UINT8 = 0x08


def read(path: Path) -> np.ndarray:
    """Return the uint8 array of a gzipped IDX file. Raises UserError if it is damaged."""
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a whole gzip file ({error}); install it again") from error
    if len(raw) < 4 or raw[:3] != bytes((0, 0, UINT8)):
        raise UserError(f"{path}: not an IDX file of bytes, it begins {raw[:4].hex()}")
    dims = raw[3]
    start = 4 + 4 * dims
    shape = struct.unpack(f">{dims}I", raw[4:start]) if len(raw) >= start else ()
    if len(raw) - start != np.prod(shape, dtype=np.int64):
        raise UserError(f"{path}: {len(raw) - start} bytes of data, but its header says {shape}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
