"""Test claims with real processes: one winner per name, takeovers of dead and suspended owners."""

from __future__ import annotations

import collections
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid

import pytest

from scaling.sweep.shared import storage
from scaling.sweep.shared.claims import Claims
from scaling.utils.errors import UserError
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


@pytest.fixture(autouse=True)
def all_released(monkeypatch):
    """Stop all renewals at the end of a test."""
    taken, take = [], Claims.take
    monkeypatch.setattr(Claims, "take", lambda *args: taken.append(take(*args)) or taken[-1])
    yield
    for claim in filter(None, taken):
        claim.release()


@pytest.fixture
def owner(tmp_path):
    """Start a process that holds the claim "run" and answers each line with `lost()`."""
    process = start(OWNER, tmp_path)
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()


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


def test_eight_processes_take_each_of_200_names_once(tmp_path):
    racers = [start(RACER, tmp_path) for _ in range(8)]
    try:
        assert [r.stdout.readline() for r in racers] == ["ready\n"] * 8
        for racer in racers:
            racer.stdin.write("\n")
        taken = [name for racer in racers for name in racer.stdout.readline().split()]
        assert sorted(taken) == sorted(f"run-{i}" for i in range(200))
        assert len(claims(tmp_path).holders()) == 200
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


def test_threads_taking_and_releasing_never_hold_the_same_job(tmp_path):
    holding, seen, end = collections.Counter(), [], time.monotonic() + 20

    def work():
        c = claims(tmp_path, stale=30)
        while len(seen) < 200 and time.monotonic() < end:
            for name in ("a", "b"):
                if claim := c.take(name, "L"):
                    holding[name] += 1
                    seen.append((holding[name], claim.attempts))
                    time.sleep(0.001)
                    holding[name] -= 1
                    claim.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) >= 200 and set(seen) == {(1, 0)}
    # old generations are deleted
    assert len(list((tmp_path / "a").iterdir())) <= 4


def test_a_claim_is_released_by_its_block_and_by_an_exception(tmp_path):
    c = claims(tmp_path)
    with c.take("run", "L") as first:
        assert first.name == "run" and c.take("run", "L") is None
        assert set(c.holders()) == {"run"}
    assert c.holders() == {}
    with pytest.raises(ZeroDivisionError), c.take("run", "L"):
        1 / 0  # noqa: B018
    again = c.take("run", "L")
    assert again.attempts == 0
    first.release()  # released before: must not free the new claim
    assert c.take("run", "L") is None and not again.lost()


def test_a_killed_owner_is_replaced_at_once_on_its_machine(tmp_path, owner):
    c = Claims(tmp_path, heartbeat=5, stale_after=60)
    assert c.take("run", "L") is None and c.holders()["run"].alive
    owner.kill()  # without wait(): a zombie counts as dead
    while c.holders()["run"].alive:
        time.sleep(0.01)
    claim, seconds = take_within(c, 5)
    assert claim and claim.attempts == 1, f"long before the claim is stale, after {seconds} s"


def test_attempts_count_dead_workers_of_this_launch_only(tmp_path):
    for expected, launch in ((0, "A"), (1, "A"), (2, "A"), (0, "B"), (1, "B")):
        c = claims(tmp_path)
        claim, _ = take_within(c, 5, launch)
        assert claim.attempts == expected
        claim.ended = True  # as if this process had died: no renewal and no release
        number = max(int(p.stem) for p in (tmp_path / "run").glob("*.json"))
        change(tmp_path, number, pid=2**22 + 1)  # above the largest pid of Linux
    claim = c.take("run", "B")
    assert claim.attempts == 2
    claim.release()
    assert c.take("run", "B").attempts == 0


def test_deaths_before_progress_are_forgiven(tmp_path, owner):
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    claim = claims(tmp_path).take("run", "L")
    assert claim and claim.attempts == 1
    claim.forgive()
    assert claim.attempts == 0 and claims(tmp_path).holders()["run"].attempts == 0


def test_a_reused_pid_is_not_the_owner(tmp_path, owner):
    content = json.loads((tmp_path / "run" / "1.json").read_bytes())
    owner.send_signal(signal.SIGSTOP)  # else it would write the right number again
    change(tmp_path, 1, started=content["started"] + 1)
    assert claims(tmp_path, stale=60).take("run", "L").attempts == 1


def test_a_suspended_owner_is_replaced_and_notices(tmp_path, owner):
    c = claims(tmp_path)
    assert ask(owner) == "False" and c.take("run", "L") is None
    owner.send_signal(signal.SIGSTOP)
    claim, seconds = take_within(c, 10)
    assert claim and seconds >= STALE - BEAT and claim.attempts == 1
    owner.send_signal(signal.SIGCONT)
    assert ask(owner) == "True"
    time.sleep(3 * BEAT)
    assert not claim.lost() and ask(owner) == "True"
    assert files(tmp_path) == ["1.json", "2.json"]


def test_an_owner_sees_its_successor_at_its_next_renewal(tmp_path):
    claim = Claims(tmp_path, heartbeat=20, stale_after=60).take("run", "L")
    write(tmp_path, 2, b"{}")
    assert not claim.confirm() and claim.lost()
    claim.release()
    assert not (tmp_path / "run" / "1.free").exists()


def test_a_suspended_owner_without_successor_continues(tmp_path, owner):
    owner.send_signal(signal.SIGSTOP)
    time.sleep(1.5 * STALE)
    owner.send_signal(signal.SIGCONT)
    assert ask(owner) == "False"
    assert claims(tmp_path).take("run", "L") is None


def test_a_foreign_owner_is_judged_by_its_renewals_not_by_its_clock(tmp_path):
    first = claims(tmp_path).take("run", "L")
    first.ended = True
    c = claims(tmp_path)
    for beat in range(8):  # its clock is a year behind and its pid unknown here, but it renews
        change(tmp_path, 1, host="elsewhere", pid=2**22 + 1, beat=beat, time=time.time() - 3e7)
        assert c.take("run", "L") is None
        time.sleep(STALE / 4)
    claim, _ = take_within(c, 5)
    assert claim and claim.attempts == 1


def test_a_stale_owner_that_renews_during_the_take_over_keeps_its_job(tmp_path, monkeypatch):
    first = claims(tmp_path, stale=0.4).take("run", "L")
    first.ended = True
    change(tmp_path, 1, host="elsewhere")
    c = claims(tmp_path, stale=0.4)
    assert c.take("run", "L") is None
    time.sleep(0.5)
    create = c.generations.storage.create

    def slow_create(key, content):
        made = create(key, content)
        change(tmp_path, 1, beat=99)  # the owner resumes at the worst moment
        return made

    monkeypatch.setattr(c.generations.storage, "create", slow_create)
    assert c.take("run", "L") is None
    assert files(tmp_path) == ["1.json"]


def test_a_slow_observer_of_an_old_generation_takes_nothing(tmp_path, monkeypatch):
    slow, fast = claims(tmp_path), claims(tmp_path)
    fast.take("run", "L").release()
    create = slow.generations.storage.create

    def late_create(key, content):
        for _ in (2, 3):  # generation 4 deletes 2 before `slow` creates it
            fast.take("run", "L").release()
        holder = fast.take("run", "L")
        assert files(tmp_path) == ["3.free", "4.json"]
        made.append(holder)
        return create(key, content)

    made = []
    monkeypatch.setattr(slow.generations.storage, "create", late_create)
    assert slow.take("run", "L") is None
    made[0].confirm()
    assert not made[0].lost()
    assert files(tmp_path) == ["3.free", "4.json"]


@pytest.mark.parametrize(
    "content",
    [b"", b'{"token": "a", "la', b"[]", b"\xff\xfe", b'{"pid": "seven"}', b"null"],
    ids=["empty", "torn", "list", "bytes", "types", "null"],
)
def test_a_damaged_claim_is_waited_for_then_replaced(tmp_path, content):
    write(tmp_path, 7, content)
    c = claims(tmp_path, stale=0.3)
    assert not c.holders()["run"].alive
    claim, seconds = take_within(c, 5)
    assert claim and seconds >= 0.3 and claim.attempts == 0
    assert files(tmp_path) == ["7.json", "8.json"]


def test_unreadable_claims_and_foreign_files_block_no_worker(tmp_path):
    (tmp_path / "run" / "2.json").mkdir(parents=True)  # unreadable for root too
    (tmp_path / "note.txt").write_text("not a job")
    write(tmp_path, 0, b"{}")
    (tmp_path / "run" / "9.json.bak").write_text("{}")
    c = claims(tmp_path, stale=0.3)
    assert set(c.holders()) == {"run"}
    claim, _ = take_within(c, 5)
    assert claim and set(c.holders()) == {"run"} and c.holders()["run"].alive


def test_unknown_fields_of_a_newer_version_are_ignored(tmp_path, owner):
    owner.send_signal(signal.SIGSTOP)
    change(tmp_path, 1, colour="blue", host="elsewhere")
    assert claims(tmp_path).holders()["run"].host == "elsewhere"


def test_an_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "claims").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="no claim can be written") as error:
        claims(tmp_path / "claims").take("run", "L")
    assert "\n" not in str(error.value) and str(tmp_path / "claims") in str(error.value)


def test_an_owner_that_cannot_write_loses_the_claim_after_stale_after(
    tmp_path, monkeypatch, caplog
):
    begin = time.monotonic()
    claim = claims(tmp_path).take("run", "L")

    def full(key, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(claim._claims.generations.storage, "replace", full)
    while not claim.lost():
        time.sleep(0.02)
    assert time.monotonic() - begin >= STALE - 2 * BEAT
    assert "No space left" in caplog.text
    monkeypatch.undo()
    assert claim.lost()  # lost stays lost


def test_writes_that_fail_briefly_are_retried(tmp_path, monkeypatch):
    claim, c = claims(tmp_path, stale=20).take("run", "L"), claims(tmp_path, stale=20)
    replace, failures = claim._claims.generations.storage.replace, iter(range(4))

    def now_and_then(key, content):
        if next(failures, None) is not None:
            raise OSError(116, "Stale file handle")
        replace(key, content)

    monkeypatch.setattr(claim._claims.generations.storage, "replace", now_and_then)
    end = time.monotonic() + 2 * STALE
    while time.monotonic() < end:
        assert not claim.lost() and c.take("run", "L") is None
        time.sleep(0.05)
    assert next(failures, None) is None


def test_claims_work_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    c = claims(tmp_path)
    claim = c.take("run", "L")
    assert claim and c.take("run", "L") is None
    claim.release()
    assert c.take("run", "L")


def test_a_lost_answer_is_still_a_win(tmp_path, monkeypatch):
    c = claims(tmp_path)
    create = c.generations.storage.create
    monkeypatch.setattr(
        c.generations.storage, "create", lambda key, content: create(key, content) and False
    )
    assert c.take("run", "L")


def test_released_claims_cost_only_the_listing(tmp_path, monkeypatch):
    live = claims(tmp_path)
    held = [live.take(f"live-{i}", "L") for i in range(3)]
    for i in range(1000):
        (tmp_path / f"run-{i}").mkdir()
        (tmp_path / f"run-{i}" / "1.free").touch()
    read, reads = live.generations.read, []
    monkeypatch.setattr(live.generations, "read", lambda *key: reads.append(key) or read(*key))
    assert set(live.holders()) == {c.name for c in held}
    assert sorted(reads) == sorted((c.name, 1) for c in held)
    assert len(storage.FolderStorage(tmp_path).list()) == 1003


@pytest.mark.parametrize("heartbeat,stale", [(0, 1), (1, 2), (-1, -5)])
def test_impossible_intervals_are_named(tmp_path, heartbeat, stale):
    with pytest.raises(UserError, match=r"launch\.stale_seconds"):
        Claims(tmp_path, heartbeat=heartbeat, stale_after=stale)


def test_names_that_leave_the_folder_are_refused(tmp_path):
    for name in ("", "..", "a/b", ".hidden", uuid.uuid4().hex + "\n"):
        with pytest.raises(ValueError, match="cannot name"):
            claims(tmp_path).take(name, "L")
