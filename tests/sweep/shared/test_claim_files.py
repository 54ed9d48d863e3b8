"""Test damaged claim files, full disks, and what claims cost."""

from __future__ import annotations

import os
import signal
import time
import uuid

import pytest

from scaling.sweep.shared import storage
from scaling.sweep.shared.claims import Claims
from scaling.utils.errors import UserError
from tests.sweep.claiming import BEAT, STALE, change, claims, files, take_within, write

pytestmark = pytest.mark.usefixtures("all_released")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"token": "a", "la',
        b"[]",
        b"\xff\xfe",
        b'{"pid": "seven"}',
        b"null",
        b"[" * 100_000,
        b'{"pid": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "torn", "list", "bytes", "types", "null", "brackets", "huge"],
)
def test_a_damaged_claim_is_waited_for_then_replaced(tmp_path, content):
    write(tmp_path, 7, content)
    c = claims(tmp_path, stale=0.3)
    assert not c.holders()["run"].alive
    claim, seconds = take_within(c, 5)
    assert claim and seconds >= 0.3 and claim.attempts == 0
    assert files(tmp_path) == ["7.json", "8.json"]


@pytest.mark.parametrize("field", ["time", "attempts"])
def test_a_huge_number_in_a_claim_is_waited_for_then_replaced(tmp_path, owner, field):
    owner.send_signal(signal.SIGSTOP)  # else it would write the right number again
    change(tmp_path, 1, **{field: 10**400})
    c = claims(tmp_path)
    assert not c.holders()["run"].alive
    claim, seconds = take_within(c, 5)
    assert claim and seconds >= STALE and claim.attempts == 0


@pytest.mark.parametrize("digits", [18, 19, 40, 199])
def test_a_claim_of_a_huge_number_is_followed(tmp_path, digits):
    number = int("9" * digits)
    write(tmp_path, number, b"{}")
    claim, _ = take_within(claims(tmp_path, stale=0.3), 5)
    assert claim and files(tmp_path)[0] == f"{number + 1}.json"


def test_a_number_that_leaves_no_next_one_is_named(tmp_path):
    write(tmp_path, int("9" * 200), b"{}")
    c = claims(tmp_path, stale=0.3)
    with pytest.raises(UserError, match="run/ holds a file whose number is too high") as caught:
        take_within(c, 5)
    assert "\n" not in str(caught.value)


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
