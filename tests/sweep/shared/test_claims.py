"""Test claims with real processes: one winner per name, takeovers of dead and suspended owners."""

from __future__ import annotations

import collections
import json
import os
import signal
import threading
import time

import pytest

from scaling.sweep.shared.claims import Claims
from tests.sweep.claiming import (
    BEAT,
    RACER,
    STALE,
    ask,
    change,
    claims,
    files,
    start,
    take_within,
    write,
)

pytestmark = pytest.mark.usefixtures("all_released")


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
