"""Event files written by hand are what tensorboardX writes and reads."""

from __future__ import annotations

import math

import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

from scaling.training import event_file


@pytest.mark.parametrize("content", [b"", b"\0", b"123456789", bytes(range(256)) * 3])
def test_checksums_are_those_of_records(content):
    assert event_file.masked_crc(content) == masked_crc32c(content)


@pytest.mark.parametrize("step", [0, 1, 127, 128, 300, 2**40])
@pytest.mark.parametrize("value", [2.5, -1e-8, 1e38, math.inf, math.nan])
def test_scalars_are_the_same_messages(step, value):
    name = "speed/tokens_per_second" * 9  # longer than one byte of length can say
    ours = event_pb2.Event.FromString(event_file.scalar(1e9 + 0.5, step, name, value))
    theirs = event_pb2.Event(wall_time=1e9 + 0.5, step=step, summary=scalar(name, value))
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )


def test_a_file_begins_with_its_version():
    first = event_pb2.Event.FromString(event_file.first(5.0))
    assert first.file_version == "brain.Event:2" and first.wall_time == 5.0
