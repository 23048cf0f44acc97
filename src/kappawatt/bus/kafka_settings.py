"""Client settings under Kafka's own names, and what a topic's row in the table means to Kafka.

Settings are written as Kafka's Java client or librdkafka writes them (`security.protocol`, `sasl.username`,
`ssl.ca.location`); each client library is given its own spelling. `NAME.file` takes the value of `NAME` from
a file, so that a secret never stands in an environment variable: `sasl.password.file=/run/secrets/kafka`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from kappawatt.bus.kafka_tokens import TokenSource, read_extensions
from kappawatt.bus.topic import Topic
from kappawatt.errors import SettingInvalid

__all__ = ["ClientSettings", "Role", "read_settings", "topic_config"]

Value = str | int | bool | None

FILE_SUFFIX = ".file"
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
OAUTHBEARER = "OAUTHBEARER"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", OAUTHBEARER)
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
TRUE = ("true", "1", "yes", "https")
FALSE = ("false", "0", "no", "none", "")


# How long a group waits for a member that died while it was joining, and the longest a poll may take to be dealt
# with. The clients' own 5 minutes stop a whole group after one unlucky kill; a poll here takes a second or so.
REJOIN_MS = 30_000


class Role(StrEnum):
    """Which kind of client a setting is for."""

    ANY = "any"
    OURS = "ours"  # no client knows it
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Kind(StrEnum):
    """What a setting's value is."""

    TEXT = "text"
    NUMBER = "number"
    SWITCH = "switch"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting and its spelling in both libraries."""

    name: str
    python: str
    librdkafka: str
    kind: Kind = Kind.TEXT
    role: Role = Role.ANY
    also: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()


def _number(name: str, role: Role = Role.ANY, librdkafka: str | None = None, *also: str) -> Setting:
    return Setting(name, name.replace(".", "_"), librdkafka or name, Kind.NUMBER, role, also)


SETTINGS = (
    Setting("security.protocol", "security_protocol", "security.protocol", allowed=PROTOCOLS),
    Setting("sasl.mechanism", "sasl_mechanism", "sasl.mechanism", also=("sasl.mechanisms",), allowed=MECHANISMS),
    Setting("sasl.username", "sasl_plain_username", "sasl.username", also=("sasl.plain.username",)),
    Setting("sasl.password", "sasl_plain_password", "sasl.password", also=("sasl.plain.password",)),
    Setting("sasl.oauthbearer.token.file", "", "", Kind.FILE, Role.OURS),
    Setting("sasl.oauthbearer.token.command", "", "", role=Role.OURS),
    Setting("sasl.oauthbearer.extensions", "", "", role=Role.OURS),
    Setting("ssl.ca.location", "ssl_cafile", "ssl.ca.location", Kind.FILE, also=("ssl.cafile",)),
    Setting(
        "ssl.certificate.location",
        "ssl_certfile",
        "ssl.certificate.location",
        Kind.FILE,
        also=("ssl.certfile",),
    ),
    Setting("ssl.key.location", "ssl_keyfile", "ssl.key.location", Kind.FILE, also=("ssl.keyfile",)),
    Setting("ssl.key.password", "ssl_password", "ssl.key.password", also=("ssl.password",)),
    Setting("ssl.crl.location", "ssl_crlfile", "ssl.crl.location", Kind.FILE, also=("ssl.crlfile",)),
    Setting("ssl.cipher.suites", "ssl_ciphers", "ssl.cipher.suites", also=("ssl.ciphers",)),
    Setting(
        "ssl.endpoint.identification.algorithm",
        "ssl_check_hostname",
        "ssl.endpoint.identification.algorithm",
        Kind.SWITCH,
        also=("ssl.check.hostname",),
    ),
    Setting("client.id", "client_id", "client.id"),
    Setting("client.rack", "client_rack", "client.rack", role=Role.CONSUMER),
    Setting(
        "isolation.level",
        "isolation_level",
        "isolation.level",
        role=Role.CONSUMER,
        allowed=("read_uncommitted", "read_committed"),
    ),
    Setting(
        "compression.type",
        "compression_type",
        "compression.type",
        role=Role.PRODUCER,
        also=("compression.codec",),
        allowed=COMPRESSIONS,
    ),
    _number("linger.ms", Role.PRODUCER, None, "queue.buffering.max.ms"),
    _number("batch.size", Role.PRODUCER),
    _number("delivery.timeout.ms", Role.PRODUCER, None, "message.timeout.ms"),
    _number("max.request.size", Role.PRODUCER, "message.max.bytes", "message.max.bytes"),
    _number("heartbeat.interval.ms", Role.CONSUMER),
    _number("max.poll.interval.ms", Role.CONSUMER),
    _number("max.partition.fetch.bytes", Role.CONSUMER, None, "fetch.message.max.bytes"),
    _number("fetch.max.bytes", Role.CONSUMER),
    _number("fetch.min.bytes", Role.CONSUMER),
    _number("fetch.max.wait.ms", Role.CONSUMER, "fetch.wait.max.ms", "fetch.wait.max.ms"),
    _number("request.timeout.ms", librdkafka="socket.timeout.ms"),
    _number("metadata.max.age.ms"),
    _number("retry.backoff.ms"),
    _number("reconnect.backoff.ms"),
    _number("reconnect.backoff.max.ms"),
    _number("connections.max.idle.ms"),
)
TOKEN = ("sasl.oauthbearer.token.file", "sasl.oauthbearer.token.command", "sasl.oauthbearer.extensions")
# What the bus's promises rest on, and where each is set instead.
FIXED = {
    "bootstrap.servers": "the bus URL names the brokers",
    "group.id": "the service names its group",
    "group.instance.id": "the service names its members",
    "session.timeout.ms": "BusOptions.session_timeout sets it",
    "enable.auto.commit": "offsets are committed once their answers are on the bus",
    "enable.auto.offset.store": "offsets are committed once their answers are on the bus",
    "auto.offset.reset": "the service names where a new group starts",
    "acks": "every message is acknowledged by all replicas",
    "enable.idempotence": "every producer is idempotent",
    "allow.auto.create.topics": "topics are created from the table of topics only",
    "check.crcs": "checksums are always checked",
    "max.poll.records": "the service names its batch size",
}
BY_NAME = {name: setting for setting in SETTINGS for name in (setting.name, *setting.also)}


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Settings that were read and checked."""

    values: Mapping[Setting, Value] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Return the value of `name` as text, "" when it is not set."""
        return str(self.values.get(BY_NAME[name]) or "")

    def kafka_python(self, role: Role = Role.ANY) -> dict[str, Value]:
        """Return the settings as keyword arguments of kafka-python."""
        found = {setting.python: value for setting, value in self._of(role)}
        if found.get("compression_type") == "none":
            found["compression_type"] = None
        return found

    def librdkafka(self, role: Role = Role.ANY) -> dict[str, Value]:
        """Return the settings as librdkafka's configuration."""
        found = {setting.librdkafka: value for setting, value in self._of(role)}
        hostname = "ssl.endpoint.identification.algorithm"
        if hostname in found:
            found[hostname] = "https" if found[hostname] else "none"
        return found

    def _of(self, role: Role) -> list[tuple[Setting, Value]]:
        return [(s, value) for s, value in self.values.items() if s.role in (Role.ANY, role)]

    @property
    def identity(self) -> str:
        """Who this client says it is, for messages: never the secret."""
        protocol = self.text("security.protocol") or "PLAINTEXT"
        if not protocol.startswith("SASL"):
            certificate = self.text("ssl.certificate.location")
            return f"{protocol} certificate {certificate!r}" if certificate else protocol
        tokens = self.tokens
        who = f"user {self.text('sasl.username')!r}" if tokens is None else tokens.name
        return f"{protocol} {self.text('sasl.mechanism')} {who}"

    @property
    def tokens(self) -> TokenSource | None:
        """Where tokens come from; None where a mechanism has none."""
        if self.text("sasl.mechanism") != OAUTHBEARER:
            return None
        file, command = self.text("sasl.oauthbearer.token.file"), self.text("sasl.oauthbearer.token.command")
        return TokenSource(file, command, read_extensions(self.text("sasl.oauthbearer.extensions")))


def read_settings(given: Mapping[str, str]) -> ClientSettings:
    """Check client settings and return them.

    Raises
    ------
    SettingInvalid
        A name is unknown or fixed, a value cannot be used, or a setting another one needs is missing.
    """
    values: dict[Setting, Value] = {}
    for written, text in given.items():
        name = written.replace("_", ".")
        if name.endswith(FILE_SUFFIX) and name.removesuffix(FILE_SUFFIX) in BY_NAME:
            name = name.removesuffix(FILE_SUFFIX)
            text = _read_secret(written, text)
        setting = _known(written, name)
        if setting in values:
            raise SettingInvalid(f"{written}: {setting.name} is set twice")
        values[setting] = _parse(written, setting, str(text).strip())
    settings = ClientSettings(values)
    _check_together(settings)
    return settings


def _known(written: str, name: str) -> Setting:
    if name in FIXED:
        raise SettingInvalid(f"{written}: cannot be set here, {FIXED[name]}")
    if name in BY_NAME:
        return BY_NAME[name]
    near = difflib.get_close_matches(name, BY_NAME, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise SettingInvalid(f"{written}: not a Kafka client setting kappawatt knows{hint}")


def _read_secret(written: str, path: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingInvalid(f"{written}: cannot read {path!r}: {error}") from error
    if not text:
        raise SettingInvalid(f"{written}: {path!r} is empty")
    return text


def _parse(written: str, setting: Setting, text: str) -> Value:
    if setting.kind is Kind.NUMBER:
        if not text.isascii() or not text.isdecimal():
            raise SettingInvalid(f"{written}: got {text!r}, allowed an integer of 0 or more")
        return int(text)
    if setting.kind is Kind.SWITCH:
        if text.lower() not in TRUE + FALSE:
            raise SettingInvalid(f"{written}: got {text!r}, allowed https or none")
        return text.lower() in TRUE
    if setting.kind is Kind.FILE:
        if not os.access(text, os.R_OK) or not Path(text).is_file():
            raise SettingInvalid(f"{written}: {text!r} is no file that can be read")
        return text
    if setting.allowed:
        exact = {allowed.lower(): allowed for allowed in setting.allowed}
        if text.lower() not in exact:
            raise SettingInvalid(f"{written}: got {text!r}, allowed {', '.join(setting.allowed)}")
        return exact[text.lower()]
    if not text:
        raise SettingInvalid(f"{written}: is empty")
    return text


def _check_together(settings: ClientSettings) -> None:
    protocol = settings.text("security.protocol") or "PLAINTEXT"
    credentials = ("sasl.mechanism", "sasl.username", "sasl.password", *TOKEN)
    if protocol.startswith("SASL"):
        _check_credentials(settings, protocol)
    else:
        useless = [name for name in credentials if settings.text(name)]
        if useless:
            raise SettingInvalid(
                f"{useless[0]}: has no effect with security.protocol {protocol}, allowed SASL_SSL, SASL_PLAINTEXT"
            )
    for name in ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.key.password"):
        if settings.text(name) and "SSL" not in protocol:
            raise SettingInvalid(f"{name}: has no effect with security.protocol {protocol}, allowed SASL_SSL, SSL")
    if bool(settings.text("ssl.certificate.location")) != bool(settings.text("ssl.key.location")):
        missing = "ssl.key.location" if settings.text("ssl.certificate.location") else "ssl.certificate.location"
        raise SettingInvalid(f"{missing}: a client's certificate needs its key, got one without the other")


def _check_credentials(settings: ClientSettings, protocol: str) -> None:
    mechanism = settings.text("sasl.mechanism")
    if not mechanism:
        raise SettingInvalid(f"sasl.mechanism: needed with security.protocol {protocol}")
    sources = [name for name in TOKEN[:2] if settings.text(name)]
    users = [name for name in ("sasl.username", "sasl.password") if settings.text(name)]
    if mechanism == OAUTHBEARER:
        if len(sources) != 1:
            raise SettingInvalid(f"{TOKEN[0]}: got {len(sources)} sources of tokens, allowed it or {TOKEN[1]}")
        if users:
            raise SettingInvalid(f"{users[0]}: has no effect with sasl.mechanism {mechanism}")
        read_extensions(settings.text(TOKEN[2]))
        return
    missing = [name for name in ("sasl.username", "sasl.password") if name not in users]
    if missing:
        raise SettingInvalid(f"{missing[0]}: needed with security.protocol {protocol}")
    useless = [name for name in TOKEN if settings.text(name)]
    if useless:
        raise SettingInvalid(f"{useless[0]}: has no effect with sasl.mechanism {mechanism}, allowed {OAUTHBEARER}")


def topic_config(topic: Topic) -> dict[str, str]:
    """Return the configuration Kafka is given when `topic` is created."""
    if topic.retention is None:
        kept = {"cleanup.policy": "compact"}
    else:
        kept = {"cleanup.policy": "delete", "retention.ms": str(topic.retention * 1000)}
    return kept | {"max.message.bytes": str(topic.max_message_bytes)}
