"""Answers by Idempotency-Key: claims, leases, age."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from kappawatt.services.sensor_ingestor import idempotency
from kappawatt.services.sensor_ingestor.idempotency import Idempotency, Stored, Verdict, fingerprint
from tests.conftest import set_clock

ANSWER = Stored(202, "application/json", b"{}")


def claim(path: Path) -> str:
    store = Idempotency(path)
    found = store.begin("k", "f")
    store.close()
    return found.name if isinstance(found, Verdict) else "STORED"


def test_of_many_processes_exactly_one_goes_ahead(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        found = pool.map(claim, [tmp_path / "keys"] * 16)

    assert sorted(set(found)) == ["GO_AHEAD", "IN_PROGRESS"]
    assert found.count("GO_AHEAD") == 1


def test_a_claim_whose_process_died_is_free_after_its_lease(tmp_path: Path) -> None:
    Idempotency(tmp_path / "keys").begin("k", "f")

    assert Idempotency(tmp_path / "keys").begin("k", "f") is Verdict.IN_PROGRESS
    assert Idempotency(tmp_path / "keys", lease=0.0).begin("k", "f") is Verdict.GO_AHEAD


@pytest.mark.parametrize("by", [-3600, 3600])
def test_a_clock_that_is_set_makes_no_lease_longer_or_shorter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    now = [1000.0]
    monkeypatch.setattr(idempotency, "machine_seconds", lambda: now[0])
    store = Idempotency(tmp_path / "keys", lease=150.0)
    store.begin("k", "f")
    set_clock(monkeypatch, by)

    now[0] += 149
    assert store.begin("k", "f") is Verdict.IN_PROGRESS

    now[0] += 2
    assert store.begin("k", "f") is Verdict.GO_AHEAD


def test_a_lease_of_before_the_machine_started_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100_000.0]
    monkeypatch.setattr(idempotency, "machine_seconds", lambda: now[0])
    Idempotency(tmp_path / "keys").begin("k", "f")

    now[0] = 20.0

    assert Idempotency(tmp_path / "keys").begin("k", "f") is Verdict.GO_AHEAD


def test_a_clock_set_back_an_hour_forgets_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Idempotency(tmp_path / "keys")
    store.begin("k", "f")
    store.finish("k", "f", ANSWER)

    set_clock(monkeypatch, -3600)

    assert store.begin("k", "f") == ANSWER


@pytest.mark.parametrize("days", [-2, 2])
def test_a_clock_that_is_set_by_days_forgets_no_request_in_progress_nor_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    store = Idempotency(tmp_path / "keys")
    store.begin("k", "f")

    set_clock(monkeypatch, days * 24 * 3600)
    assert store.begin("k", "f") is Verdict.IN_PROGRESS
    store.finish("k", "f", ANSWER)

    assert store.begin("k", "f") == ANSWER


def test_an_answer_is_kept_where_its_claim_is_gone(tmp_path: Path) -> None:
    store = Idempotency(tmp_path / "keys")
    store.begin("k", "f")
    store.forget("k")

    store.finish("k", "f", ANSWER)

    assert store.begin("k", "f") == ANSWER
    assert store.begin("k", "other") is Verdict.OTHER_REQUEST


def test_an_answer_that_comes_late_is_none_to_another_request(tmp_path: Path) -> None:
    store = Idempotency(tmp_path / "keys")
    store.begin("k", "another")

    store.finish("k", "f", ANSWER)

    assert store.begin("k", "another") is Verdict.IN_PROGRESS


def test_answers_of_a_clock_that_was_years_ahead_are_not_kept_for_years(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Idempotency(tmp_path / "keys")
    store.begin("k", "f")
    store.finish("k", "f", ANSWER)

    set_clock(monkeypatch, -10 * 365 * 24 * 3600)

    assert store.begin("k", "f") is Verdict.GO_AHEAD


def test_an_answer_is_kept_for_its_time_and_no_longer(tmp_path: Path) -> None:
    store = Idempotency(tmp_path / "keys")
    store.begin("k", "f")
    store.finish("k", "f", ANSWER)

    assert store.begin("k", "f") == ANSWER
    assert Idempotency(tmp_path / "keys", kept=0.0).begin("k", "other") is Verdict.GO_AHEAD


def test_the_answers_of_a_release_before_are_kept(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "keys", isolation_level=None)) as file:
        file.execute(
            "CREATE TABLE answer (key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, started REAL NOT NULL,"
            " status INTEGER, content_type TEXT, body BLOB) WITHOUT ROWID"
        )
        file.execute("INSERT INTO answer VALUES ('k', 'f', ?, 202, 'application/json', ?)", (time.time(), b"{}"))

    assert Idempotency(tmp_path / "keys").begin("k", "f") == ANSWER


def test_fingerprints_keep_their_parts_apart() -> None:
    assert fingerprint(b"ab", b"c") != fingerprint(b"a", b"bc")
