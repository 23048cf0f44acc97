"""What the platform's variables mean to a container; that it keeps the contract is in the integration tests."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from flask import Flask

from kappawatt.deploy.container.entry import ROLES, main
from kappawatt.deploy.container.health import health, ports
from kappawatt.deploy.container.roles import serve_settings, worker_settings
from kappawatt.errors import SettingInvalid
from kappawatt.serving.consume import probes
from kappawatt.serving.service import Context, find_service
from kappawatt.settings import Settings
from kappawatt.telemetry import Telemetry


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """A role changes what belongs to its process: the signal's handler and the root logger."""
    handler, root = signal.getsignal(signal.SIGTERM), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    signal.signal(signal.SIGTERM, handler)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_without_a_word_it_is_port_8080_everywhere_and_the_model_of_the_image(tmp_path: Path) -> None:
    nowhere = {"SAGEMAKER_BASE_DIR": str(tmp_path)}

    serving, working = serve_settings(nowhere), worker_settings(nowhere)

    assert (serving.host, serving.port, serving.artifacts, serving.workers) == ("0.0.0.0", 8080, None, 1)
    assert (working.host, working.probe_port, working.artifacts) == ("0.0.0.0", 8080, None)


@pytest.mark.parametrize("settings_of", [serve_settings, worker_settings])
def test_a_model_that_the_platform_put_there_stands_above_one_that_is_named(
    settings_of: Callable[[Mapping[str, str]], Settings], tmp_path: Path
) -> None:
    environment = {"SAGEMAKER_BASE_DIR": str(tmp_path), "KAPPAWATT_ARTIFACTS": "/models"}

    named = settings_of(environment).artifacts
    (tmp_path / "model").mkdir()
    mounted = settings_of(environment).artifacts

    assert (named, mounted) == (Path("/models"), tmp_path / "model")


def test_the_platforms_words_stand_above_our_own(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    environment = {
        "SAGEMAKER_BASE_DIR": str(tmp_path),
        "SAGEMAKER_BIND_TO_PORT": "9000",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "3",
        "SAGEMAKER_CONTAINER_LOG_LEVEL": "10",
        "KAPPAWATT_PORT": "1",
        "KAPPAWATT_WORKERS": "2",
        "KAPPAWATT_HOST": "127.0.0.1",
        "KAPPAWATT_THREADS": "7",
    }

    settings = serve_settings(environment)

    assert (settings.host, settings.port, settings.artifacts) == ("0.0.0.0", 9000, tmp_path / "model")
    assert (settings.workers, settings.log_level, settings.threads) == (3, "DEBUG", 7)


def test_our_own_ports_are_listened_on_where_no_platform_says_another() -> None:
    environment = {"KAPPAWATT_PORT": "9001", "KAPPAWATT_PROBE_PORT": "9002"}

    assert serve_settings(environment).port == 9001
    assert worker_settings(environment).probe_port == 9002


@pytest.mark.parametrize(
    ("service", "given", "port"),
    [
        ("sink", {"KAPPAWATT_PORT": "9001"}, 9001),
        ("sink", {"KAPPAWATT_PORT": "9001", "KAPPAWATT_PROBE_PORT": "9002"}, 9002),
        ("sink", {}, 8080),
        ("plant-power", {"KAPPAWATT_PORT": "9001"}, 8080),
    ],
)
def test_a_worker_listens_on_the_port_of_serve_only_where_one_process_does_both(
    service: str, given: Mapping[str, str], port: int
) -> None:
    assert worker_settings({"KAPPAWATT_SERVICE": service, **given}).probe_port == port


@pytest.mark.parametrize(
    ("service", "given", "variable"),
    [
        ("sink", {"KAPPAWATT_PORT": "PORT"}, "KAPPAWATT_PORT"),
        ("sink", {"KAPPAWATT_PROBE_PORT": "PORT"}, "KAPPAWATT_PROBE_PORT"),
        ("plant-power", {"KAPPAWATT_PORT": "1", "KAPPAWATT_PROBE_PORT": "PORT"}, "KAPPAWATT_PROBE_PORT"),
    ],
)
def test_a_port_that_is_taken_is_said_with_the_variable_that_was_set(
    service: str, given: Mapping[str, str], variable: str, somebody: HTTPServer
) -> None:
    port = somebody.server_port
    settings = worker_settings(
        {"KAPPAWATT_SERVICE": service, **{name: text.replace("PORT", str(port)) for name, text in given.items()}}
    )
    app = Flask("sink")
    app.extensions["kappawatt"] = Context(find_service(service), settings, Telemetry(service))

    with pytest.raises(SettingInvalid, match=rf"^{variable}: got 0\.0\.0\.0:{port}"), probes(app, settings):
        pass


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "0", "from 1 to 65535"),
        ("SAGEMAKER_BIND_TO_PORT", "http", "from 1 to 65535"),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "65", "from 1 to 64"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING, ERROR"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "15", "10, 20, 30, 40, 50"),
        ("SAGEMAKER_MULTI_MODEL", "true", "one container serves one model"),
        ("KAPPAWATT_THREADS", "many", "a whole number"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingInvalid) as refused:
        serve_settings({name: value})

    assert str(refused.value).startswith(f"{name}: got {value!r}")
    assert allowed in str(refused.value)


@pytest.mark.parametrize("arguments", [[], ["server"], ["serve", "plant-power"]])
def test_an_unknown_role_is_refused_with_those_there_are(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments, {})

    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert f"got {' '.join(arguments)!r}, allowed" in said
    assert all(role in said for role in ROLES)


@pytest.mark.parametrize(
    ("role", "environment", "said"),
    [
        ("serve", {}, "KAPPAWATT_SERVICE: got nothing"),
        ("serve", {"KAPPAWATT_SERVICE": "nobody"}, "KAPPAWATT_SERVICE: service: got 'nobody', allowed"),
        ("serve", {"KAPPAWATT_SERVICE": "sink"}, "sink, which answers while it works"),
        ("serve", {"KAPPAWATT_SERVICE": "gateway"}, "KAPPAWATT_API_KEYS: got nothing"),
        ("consume", {"KAPPAWATT_SERVICE": "gateway"}, "got gateway, which reads no topic"),
        ("consume", {"KAPPAWATT_SERVICE": "plant-power", "KAPPAWATT_PROBE_PORT": "http"}, "KAPPAWATT_PROBE_PORT: got"),
        ("sink", {"KAPPAWATT_DATABASE": "oracle:x"}, "oracle"),
        ("sink", {"KAPPAWATT_BUS": "rabbit://x"}, "rabbit"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_a_role_cannot_run_with_is_named_in_one_line(
    role: str, environment: dict[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"SAGEMAKER_BASE_DIR": str(tmp_path), "KAPPAWATT_BUS": f"embedded:{tmp_path}/bus.sqlite"}

    with pytest.raises(SystemExit) as ended:
        main([role], own | environment)

    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("kappawatt-container: ")]
    assert ended.value.code == 1
    assert len(lines) == 1
    assert said in lines[0]


class _Answers(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def somebody() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_health_asks_where_the_role_listens(somebody: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    port = str(somebody.server_port)

    assert health({"KAPPAWATT_PORT": port}) == 0
    assert health({"KAPPAWATT_PORT": "1", "KAPPAWATT_PROBE_PORT": port}) == 0
    monkeypatch.setattr(_Answers, "status", 503)
    assert health({"KAPPAWATT_PORT": port}) == 1


def test_health_names_what_it_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert health({"KAPPAWATT_PORT": "1", "SAGEMAKER_BIND_TO_PORT": "2"}) == 1

    said = capsys.readouterr().err
    assert "port 2: " in said
    assert "port 1: " in said


def test_health_asks_8080_where_nothing_else_is_said() -> None:
    assert ports({}) == [8080]
    assert ports({"KAPPAWATT_PORT": "0", "KAPPAWATT_PROBE_PORT": ""}) == [8080]
