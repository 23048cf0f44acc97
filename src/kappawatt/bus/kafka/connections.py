"""Connections that remember why the last one failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafka import errors as kafka_errors
from kafka.future import Future
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from kappawatt.bus.kafka.failures import REFUSED, is_untrusted

__all__ = ["Client"]


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    """Connections that remember why the last one failed.

    kafka-python tries again for ever on a wrong password and then only says that it was unable to bootstrap.
    """

    def __init__(self, net: NetworkSelector, **configs: Any) -> None:
        super().__init__(net, **configs)
        self.failure: BaseException | None = None
        self._refused = Future()
        self._hung_up = 0
        # the client's own option of this name does not reach the metadata request
        self.cluster.config["allow_auto_create_topics"] = False

    def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        connection = super().get_connection(*args, **kwargs)
        if not connection.init_future.is_done and not hasattr(connection, "noted"):
            connection.noted = True
            connection.init_future.add_errback(self._note)
            connection._sasl_authenticate = self._watched(connection._sasl_authenticate)
        return connection

    def _watched(self, authenticate: Callable[..., Any]) -> Callable[..., Any]:
        """Count connections that end while authenticating: two are a refusal.

        The broker's reason is lost when it arrives together with the end of the connection, as kafka-python
        drops what it has read then.
        """

        async def watched(*args: Any, **kwargs: Any) -> None:
            try:
                await authenticate(*args, **kwargs)
            except kafka_errors.KafkaConnectionError as error:
                self._hung_up += 1
                if self._hung_up >= 2:
                    self._note(kafka_errors.SaslAuthenticationFailedError("connection closed by the broker"))
                raise error
            self._hung_up = 0

        return watched

    def bootstrap(self, timeout_ms: float | None = None, refresh: bool = True) -> None:
        async def bootstrapped_or_refused() -> None:
            first = Future()

            def settle(outcome: Callable[[Any], Any], value: Any) -> None:
                if not first.is_done:
                    outcome(value)

            done = self.bootstrap_async(timeout_ms, refresh)
            done.add_callback(lambda value: settle(first.success, value))
            done.add_errback(lambda error: settle(first.failure, error))
            self._refused.add_errback(lambda error: settle(first.failure, error))
            await first

        self._net.run(bootstrapped_or_refused)

    def _note(self, error: BaseException) -> None:
        self.failure = error
        if (isinstance(error, REFUSED) or is_untrusted(error)) and not self._refused.is_done:
            self._refused.failure(error)


class Client(KafkaNetClient):  # type: ignore[misc]
    """What kafka-python's producer, consumer and admin client talk through."""

    def __init__(self, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        self.manager = _Manager(net, **configs)
        super().__init__(net=net, manager=self.manager, **configs)
