"""Encode scalars as TensorBoard's event files, so that training imports no TensorBoard package.

(tensorboardX imports torch and boto3 if they are installed, which takes seconds.)

A file is records of [length, its CRC, an Event message, its CRC]. Messages are in protobuf's wire
format: https://protobuf.dev/programming-guides/encoding, with the field numbers of TensorFlow's
event.proto and summary.proto.
"""

from __future__ import annotations

import struct

VERSION = "brain.Event:2"
DOUBLE, BYTES, FLOAT = 1, 2, 5  # wire types; 0 is a variable-length integer


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = _crc_table()  # CRC-32C (Castagnoli), bits reversed


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated by 15 bits and offset, as in TensorFlow's records."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(event: bytes) -> bytes:
    """Frame an Event message."""
    length = struct.pack("<Q", len(event))
    return b"".join(
        (length, struct.pack("<I", masked_crc(length)), event, struct.pack("<I", masked_crc(event)))
    )


def first(time: float) -> bytes:
    """Return the first Event of a file."""
    return _double(1, time) + _bytes(3, VERSION.encode())


def scalar(time: float, step: int, name: str, value: float) -> bytes:
    """Return an Event of one named value, stored as float32."""
    point = _bytes(1, name.encode()) + _key(2, FLOAT) + struct.pack("<f", value)
    return _double(1, time) + _key(2, 0) + _integer(step) + _bytes(5, _bytes(1, point))


def _key(field: int, wire_type: int) -> bytes:
    return _integer(field << 3 | wire_type)


def _integer(value: int) -> bytes:
    """Encode an integer of at least 0: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _double(field: int, value: float) -> bytes:
    return _key(field, DOUBLE) + struct.pack("<d", value)


def _bytes(field: int, content: bytes) -> bytes:
    return _key(field, BYTES) + _integer(len(content)) + content
