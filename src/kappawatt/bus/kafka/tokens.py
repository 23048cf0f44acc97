"""Tokens of OAUTHBEARER for kafka-python, which asks for one whenever it connects."""

from __future__ import annotations

from kafka import errors as kafka_errors
from kafka.net.sasl.oauth import AbstractTokenProvider

from kappawatt.bus.kafka_tokens import TokenMissing, TokenSource

__all__ = ["Tokens"]


class Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """Gives kafka-python the tokens of a source."""

    def __init__(self, source: TokenSource) -> None:
        super().__init__()
        self._source = source

    def token(self) -> str:
        """Return a token that has not ended."""
        try:
            return self._source.token()[0]
        except TokenMissing as error:
            raise kafka_errors.SaslAuthenticationFailedError(str(error)) from error

    def extensions(self) -> dict[str, str]:
        """Return what the broker is sent beside the token."""
        return self._source.extensions
