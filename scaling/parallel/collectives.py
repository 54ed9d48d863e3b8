"""Read the number and sizes of collectives from a compiled program's text (`compiled.as_text()`).

Each has two sizes in bytes per device. With n devices in a group:

  `bytes`  the collective's array: the device's after an all-gather, before a reduce-scatter, and
           before as after an all-reduce, an all-to-all or a collective-permute.
  `sent`   the bytes that each device sends over its link if the group forms a ring, which needs the
           least (Patarasuk & Yuan 2009): bytes (n - 1) / n, twice that for an all-reduce (a
           reduce-scatter, then an all-gather), all of them for a collective-permute.

Both count one optimizer step. The body of a loop counts once per iteration. A loop of unknown
length is the one over the steps of a dispatch, and its body is one step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{\s*$")
_COLLECTIVE = re.compile(rf"%?([\w.-]+) = (.*?) ({'|'.join(KINDS)})(-start)?\(")
_CALLS = re.compile(
    r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.-]+)"
    r"|(?:branch_computations|called_computations|calls)=\{([^}]*)\}"
)
_TYPE = re.compile(r"\b([a-z]+)(\d*)\w*\[([\d,]*)\]")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')


@dataclass(frozen=True)
class Collective:
    """One collective of the program's text."""

    kind: str  # one of KINDS
    name: str  # in the text
    source: str  # the operation of the model that it comes from, "" if the text names none
    bytes: float  # of one of its calls, per device; see above
    group: int  # n
    times: float  # calls per optimizer step

    @property
    def sent(self) -> float:
        """Bytes of one call that a device sends in a ring."""
        if self.kind == "collective-permute":
            return self.bytes
        passes = 2 if self.kind == "all-reduce" else 1
        return passes * self.bytes * (self.group - 1) / self.group


@dataclass(frozen=True)
class Total:
    """All collectives of one kind, per device and optimizer step."""

    count: float
    bytes: float
    sent: float


def totals(collectives: Iterable[Collective]) -> dict[str, Total]:
    """kind -> its total, in the order of `KINDS`, without kinds that do not occur."""
    sums: dict[str, list[float]] = {}
    for c in collectives:
        row = sums.setdefault(c.kind, [0.0, 0.0, 0.0])
        for i, value in enumerate((1.0, c.bytes, c.sent)):
            row[i] += c.times * value
    return {kind: Total(*sums[kind]) for kind in KINDS if kind in sums}


def read(text: str, steps: int = 1) -> list[Collective]:
    """Return the collectives of a program whose loop, if any, runs over `steps` optimizer steps.

    Collectives outside of that loop count 1 / steps. Groups of one device are left out. Raises
    ValueError if a collective lies in a loop of unknown length within a step.
    """
    computations, entry = _computations(text)
    devices = _header(text, "replica_count") * _header(text, "num_partitions")
    collectives: list[Collective] = []

    def visit(name: str, times: float, in_step: bool) -> None:
        for line in computations[name]:
            one = _collective(line, devices)
            if one is not None and one.group > 1:
                collectives.append(replace(one, times=times))
            iterations, called = _called(line)
            for inner in called:
                if iterations is not None:
                    visit(inner, times * iterations, in_step)
                elif not in_step:
                    visit(inner, times * steps, True)
                elif _holds_collectives(inner, computations):
                    raise ValueError(f"a loop of unknown length within a step: {line[:200]}")

    visit(entry, 1 / steps, False)
    return collectives


def inner_loops(text: str) -> int:
    """Return the length of the longest loop of known length, 1 without loops.

    The compiler's own count of FLOPs takes each of their bodies once.
    """
    return max(map(int, _TRIPS.findall(text)), default=1)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """(name -> its lines, name of the entry)."""
    computations: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            lines = computations[match[2]] = []
            entry = match[2] if match[1] else entry
        elif " = " in line:
            lines.append(line)
    if not entry:
        raise ValueError("the program's text has no entry")
    return computations, entry


def _called(line: str) -> tuple[int | None, list[str]]:
    """(iterations, computations that the instruction runs); None for a loop of unknown length."""
    if re.search(r"-(done|update)\(", line):  # their start has named the computations already
        return 1, []
    names = [
        name.strip().lstrip("%")
        for one, several in _CALLS.findall(line)
        for name in (several.split(",") if several else [one])
    ]
    if " while(" not in line:
        return 1, names
    trips = _TRIPS.search(line)
    return int(trips[1]) if trips else None, names


def _holds_collectives(name: str, computations: Mapping[str, list[str]]) -> bool:
    return any(
        _COLLECTIVE.search(line)
        or any(_holds_collectives(inner, computations) for inner in _called(line)[1])
        for line in computations[name]
    )


def _collective(line: str, devices: int) -> Collective | None:
    match = _COLLECTIVE.search(line)
    if match is None:
        return None
    name, kind = match[1], match[3]
    group = 2 if kind == "collective-permute" else _group(line, devices)
    n_bytes = float(sum(_sizes(_result(match[2], kind, started=bool(match[4])))))
    if kind == "reduce-scatter":
        n_bytes *= group
    source = re.search(r'op_name="([^"]*)"', line)
    return Collective(kind, name, source[1] if source else "", n_bytes, group, 1.0)


def _result(types: str, kind: str, started: bool) -> str:
    """Return the result in an instruction's type. Two kinds have (operands, results, ...)."""
    if not started or kind not in ("all-gather", "collective-permute"):
        return types
    parts, depth, begin = [], 0, 1
    for i, letter in enumerate(types):
        depth += (letter in "([{") - (letter in ")]}")
        if (letter == "," and depth == 1) or (letter == ")" and depth == 0):
            parts.append(types[begin:i])
            begin = i + 1
    return parts[1]


def _sizes(types: str) -> Iterator[float]:
    """Return the bytes of each array of a type: "f32[8,32]{1,0}", or a tuple of them."""
    for letters, bits, shape in _TYPE.findall(types):
        size = 1 if letters == "pred" else int(bits or 0) / 8  # tokens have none
        for length in filter(None, shape.split(",")):
            size *= int(length)
        yield size


def _group(line: str, devices: int) -> int:
    """Return the number of devices of a group.

    Texts write groups in three ways: {{0,1},{2,3}}, [2,2]<=[4], and by the axes of a mesh,
    mesh['a'=2,'b'=2] {'b'} or {'b':(1)2} for a part of an axis.
    """
    _, _, groups = line.partition("replica_groups=")
    if match := re.match(r"\{\{([\d,]*)\}", groups):
        return len(match[1].split(","))
    if match := re.match(r"\[\d+,(\d+)\]<=", groups):
        return int(match[1])
    if match := re.match(r"mesh\[([^\]]*)\].*?\{([^}]*)\}", groups):
        axes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
        size = 1
        for axis, part in re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", match[2]):
            size *= int(part or axes[axis])
        return size
    if groups.startswith("{}"):
        return devices
    raise ValueError(f"cannot read the groups of devices in: {line[:300]}")


def _header(text: str, name: str) -> int:
    match = re.search(rf"\b{name}=(\d+)", text.split("\n", 1)[0])
    return int(match[1]) if match else 1
