"""Whether a cluster can be reached as who we say we are, and if not, why.

kafka-python tries again for ever on a wrong password and then only says that it was unable to bootstrap; the reason
stands in its log alone, as the exception of every attempt. So a consumer without a group knocks first: it is closed
whatever comes of it, and an attempt that fails leaves no thread and no socket behind.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer
from kafka import errors as kafka_errors

from kappawatt.bus.kafka.failures import REFUSED, is_untrusted
from kappawatt.bus.kafka_clients import is_uncertified

__all__ = ["reach"]

# Any version does that every broker still speaks: with one given, the client is made without asking a broker.
KNOCK = {
    "api_version": (2, 5),
    "enable_auto_commit": False,
    "fetch_max_wait_ms": 1,  # below any request_timeout_ms
    "metrics_enabled": False,
    "reconnect_backoff_max_ms": 1_000,
}
LOOK_SECONDS = 0.05
CONNECT_SECONDS = 2.0
HANG_UPS = 2  # one may be a broker that goes down


def reach(servers: Sequence[str], settings: Mapping[str, Any], timeout: float) -> None:
    """Return once a broker has told of its cluster.

    Raises
    ------
    KafkaError
        None has within `timeout` seconds, or at once when one refuses this client: with the reason, as far as
        kafka-python's log or the way the connection ended tells it.
    """
    deadline = time.monotonic() + timeout
    refusal: BaseException | None = None
    with _told() as reasons:
        knocking = KafkaConsumer(bootstrap_servers=list(servers), **{**KNOCK, **settings})
        answer = _Answer(knocking)
        try:
            known = 0
            while answer.is_alive() and refusal is None and time.monotonic() < deadline:
                answer.join(LOOK_SECONDS)
                if len(reasons) > known:
                    known = len(reasons)
                    refusal = _refusal(reasons, servers, "sasl_mechanism" in settings)
            if refusal is not None:
                answer.join(LOOK_SECONDS)  # it may be another client of this process that was refused
            if answer.came:
                return
            last = reasons[-1] if reasons else kafka_errors.KafkaTimeoutError(f"no answer within {timeout:g} s")
        finally:
            knocking.close(autocommit=False, timeout_ms=0)
    raise refusal or last


class _Answer(threading.Thread):
    """Waits for a broker's answer; `bootstrap` keeps no timeout of its own, and ends when the client is closed."""

    def __init__(self, client: KafkaConsumer) -> None:
        super().__init__(name="kafka-knock", daemon=True)
        self.client = client
        self.came = False
        self.start()

    def run(self) -> None:
        with contextlib.suppress(kafka_errors.KafkaError, RuntimeError):
            self.client.bootstrap()
            self.came = True


@contextlib.contextmanager
def _told() -> Iterator[list[BaseException]]:
    """Collect the exceptions that kafka-python tells its log."""
    handler = _Reasons()
    logger = logging.getLogger("kafka")
    logger.addHandler(handler)
    try:
        yield handler.reasons
    finally:
        logger.removeHandler(handler)


class _Reasons(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.reasons: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple):
            self.reasons += [told for told in record.args if isinstance(told, BaseException)]


def _refusal(reasons: Sequence[BaseException], servers: Sequence[str], is_sasl: bool) -> BaseException | None:
    """Return what says that trying on is useless, if anything does."""
    for reason in reasons:
        if isinstance(reason, REFUSED) or is_untrusted(reason) or is_uncertified(reason):
            return reason
    # A broker's words are lost when the end of the connection comes together with them.
    ended = {id(reason) for reason in reasons if isinstance(reason, kafka_errors.KafkaConnectionError)}
    if is_sasl and len(ended) >= HANG_UPS and all(map(_is_open, servers)):
        hung_up: BaseException = kafka_errors.SaslAuthenticationFailedError("connection closed by the broker")
        return hung_up
    return None


def _is_open(server: str) -> bool:
    host, _, port = server.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS):
            return True
    except (OSError, ValueError):
        return False
