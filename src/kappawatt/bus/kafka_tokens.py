"""Tokens of OAUTHBEARER: from a file that something else renews, or from a command that prints one.

A command covers whatever has a signer or a login of its own, as Amazon MSK's IAM has.
"""

from __future__ import annotations

import base64
import binascii
import shlex
import subprocess
import threading
import time
from collections.abc import Mapping
from math import inf
from pathlib import Path

import orjson

from kappawatt.clock import is_within, machine_seconds
from kappawatt.errors import SettingInvalid

__all__ = ["TokenMissing", "TokenSource", "expiry_of", "read_extensions"]

LIFE_SECONDS = 300.0  # of a token that does not say when it ends; MSK's live 15 minutes
COMMAND_SECONDS = 20.0
EARLY = 0.2  # of its life before its end another token is asked for
PRINTABLE = frozenset(range(0x21, 0x7F))


class TokenMissing(Exception):
    """There is no token; the message says where it was to come from, and never what came."""


class TokenSource:
    """Where tokens come from. Shared by threads.

    Parameters
    ----------
    file : str
        Read again when the token from it nears its end; "" if `command` is given.
    command : str
        Words of a command, without a shell.
    extensions : mapping of str to str
        What the broker is sent beside the token.
    """

    def __init__(self, file: str = "", command: str = "", extensions: Mapping[str, str] | None = None) -> None:
        self._file = file
        self._command = shlex.split(command)
        self.extensions = dict(extensions or {})
        self._lock = threading.Lock()
        self._token: tuple[str, float] | None = None
        self._renew = 0.0  # s since the epoch
        self._ahead = 0.0  # s; the most that `_renew` can be ahead
        self._taken: float | None = None  # machine's s
        self._used = 0.0  # s from then on

    @property
    def name(self) -> str:
        """Where tokens come from, for messages."""
        return f"token of {self._file!r}" if self._file else f"token of command {self._command[0]!r}"

    def token(self) -> tuple[str, float]:
        """Return a token and when it ends [s since the epoch, UTC].

        Raises
        ------
        TokenMissing
        """
        with self._lock:
            if self._token is None or self._is_due() or self._file:
                text = self._read() if self._file else self._run()
                if self._token is None or text != self._token[0] or self._is_due():
                    self._take(text)
            assert self._token is not None
            return self._token

    def _is_due(self) -> bool:
        """Whether another token is asked for: by the machine's clock, as the time of day may have been set meanwhile,
        and by that one too, which says when a token ends.
        """
        if not is_within(self._used, self._taken, machine_seconds()):
            return True
        return not 0 <= self._renew - time.time() <= self._ahead

    def _take(self, text: str) -> None:
        if not text or not PRINTABLE.issuperset(text.encode()):
            raise TokenMissing(
                f"{self.name}: got {len(text)} characters, allowed a token of printable ASCII characters"
            )
        now = time.time()
        said = expiry_of(text)
        end = said or now + LIFE_SECONDS
        if end <= now:
            raise TokenMissing(f"{self.name}: ended {now - end:.0f} s ago")
        self._token, self._renew = (text, end), end - EARLY * (end - now)
        self._ahead = inf if said else end - now
        self._taken, self._used = machine_seconds(), self._renew - now

    def _read(self) -> str:
        try:
            return Path(self._file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
            raise TokenMissing(f"{self.name}: cannot be read: {reason}") from error

    def _run(self) -> str:
        try:
            done = subprocess.run(  # noqa: S603 (the operator's own command)
                self._command, capture_output=True, timeout=COMMAND_SECONDS, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise TokenMissing(f"{self.name}: no token within {COMMAND_SECONDS:g} s") from None
        except OSError as error:
            raise TokenMissing(f"{self.name}: cannot be run: {error.strerror}") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise TokenMissing(f"{self.name}: ended with {done.returncode}: {said[-1][:200] if said else 'no word'}")
        return done.stdout.decode("utf-8", "replace").strip()


def expiry_of(token: str) -> float | None:
    """Return when a JSON Web Token ends [s since the epoch, UTC]; None if it does not say, or is none.

    References
    ----------
    https://www.rfc-editor.org/rfc/rfc7519#section-4.1.4
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    end = claims.get("exp") if isinstance(claims, dict) else None
    return float(end) if isinstance(end, int | float) and not isinstance(end, bool) else None


def read_extensions(text: str) -> dict[str, str]:
    """Read `NAME=VALUE,NAME=VALUE`. Raises SettingInvalid."""
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.strip().partition("=")
        if not equals or not name.isalpha() or name == "auth":
            raise SettingInvalid(f"sasl.oauthbearer.extensions: got {part[:80]!r}, allowed NAME=VALUE of letters")
        found[name] = value
    return found
