"""Choose the bus by its URL."""

from __future__ import annotations

from collections.abc import Callable

from kappawatt.bus.interface import Bus, BusOptions
from kappawatt.errors import SettingInvalid
from kappawatt.settings import Settings

__all__ = ["connect", "connect_as"]


def connect_as(settings: Settings, skipped: Callable[[str, int], None] = lambda topic, partition: None) -> Bus:
    """Return the bus that settings name, which tells `skipped` what it could not read and left out; see `connect`."""
    options = BusOptions(
        settings.max_in_flight_bytes,
        settings.session_timeout,
        settings.kafka_client,
        settings.kafka,
        settings.skip_unreadable,
        skipped,
        settings.envelopes,
    )
    return connect(settings.bus, options)


def connect(url: str, options: BusOptions | None = None) -> Bus:
    """Return the bus that `url` names.

    Parameters
    ----------
    url : str
        `embedded:FILE` (a SQLite file) or `kafka://HOST:PORT[,HOST:PORT]`. Which Kafka client speaks is
        `options.kafka_client`.

    Raises
    ------
    SettingInvalid
        The URL names no known bus, or its client is not installed.
    """
    options = options or BusOptions()
    scheme, _, rest = url.partition(":")
    address = rest.removeprefix("//").rstrip("/")
    if scheme == "embedded":
        from kappawatt.bus.embedded import EmbeddedBus

        return EmbeddedBus(rest, options)
    if scheme == "kafka" and address and not address.startswith("/"):
        if options.kafka_client == "confluent":
            from kappawatt.bus.confluent import ConfluentBus

            return ConfluentBus(address, options)
        from kappawatt.bus.kafka import KafkaBus

        return KafkaBus(address, options)
    raise SettingInvalid(f"bus: got {url!r}, allowed embedded:FILE or kafka://HOST:PORT[,HOST:PORT]")
