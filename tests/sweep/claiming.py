"""Processes that take claims, and the files of a claim, for the tests of claims and stores."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from scaling.sweep.shared.claims import Claims
from tests.common import ROOT

BEAT, STALE = 0.1, 1.0

RACER = """
import sys
from scaling.sweep.shared.claims import Claims
claims = Claims(sys.argv[1], heartbeat=5, stale_after=60)
print("ready", flush=True)
sys.stdin.readline()
taken = [claims.take(f"run-{i}", "L") for i in range(200)]
print(*[c.name for c in taken if c], flush=True)
sys.stdin.readline()
"""

OWNER = """
import sys
from scaling.sweep.shared.claims import Claims
claim = Claims(sys.argv[1], heartbeat=0.1, stale_after=1.0).take("run", "L")
print(claim is not None, flush=True)
for line in sys.stdin:
    print(claim.lost(), flush=True)
"""


def claims(folder, stale=STALE) -> Claims:
    return Claims(folder, heartbeat=min(BEAT, stale / 4), stale_after=stale)


def start(code: str, folder) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def ask(process: subprocess.Popen) -> str:
    process.stdin.write("\n")
    return process.stdout.readline().strip()


def take_within(c: Claims, seconds: float, launch: str = "L"):
    """Poll for a claim as an idle worker does; return (claim, seconds that it took)."""
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        if claim := c.take("run", launch):
            return claim, time.monotonic() - begin
        time.sleep(0.02)
    return None, time.monotonic() - begin


def write(folder, number: int, content: bytes, kind: str = "json") -> None:
    (folder / "run").mkdir(exist_ok=True)
    (folder / "run" / f"{number}.{kind}").write_bytes(content)


def files(folder) -> list[str]:
    """Return the files of the claim "run", without the temporary file of a renewal."""
    return sorted(p.name for p in (folder / "run").iterdir() if not p.name.startswith("."))


def change(folder, number: int, **fields) -> bytes:
    """Overwrite some fields of a claim's file, as another machine might write them."""
    path = folder / "run" / f"{number}.json"
    content = json.dumps({**json.loads(path.read_bytes()), **fields}).encode()
    path.write_bytes(content)
    return content
