"""Answers by Idempotency-Key, rule by rule: who may go ahead, what is kept, what is forgotten, and when."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from kappawatt.errors import NotReady
from kappawatt.services.sensor_ingestor import idempotency
from kappawatt.services.sensor_ingestor.idempotency import Idempotency, Stored, Verdict, fingerprint

ANSWER = Stored(202, "application/json", b"{}", "log-1")


@pytest.fixture
def store(tmp_path: Path) -> Idempotency:
    return Idempotency(tmp_path / "folder" / "of its own" / "keys")


def answered(store: Idempotency, key: str, answer: Stored = ANSWER) -> None:
    assert store.begin(key, "f") is Verdict.GO_AHEAD
    store.finish(key, "f", answer)


def test_a_second_request_waits_until_the_first_is_answered_and_gets_its_answer(store: Idempotency) -> None:
    assert store.begin("k", "f") is Verdict.GO_AHEAD
    assert store.begin("k", "f") is Verdict.IN_PROGRESS

    store.finish("k", "f", ANSWER)

    assert store.begin("k", "f") == ANSWER
    assert store.begin("other", "f") is Verdict.GO_AHEAD


@pytest.mark.parametrize("is_answered", [False, True])
def test_a_key_is_of_one_request_whether_it_was_answered_or_not(store: Idempotency, is_answered: bool) -> None:
    store.begin("k", "f")
    if is_answered:
        store.finish("k", "f", ANSWER)

    assert store.begin("k", "another") is Verdict.OTHER_REQUEST


def test_an_answer_without_a_log_has_none(store: Idempotency) -> None:
    answered(store, "k", Stored(202, "application/json", b"{}"))

    assert store.begin("k", "f") == Stored(202, "application/json", b"{}", "")


def test_a_claim_is_given_free_and_an_answer_is_not(store: Idempotency) -> None:
    store.begin("claimed", "f")
    answered(store, "answered")

    store.forget("claimed")
    store.forget("answered")

    assert store.begin("claimed", "another") is Verdict.GO_AHEAD
    assert store.begin("answered", "f") == ANSWER


def test_an_answer_goes_with_its_log_and_no_other(store: Idempotency) -> None:
    answered(store, "k")
    store.begin("claimed", "f")

    store.drop("k", "log-2")
    assert store.begin("k", "f") == ANSWER

    store.drop("k", "log-1")
    store.drop("claimed", "log-1")
    assert store.begin("k", "f") is Verdict.GO_AHEAD
    assert store.begin("claimed", "f") is Verdict.IN_PROGRESS


def test_beyond_the_bound_the_oldest_answers_go_and_no_claim(
    store: Idempotency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "MOST_ANSWERS", 4)
    monkeypatch.setattr(idempotency, "COUNT_SECONDS", 0.0)
    store.begin("claimed", "f")
    for i in range(5):
        answered(store, f"k{i}")

    assert [store.begin(f"k{i}", "f") == ANSWER for i in (2, 3, 4)] == [True] * 3
    assert store.begin("claimed", "f") is Verdict.IN_PROGRESS
    assert store.begin("k0", "f") is Verdict.GO_AHEAD


def test_at_the_bound_nothing_goes(store: Idempotency, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MOST_ANSWERS", 4)
    monkeypatch.setattr(idempotency, "COUNT_SECONDS", 0.0)
    for i in range(4):
        answered(store, f"k{i}")

    assert [store.begin(f"k{i}", "f") for i in range(4)] == [ANSWER] * 4


def test_what_is_kept_is_counted_now_and_then(store: Idempotency, monkeypatch: pytest.MonkeyPatch) -> None:
    answered(store, "first")  # counts, and not again within ten seconds
    monkeypatch.setattr(idempotency, "MOST_ANSWERS", 0)
    answered(store, "second")
    assert store.begin("first", "f") == ANSWER

    now = store._counted
    assert now is not None
    monkeypatch.setattr(idempotency, "machine_seconds", lambda: now + 9.5)
    assert store.begin("first", "f") == ANSWER
    monkeypatch.setattr(idempotency, "machine_seconds", lambda: now + 10.5)

    assert store.begin("first", "f") is Verdict.GO_AHEAD


def test_a_lease_and_an_age_end_to_the_second(store: Idempotency, monkeypatch: pytest.MonkeyPatch) -> None:
    store.begin("k", "f")
    machine = idempotency.machine_seconds()

    monkeypatch.setattr(idempotency, "machine_seconds", lambda: machine + 149.0)
    assert store.begin("k", "f") is Verdict.IN_PROGRESS
    monkeypatch.setattr(idempotency, "machine_seconds", lambda: machine + 151.0)
    assert store.begin("k", "f") is Verdict.GO_AHEAD
    store.finish("k", "f", ANSWER)

    day = idempotency.time.time() + 24 * 3600
    monkeypatch.setattr(idempotency.time, "time", lambda: day - 1.0)
    assert store.begin("k", "f") == ANSWER
    monkeypatch.setattr(idempotency.time, "time", lambda: day + 1.0)
    assert store.begin("k", "f") is Verdict.GO_AHEAD


def test_a_request_that_fails_inside_leaves_the_file_as_it_was(store: Idempotency) -> None:
    def write_and_fail() -> None:
        with store._write() as connection:
            connection.execute("INSERT INTO answer (key, fingerprint, started) VALUES ('k', 'f', 0)")
            raise KeyError("k")

    with pytest.raises(KeyError):
        write_and_fail()

    assert store.begin("k", "other") is Verdict.GO_AHEAD


@pytest.mark.parametrize("what", ["a folder that is a file", "a file that is no database", "a file that is locked"])
def test_a_file_that_cannot_be_used_is_named_as_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    path = tmp_path / "keys"
    monkeypatch.setattr(idempotency, "BUSY_SECONDS", 0.01)
    other = sqlite3.connect(tmp_path / "other", isolation_level=None)
    if what == "a folder that is a file":
        path.write_text("")
        path = path / "keys"
    elif what == "a file that is no database":
        path.write_bytes(b"no database" * 100)
    else:
        Idempotency(path).begin("k", "f")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(NotReady, match=f"idempotency file {path}: "):
        Idempotency(path).begin("k", "f")
    other.close()


def test_threads_share_it_while_others_read_the_file(store: Idempotency) -> None:
    answered(store, "k")
    with ThreadPoolExecutor(1) as other:
        assert other.submit(store.begin, "k", "f").result() == ANSWER

    with closing(sqlite3.connect(store._path)) as reading:
        assert reading.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_closed_it_holds_no_connection(store: Idempotency) -> None:
    answered(store, "k")
    connection = store._connection
    assert connection is not None

    store.close()

    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")


def test_it_goes_on_after_it_was_closed_and_in_a_fork(store: Idempotency) -> None:
    answered(store, "k")
    store.close()
    store.close()
    assert store.begin("k", "f") == ANSWER

    connection = store._connection
    assert store.begin("k", "f") == ANSWER
    assert store._connection is connection
    child = os.fork()
    if child == 0:  # SQLite forbids to go on with a connection that was opened before
        seen = store.begin("k", "f") == ANSWER and store.begin("of the child", "f") is Verdict.GO_AHEAD
        seen &= store._connection is not connection
        store.close()
        os._exit(0 if seen else 1)

    assert os.waitpid(child, 0)[1] == 0
    assert store.begin("of the child", "f") is Verdict.IN_PROGRESS


def test_a_fingerprint_is_of_every_part_and_its_place() -> None:
    prints = {
        fingerprint(),
        fingerprint(b""),
        fingerprint(b"a"),
        fingerprint(b"a", b""),
        fingerprint(b"", b"a"),
        fingerprint(b"ab"),
        fingerprint(b"a", b"b"),
        fingerprint(b"x" * 300),
        fingerprint(b"b"),
        fingerprint(b"b", b"a"),
    }

    assert len(prints) == 10
    assert fingerprint(b"a", b"b") == fingerprint(b"a", b"b")
    assert len(fingerprint(b"a")) == 64
