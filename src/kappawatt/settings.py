"""Every setting, in one table: environment variable, default, meaning. Read once, at start.

A missing or unreadable setting stops the process and is named. Kafka client settings pass through under
Kafka's own names: `KAPPAWATT_KAFKA_SECURITY_PROTOCOL` is `security.protocol`, and a name that ends in `_FILE`
(`KAPPAWATT_KAFKA_SASL_PASSWORD_FILE`) is read from that file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from kappawatt.errors import SettingInvalid

__all__ = ["Settings", "settings_table"]

PREFIX = "KAPPAWATT_"
KAFKA = "KAFKA_"
ENVELOPES = ("cloudevents", "connect", "registry")


def _setting(default: Any, meaning: str, read: Callable[[str], Any] = str) -> Any:
    metadata = {"meaning": meaning, "read": read}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def _flag(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("allowed true or false")


def _choice(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"allowed {', '.join(allowed)}")
        return text

    return read


def _number(low: float, high: float, whole: bool = True) -> Callable[[str], float]:
    def read(text: str) -> float:
        noun = "a whole number" if whole else "a number"
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            raise ValueError(f"allowed {noun} from {low:g} to {high:g}") from None
        if not low <= value <= high:
            raise ValueError(f"allowed {noun} from {low:g} to {high:g}")
        return value

    return read


def _envelopes(text: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        topic, _, envelope = (word.strip() for word in part.partition("="))
        if not topic or envelope not in ENVELOPES:
            raise ValueError(f"allowed TOPIC=ENVELOPE, comma separated, an envelope being {', '.join(ENVELOPES)}")
        if topic in found:
            raise ValueError(f"allowed each topic once: {topic} is there twice")
        found[topic] = envelope
    return found


def _holidays(text: str) -> Mapping[str | None, str]:
    found: dict[str | None, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        left, equals, right = (word.strip() for word in part.rpartition("="))
        key = left if equals else None
        if not right or key == "" or key in found:
            raise ValueError("allowed HOLIDAYS or SERIES=HOLIDAYS, comma separated, each series once")
        found[key] = right
    return found


def _path(text: str) -> Path | None:
    return Path(text) if text else None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process was told by its environment; `Settings.read()` makes it."""

    bus: str = _setting("embedded:.run/bus.sqlite", "the bus: `embedded:FILE` or `kafka://HOST:PORT[,HOST:PORT]`")
    kafka_client: str = _setting(
        "kafka-python",
        "`kafka-python`, or `confluent` for the accelerator",
        _choice("kafka-python", "confluent"),
    )
    host: str = _setting(
        "127.0.0.1", "address to listen on; beyond localhost the gateway demands API keys, or open access"
    )
    port: int = _setting(
        0,
        "port to listen on, of `serve`, and of `consume` of a service that is one process (the sink) where "
        "`KAPPAWATT_PROBE_PORT` is 0; 0 is the service's own, in a container 8080",
        _number(0, 65535),
    )
    workers: int = _setting(1, "serving processes", _number(1, 64))
    threads: int = _setting(4, "threads a serving process answers with", _number(1, 256))
    drain_seconds: float = _setting(
        0.0,
        "seconds `serve` answers on after SIGTERM, already unready, so that balancers turn away from it first",
        _number(0, 600, False),
    )
    probe_port: int = _setting(
        0,
        "port for probes and metrics of `consume`; 0 is the service's port + 100, in a container 8080; if one process "
        "does both (the sink), 0 is `KAPPAWATT_PORT`",
        _number(0, 65535),
    )
    log_level: str = _setting("INFO", "least level that is logged", _choice("DEBUG", "INFO", "WARNING", "ERROR"))
    log_format: str = _setting("json", "`json` for machines, `text` for people", _choice("json", "text"))
    artifacts: Path | None = _setting(
        None, "folder of model versions (or one artifact); empty is the one shipped", _path
    )
    model_version: str = _setting(
        "",
        "version to serve, or a kind (`baseline`) for the newest of it; `SERVICE=` before it means that service alone, "
        "several comma separated; empty is the current one",
    )
    model_url: str = _setting(
        "",
        "`s3://BUCKET/KEY` of a `model.tar.gz` that a Lambda function fetches and keeps; "
        "empty is the one in its package",
    )
    model_check_seconds: float = _setting(
        60.0, "seconds after which a Lambda function asks S3 whether another model is there", _number(1, 86400, False)
    )
    cors_origins: str = _setting(
        "", "origins whose pages may ask a Lambda function, comma separated, or `*`; empty none"
    )
    max_body_bytes: int = _setting(
        8_388_608,
        "largest request body [bytes]; what it may become follows from it, see limits.md",
        _number(1_000, 1_000_000_000),
    )
    connections: int = _setting(
        1_000,
        "most connections of a serving process; one more ends the one that has waited longest for its client",
        _number(16, 100_000),
    )
    idle_seconds: float = _setting(75.0, "seconds a connection is kept for the next request", _number(1, 3600, False))
    head_seconds: float = _setting(
        10.0, "seconds a client has for a request's line and headers", _number(0.1, 3600, False)
    )
    body_seconds: float = _setting(300.0, "seconds a client has for a body at most", _number(0.1, 86400, False))
    slowest_rate: float = _setting(
        4_000.0, "least rate of a body, and of reading an answer [bytes/s]", _number(1, 1_000_000_000, False)
    )
    stall_seconds: float = _setting(
        20.0, "seconds a client may be slower than that before it is cut off", _number(0.1, 3600, False)
    )
    max_in_flight_bytes: int = _setting(
        33_554_432, "most bytes published and not yet acknowledged [bytes]", _number(1_000, 10_000_000_000)
    )
    max_records: int = _setting(5_000, "most messages in one poll", _number(1, 1_000_000))
    block_rows: int = _setting(
        64,
        "answers of one key in one poll from which on they travel as one Arrow block; 0 never",
        _number(0, 1_000_000),
    )
    instance_id: str = _setting("", "static member id (the pod's name): a restart keeps its partitions")
    forecast_updates: str = _setting(
        "",
        "how often `consume` issues forecasts between the issue times: `step` (each new interval), or hours of the "
        "local clock (1, 2, 3, 4, 6, 8 or 12); empty is never. For models that forecast the rest of a day",
        _choice("", "step", "1", "2", "3", "4", "6", "8", "12"),
    )
    forecast_days: int = _setting(
        1,
        "local days after that of its issue time that a forecast covers where there are such updates",
        _number(0, 7),
    )
    holidays: Mapping[str | None, str] = _setting(
        {},
        "whose public holidays series of the bus have whose rows do not say: a country (`DE`), a subdivision (`DE-BY`) "
        "or `none`; `SERIES=` before it means that one alone, several comma separated; empty are those of the time "
        "zone's country. `serve` and `consume` need the same",
        _holidays,
    )
    follow_histories: bool = _setting(
        True,
        "whether `serve` of a forecasting service keeps histories from the bus; without it requests bring theirs",
        _flag,
    )
    envelopes: Mapping[str, str] = _setting(
        {},
        "what readings on a topic are wrapped in, `TOPIC=ENVELOPE`, comma separated: `cloudevents` (binary or "
        "structured), `connect` (Kafka Connect's `{schema, payload}`) or `registry` (a schema registry's five bytes "
        "before JSON)",
        _envelopes,
    )
    session_timeout: float = _setting(
        10.0, "seconds without a sign of life after which a member's partitions move", _number(1, 3600, False)
    )
    skip_unreadable: bool = _setting(
        False,
        "whether a batch on Kafka that cannot be read (codec, checksum) is left out, logged and counted; "
        "else liveness fails and names it",
        _flag,
    )
    poll_age_limit: float = _setting(
        60.0, "seconds without a poll after which a consumer's liveness fails", _number(1, 3600, False)
    )
    retry_for: float = _setting(
        300.0, "seconds a consumer retries a bus that fails before it exits", _number(0, 86400, False)
    )
    database: str = _setting(
        "duckdb:.run/kappawatt.duckdb", "analytics store of `sink`: `duckdb:FILE` or `postgresql://...`"
    )
    from_beginning: bool = _setting(
        False,
        "whether the sink, when it starts, lands everything the bus has once more, from the beginning of each log",
        _flag,
    )
    services: str = _setting("", "where the gateway finds services: `name=http://host:port`, comma separated")
    discovery: str = _setting(
        "static",
        "how the gateway finds more of them: `static` not at all, `kubernetes` by the label `kappawatt.io/service` "
        "of the Services in its namespace",
        _choice("static", "kubernetes"),
    )
    api_keys: Path | None = _setting(None, "file of API keys, one `role:sha256-of-key:name` a line", _path)
    open_access: bool = _setting(
        False,
        "whether a gateway without API keys may listen beyond localhost: whoever reaches it may do everything",
        _flag,
    )
    rate_limit: str = _setting("100/second", "requests a client may make at the gateway, where keys are asked for")
    state: Path | None = _setting(
        None,
        "folder for what a process has to remember over a restart; empty is beside the embedded bus",
        _path,
    )
    weather: Path | None = _setting(
        None,
        "settings file of weather, TOML or JSON: stations whose weather the ingestor reads from Open-Meteo or DWD "
        "MOSMIX and puts on the bus; empty reads none",
        _path,
    )
    data: Path | None = _setting(None, "folder of data sets; empty downloads, or else generates", _path)
    kafka: Mapping[str, str] = field(default_factory=dict)

    def pinned(self, service: str) -> str | None:
        """Return the model version or kind that a service is to serve; None is its current one."""
        pins = self.pins()
        return pins.get(service, pins.get(None))

    def pins(self) -> dict[str | None, str]:
        """Return versions or kinds by service, None for all others; SettingInvalid if that cannot be read."""
        pins: dict[str | None, str] = {}
        for entry in self.model_version.split(",") if self.model_version else ():
            left, equals, right = (part.strip() for part in entry.partition("="))
            service, version = (left, right) if equals else (None, left)
            if not version or service == "" or service in pins:
                allowed = "VERSION, a kind such as baseline, or SERVICE=VERSION, comma separated, each service once"
                raise SettingInvalid.of(PREFIX + "MODEL_VERSION", repr(self.model_version), allowed)
            pins[service] = version
        return pins

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ, **given: Any) -> Settings:
        """Return settings from `environ`, overridden by `given` (None is not given).

        Raises
        ------
        SettingInvalid
            A variable has a value that cannot be used; the message names it.
        """
        values: dict[str, Any] = {}
        for item in fields(cls):
            name = PREFIX + item.name.upper()
            if item.name == "kafka" or name not in environ:
                continue
            try:
                values[item.name] = item.metadata["read"](environ[name])
            except ValueError as error:
                raise SettingInvalid(f"{name}: got {environ[name]!r}, {error}") from None
        known = {PREFIX + item.name.upper() for item in fields(cls)}
        client = {
            name.removeprefix(PREFIX + KAFKA).lower().replace("_", "."): value
            for name, value in environ.items()
            if name.startswith(PREFIX + KAFKA) and name not in known
        }
        values["kafka"] = client
        return cls(**values | {name: value for name, value in given.items() if value is not None})


def settings_table() -> str:
    """Return all settings as a Markdown table for docs."""
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for item in fields(Settings):
        if item.name == "kafka":
            lines.append("| `KAPPAWATT_KAFKA_*` | | Kafka client settings under their own names (see above) |")
            continue
        default = "" if item.default in (None, "", MISSING) else f"`{item.default}`"
        lines.append(f"| `{PREFIX}{item.name.upper()}` | {default} | {item.metadata['meaning']} |")
    return "\n".join(lines)
