"""The collectives of compiled programs, against bytes counted by hand, strategy by strategy.

Letters: L blocks, D width, F MLP width, V vocabulary, B batch, T context; fp32, 4 bytes a number.
"""

from __future__ import annotations

import pytest

from scaling.parallel import collectives
from scaling.parallel.collectives import Collective, Total

L, D, F, V, B, T = 2, 64, 128, 256, 8, 48
MATRICES = 4 * D * D + 2 * D * F  # of one block
SCALES = (2 * L + 1) * D
EMBEDDING = V * D  # and as many in the head
SMALL = 1000  # bytes of losses, norms and counters


def each(program) -> list[Collective]:
    return [Collective(**c) for c in program["collectives"]]


def totals(program) -> dict[str, Total]:
    return collectives.totals(each(program))


def largest(program, kind: str) -> float:
    return max((c.bytes for c in each(program) if c.kind == kind), default=0.0)


# ---- reading a program's text


def test_each_kind_in_nested_loops_is_counted_with_its_bytes(eight):
    found = collectives.totals(collectives.read(eight["every kind"]))
    assert found == {
        "all-gather": Total(3, 3 * 8 * 16 * 4, 3 * 8 * 16 * 4 * 3 / 4),
        "reduce-scatter": Total(3, 3 * 8 * 16 * 4, 3 * 8 * 16 * 4 * 3 / 4),
        "all-reduce": Total(1, 2 * 16 * 4, 2 * 2 * 16 * 4 / 2),
        "all-to-all": Total(3, 3 * 2 * 16 * 4, 3 * 2 * 16 * 4 / 2),
        "collective-permute": Total(3, 3 * 2 * 16 * 4, 3 * 2 * 16 * 4),
    }
    assert list(found) == list(collectives.KINDS)


TEXT = """HloModule jit_train, is_scheduled=true, num_partitions=8

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%wrapped (p: f32[16]) -> f32[2] {
  ROOT %rs = f32[2]{0} reduce-scatter(%p), replica_groups=[1,8]<=[8], dimensions={0}, to_apply=%add
}

%step (p: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %ag = (bf16[4,8]{1,0:T(8,128)(2,1)}, bf16[16,8]{1,0:T(8,128)(2,1)}) all-gather-start(%x), \
replica_groups=mesh['i'=2,'j'=4] {'j'}, dimensions={0}
  %agd = bf16[16,8]{1,0} all-gather-done(%ag), metadata={op_name="all-gather(not one)"}
  %part = pred[8]{0} all-reduce(%y), \
replica_groups=mesh['i'=8], device_ids=([2,4]T(1,0)) {'i':(2)2}, to_apply=%add
  %alone = f32[1000]{0} all-reduce(%y), \
replica_groups={{0},{1},{2},{3},{4},{5},{6},{7}}, to_apply=%add
  %rs = ((f32[16]), f32[2]) async-start(%z), calls=%wrapped
  %rsd = f32[2] async-done(%rs), calls=%wrapped
  ROOT %t = (s32[], bf16[4,8]) tuple(%i, %w)
}

%condition (p: (s32[], bf16[4,8])) -> pred[] {
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (p: bf16[4,8]) -> bf16[4,8] {
  %once = (f32[4]{0}, s32[]) all-reduce(%a, /*index=1*/%b), replica_groups={}, to_apply=%add
  ROOT %w = (s32[], bf16[4,8]) while(%t), condition=%condition, body=%step
}
"""


def test_texts_of_other_backends_are_read():
    """Groups in all notations or of one device, started and wrapped collectives, no loop."""
    found = {c.name: c for c in collectives.read(TEXT, steps=16)}
    sizes = {name: (c.kind, c.bytes, c.group, c.times) for name, c in found.items()}
    assert sizes == {
        "ag": ("all-gather", 16 * 8 * 2, 4, 1),
        "part": ("all-reduce", 8, 2, 1),
        "rs": ("reduce-scatter", 16 * 4, 8, 1),
        "once": ("all-reduce", 20, 8, 1 / 16),
    }
    assert found["part"].sent == 8 and found["rs"].sent == 64 * 7 / 8
    twice = TEXT.replace("%lt = pred[]", "%w = pred[] while(%t), body=%inner, condition=%condition")
    twice += "\n%inner (p: f32[]) -> f32[] {\n  %x = f32[4] all-reduce(%p), "
    twice += "replica_groups={}, to_apply=%add\n}\n"
    collectives.read(twice)  # a condition is not looked into
    nested = twice.replace("%rsd = f32[2] async-done(%rs)", "%deep = f32[] while(%t), body=%inner")
    with pytest.raises(ValueError, match=r"loop of unknown length within a step.*deep"):
        collectives.read(nested)
    with pytest.raises(ValueError, match="cannot read the groups"):
        collectives.read(TEXT.replace("replica_groups={}", "replica_groups=?"))


# ---- strategies, per device and step


@pytest.mark.parametrize("program", ["dp", "dp, accumulate 2"])
def test_data_parallel_sends_the_gradients_once_and_nothing_else(eight, program):
    found = totals(eight[program])
    assert set(found) == {"all-reduce"}
    gradients = 4 * (L * MATRICES + SCALES + 2 * EMBEDDING)
    assert gradients <= found["all-reduce"].bytes <= gradients + SMALL


def test_fsdp_gathers_each_weight_and_reduces_each_gradient(eight):
    """Backward passes use the gathered weights of the forward pass; norms gather for both."""
    found = totals(eight["fsdp"])
    assert set(found) <= {"all-gather", "reduce-scatter", "all-reduce"}
    weights = 4 * (L * MATRICES + 2 * EMBEDDING + SCALES)
    assert weights <= found["all-gather"].bytes <= weights + 4 * SCALES
    reduced = sum(found[kind].bytes for kind in ("reduce-scatter", "all-reduce") if kind in found)
    assert weights <= reduced <= weights + SMALL
    assert largest(eight["fsdp"], "all-gather") == 4 * EMBEDDING, "activations are gathered"


def test_a_split_sequence_gathers_keys_and_values_and_no_other_activation(eight):
    """Gradients are reduced; each device lacks one token of its neighbour's, the last target."""
    program = eight["fsdp x sequence"]
    found = totals(program)
    assert set(found) <= {"all-gather", "reduce-scatter", "all-reduce", "collective-permute"}
    k_BTHK = 4 * B // 2 * T * D  # bytes of the keys of a device's sequences
    gathered = [c for c in each(program) if c.kind == "all-gather" and c.group == 4]
    assert [c.bytes for c in gathered] == [k_BTHK] * (2 * L)
    weights = 4 * (L * MATRICES + 2 * EMBEDDING + SCALES)
    assert weights <= found["all-gather"].bytes - 2 * L * k_BTHK <= weights + 4 * SCALES
    reduced = sum(found[kind].bytes for kind in ("reduce-scatter", "all-reduce") if kind in found)
    # a gradient is summed over positions, then over rows
    assert weights + 2 * L * k_BTHK <= reduced <= 2 * weights + 2 * L * k_BTHK + SMALL
    assert found["collective-permute"].bytes <= B * T


def test_fsdp_with_remat_gathers_weights_again_for_the_backward_pass(eight):
    depth = 3  # scanned: the loop over blocks multiplies
    found = totals(eight["fsdp, remat"])
    weights = 4 * (2 * depth * MATRICES + 2 * EMBEDDING)
    assert weights <= found["all-gather"].bytes <= weights + 3 * 4 * (2 * depth + 1) * D
    assert largest(eight["fsdp, remat"], "all-gather") <= 4 * EMBEDDING


def test_tensor_parallel_reduces_activations_twice_per_block_and_direction(eight):
    """And once each for the embedding's look-up and the head's input gradient; its data axis
    reduces the gradients of a quarter of the weights."""
    program = eight["tensor"]
    found = totals(program)
    assert set(found) <= {"all-reduce", "all-gather", "reduce-scatter"}
    x_BTD, per_token = 4 * B // 2 * T * D, 4 * B // 2 * T
    groups = {n: sum(c.times * c.bytes for c in each(program) if c.group == n) for n in (2, 4)}
    among_tensor = (4 * L + 2) * x_BTD
    assert among_tensor <= groups[4] <= among_tensor + 3 * per_token + SMALL
    gradients = L * MATRICES + 2 * EMBEDDING + 4 * SCALES
    assert gradients <= groups[2] <= gradients + SMALL
    assert largest(program, "all-gather") == 0


def test_fsdp_and_tensor_each_send_their_part(eight):
    program = eight["fsdp x tensor"]
    x_BTD = 4 * B // 4 * T * D
    among_tensor = [c for c in each(program) if c.group == 2 and c.bytes == x_BTD]
    assert 4 * L <= sum(c.times for c in among_tensor if c.kind == "all-reduce") <= 4 * L + 3
    weights = 2 * (L * MATRICES + 2 * EMBEDDING)  # a half of each, 4 bytes
    among_fsdp = [c for c in each(program) if c.kind == "all-gather" and c.group == 4]
    gathered = sum(c.times * c.bytes for c in among_fsdp)
    assert weights <= gathered <= weights + 2 * 4 * SCALES
    assert largest(program, "all-gather") <= 2 * EMBEDDING


def test_sequence_parallel_gathers_keys_and_values_and_no_other_activations(eight):
    program = eight["fsdp x sequence"]
    x_BTD = 4 * B // 2 * T * D  # all positions of a device's sequences
    gathered = [c for c in each(program) if c.kind == "all-gather"]
    along_sequence = [c.bytes for c in gathered if c.group == 4]
    assert along_sequence == [x_BTD] * 2 * L
    weights = 4 * (L * MATRICES + 2 * EMBEDDING)
    along_fsdp = sum(c.times * c.bytes for c in gathered if c.group == 2)
    assert weights <= along_fsdp <= weights + 2 * 4 * SCALES
    assert len(gathered) == len(along_sequence) + sum(c.group == 2 for c in gathered)
