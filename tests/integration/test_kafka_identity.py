"""OAUTHBEARER, whose tokens end and are renewed, and client certificates, through both clients."""

from __future__ import annotations

import base64
import json
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kappawatt.broker import Broker
from kappawatt.broker.certificates import make_certificates
from kappawatt.bus.connect import connect
from kappawatt.bus.interface import Bus, BusOptions, Outgoing
from kappawatt.errors import BusUnreachable
from tests.bus_contract import new_group, new_topic, read, until

HOST = "127.0.0.1"
SESSION_MS = 4000  # after it a connection has to show a token again
SECURITY = "org.apache.kafka.common.security.oauthbearer"

pytestmark = pytest.mark.parametrize("client", ["kafka-python", "confluent"])


class IdentityBroker(Broker):
    """A node with two listeners more: one takes tokens that nobody has signed, one asks clients for certificates."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, users={"unused": "unused"})
        with socket.socket() as one, socket.socket() as other:
            one.bind((HOST, 0))
            other.bind((HOST, 0))
            self.token_port, self.certificate_port = one.getsockname()[1], other.getsockname()[1]

    def _write_properties(self) -> Path:
        path = super()._write_properties()
        properties = dict(line.split("=", 1) for line in path.read_text().splitlines())
        for name, port in (("TOKEN", self.token_port), ("CERTIFICATE", self.certificate_port)):
            properties["listeners"] += f",{name}://{HOST}:{port}"
            properties["advertised.listeners"] += f",{name}://{HOST}:{port}"
            listener = f"listener.name.{name.lower()}"
            properties[f"{listener}.ssl.keystore.type"] = "PEM"
            properties[f"{listener}.ssl.keystore.location"] = str(self.ca_file.with_name("server.pem"))
        properties["listener.security.protocol.map"] += ",TOKEN:SASL_SSL,CERTIFICATE:SSL"
        properties |= {
            "listener.name.certificate.ssl.client.auth": "required",
            "listener.name.certificate.ssl.truststore.type": "PEM",
            "listener.name.certificate.ssl.truststore.location": str(self.ca_file),
            "listener.name.token.sasl.enabled.mechanisms": "OAUTHBEARER",
            "listener.name.token.oauthbearer.connections.max.reauth.ms": str(SESSION_MS),
            "listener.name.token.oauthbearer.sasl.jaas.config": f"{SECURITY}.OAuthBearerLoginModule required;",
            "listener.name.token.oauthbearer.sasl.server.callback.handler.class": (
                f"{SECURITY}.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"
            ),
        }
        path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        return path


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityBroker]:
    with IdentityBroker(tmp_path_factory.mktemp("identity")) as broker:
        yield broker


def token(seconds: float, subject: str = "sensor") -> str:
    """A token that ends in so many seconds."""
    now = time.time()
    parts = ({"alg": "none"}, {"sub": subject, "iat": now, "exp": now + seconds})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def by_token(broker: IdentityBroker, client: str, **settings: str) -> Bus:
    given = {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "ssl.ca.location": str(broker.ca_file)}
    given |= {f"sasl.oauthbearer.token.{name}": value for name, value in settings.items()}
    return connect(f"kafka://{HOST}:{broker.token_port}", BusOptions(kafka_client=client, client=given))


def by_certificate(broker: IdentityBroker, client: str, folder: Path | None) -> Bus:
    given = {"security.protocol": "SSL", "ssl.ca.location": str(broker.ca_file)}
    if folder is not None:
        given |= {
            "ssl.certificate.location": str(folder / "server.crt"),
            "ssl.key.location": str(folder / "server.key"),
        }
    return connect(f"kafka://{HOST}:{broker.certificate_port}", BusOptions(kafka_client=client, client=given))


def pass_messages(bus: Bus, seconds: float = 0.0, meanwhile: Callable[[float], object] = lambda passed: None) -> None:
    """Publish and read for so long, once at least."""
    topic = new_topic()
    bus.ensure([topic])
    producer, member = bus.producer(), bus.consumer([topic.name], new_group())
    until(lambda: bool(member.positions()), member)
    begun = time.monotonic()
    while True:
        producer.publish([Outgoing(topic.name, b"secret")])
        assert read(member, 1)[0].value == b"secret"
        assert sum(member.lag().values()) == 0
        passed = time.monotonic() - begun
        if passed > seconds:
            break
        meanwhile(passed)
        time.sleep(0.25)
    for closable in (producer, member, bus):
        closable.close()


def refused(bus: Bus) -> str:
    begun = time.monotonic()
    with pytest.raises(BusUnreachable) as caught:
        bus.topics()
    assert time.monotonic() - begun < 20
    bus.close()
    return str(caught.value)


def test_a_token_from_a_file_is_renewed_with_the_file(
    broker: IdentityBroker, client: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, first = tmp_path / "token", token(8)
    file.write_text(first + "\n")

    def renew(passed: float) -> None:
        if passed > 4:
            file.write_text(token(60))

    with caplog.at_level(logging.DEBUG):
        pass_messages(by_token(broker, client, file=str(file)), 12, renew)

    assert first not in caplog.text


def test_a_token_from_a_command_is_asked_for_again_before_it_ends(
    broker: IdentityBroker, client: str, tmp_path: Path
) -> None:
    script, asked = tmp_path / "login.py", tmp_path / "asked"
    script.write_text(
        "import base64, json, time\n"
        f"open({str(asked)!r}, 'a').write('x')\n"
        "part = lambda d: base64.urlsafe_b64encode(json.dumps(d).encode()).decode().rstrip('=')\n"
        "now = time.time()\n"
        "print(part({'alg': 'none'}) + '.' + part({'sub': 'sensor', 'iat': now, 'exp': now + 6}) + '.')\n"
    )

    pass_messages(by_token(broker, client, command=f"{sys.executable} {script}"), 9)

    assert 2 <= len(asked.read_text()) <= 10


@pytest.mark.parametrize(
    ("written", "said"), [(None, "No such file"), ("", "0 characters"), ("ended", "ended"), ("rubbish", "")]
)
def test_a_token_that_is_missing_or_wrong_is_said_without_it(
    broker: IdentityBroker, client: str, tmp_path: Path, written: str | None, said: str
) -> None:
    file = tmp_path / "token"
    file.write_text({"ended": token(-60), None: "", "rubbish": "rubbish-secret"}.get(written, ""))
    bus = by_token(broker, client, file=str(file))
    if written is None:
        file.unlink()

    words = refused(bus)

    assert str(file) in words
    assert said in words
    assert "rubbish-secret" not in words


def test_a_command_that_fails_is_said_with_its_last_word(broker: IdentityBroker, client: str) -> None:
    words = refused(by_token(broker, client, command="/bin/sh -c 'echo no login >&2; exit 3'"))

    assert "ended with 3: no login" in words


def test_a_client_with_a_certificate_is_let_in(broker: IdentityBroker, client: str) -> None:
    pass_messages(by_certificate(broker, client, broker.ca_file.parent))


def test_a_client_without_a_certificate_or_with_anothers_is_refused(
    broker: IdentityBroker, client: str, tmp_path: Path
) -> None:
    make_certificates(tmp_path)

    for bus in (by_certificate(broker, client, None), by_certificate(broker, client, tmp_path)):
        assert "ssl.certificate.location" in refused(bus)
