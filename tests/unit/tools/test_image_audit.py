"""An audit tells "none known" from "could not ask": the advisory service is a local one that speaks OSV's protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tools.images import audit_locks

WEAK = {"id": "PYSEC-2026-1", "affected": [{"package": {"name": "flask", "ecosystem": "PyPI"}, "ranges": []}]}
WEAK |= {"summary": "made up", "modified": "2026-01-01T00:00:00Z", "published": "2026-01-01T00:00:00Z"}


class _Advisories(BaseHTTPRequestHandler):
    weak: str | None = None
    asked: set[str] = set()  # noqa: RUF012

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = query["package"]["name"]
        self.asked.add(name)
        body = json.dumps({"vulns": [WEAK]} if name == self.weak else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def advisories() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Advisories)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    thread.join()
    server.server_close()


def ask(url: str) -> tuple[int, str]:
    said: list[str] = []
    code = audit_locks(said.append, ("--vulnerability-service", "osv", "--osv-url", url))
    return code, "\n".join(said)


def test_none_known_is_said_after_every_locked_package_was_asked_for(advisories: str) -> None:
    code, said = ask(advisories)

    assert code == 0, said
    assert "0 known vulnerabilities" in said
    assert {"flask", "numpy", "hatchling", "duckdb"} <= _Advisories.asked


def test_a_known_vulnerability_fails_the_audit_and_is_named(advisories: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Advisories, "weak", "flask")

    code, said = ask(advisories)

    assert code == 1
    assert "flask 3." in said
    assert "PYSEC-2026-1" in said


def test_a_service_that_does_not_answer_is_no_clean_bill() -> None:
    code, said = ask("http://127.0.0.1:1/v1/query")

    assert code == 3
    assert "COULD NOT ASK" in said
    assert "0 known" not in said
