"""Answers by Idempotency-Key: claims, leases, age."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

from kappawatt.services.sensor_ingestor.idempotency import Idempotency, Stored, Verdict, fingerprint

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


def test_an_answer_is_kept_for_its_time_and_no_longer(tmp_path: Path) -> None:
    store = Idempotency(tmp_path / "keys")
    store.begin("k", "f")
    store.finish("k", ANSWER)

    assert store.begin("k", "f") == ANSWER
    assert Idempotency(tmp_path / "keys", kept=0.0).begin("k", "other") is Verdict.GO_AHEAD


def test_fingerprints_keep_their_parts_apart() -> None:
    assert fingerprint(b"ab", b"c") != fingerprint(b"a", b"bc")
