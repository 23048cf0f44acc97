"""Every error that crosses a module border.

    KappawattError
    ├── FieldError                     may be one field's: carries field, value got and what is allowed
    │   ├── SettingInvalid             a setting is missing or cannot be read: the process stops at start
    │   ├── PayloadInvalid        400  the bytes cannot be read as what they claim to be
    │   │   ├── ContentTypeUnsupported 415
    │   │   └── PayloadTooLarge   413
    │   └── HistoryInsufficient   422  a series is not known well enough to be forecast
    ├── RowsRejected              422  the payload was read; rows broke the schema
    ├── ModelNotFound             404
    ├── ExtraMissing              501  a package is not installed that a model version needs
    ├── Overloaded                429  a bounded buffer is full; carries retry_after
    ├── NotReady                  503
    ├── NotStored             507  a file cannot be written; says if the disk is full
    ├── ArtifactInvalid                an artifact is damaged, or was made for other features
    └── BusError                  503
        ├── BusUnreachable
        ├── TopicUnknown
        ├── LogRenewed                 a topic was deleted and made again: its offsets begin anew
        ├── BatchUnreadable            codec or checksum: nothing behind it can be reached
        ├── DeliveryFailed
        │   ├── DeliveryLate
        │   └── WritesRefused          the bus takes no message at all: rights, replicas, its disk
        └── HistoriesBehind            a worker is still reading histories from the log; poll again

An HTTP status stands on the class and nowhere else; no route catches for itself.
"""

from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import ClassVar, Self

__all__ = [
    "ArtifactInvalid",
    "BatchUnreadable",
    "BusError",
    "BusUnreachable",
    "ContentTypeUnsupported",
    "DeliveryFailed",
    "DeliveryLate",
    "ExtraMissing",
    "FieldError",
    "HistoriesBehind",
    "HistoryInsufficient",
    "KappawattError",
    "LogRenewed",
    "ModelNotFound",
    "NotReady",
    "NotStored",
    "Overloaded",
    "PayloadInvalid",
    "PayloadTooLarge",
    "SettingInvalid",
    "TopicUnknown",
    "WritesRefused",
    "storage_reason",
]


class KappawattError(Exception):
    """Base of all errors raised on purpose."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"


class FieldError(KappawattError):
    """Base of errors that may be one field's: what was got, and what is allowed.

    Attributes
    ----------
    field, got : str or None
        The field at fault and the value received, as the message writes it; None if it is no single field's.
    allowed : str
        What would have been accepted; the whole message if it is no single field's.
    """

    field: str | None = None
    got: str | None = None

    def __init__(self, message: str) -> None:
        self.allowed = message
        super().__init__(message)

    @classmethod
    def of(cls, field: str, got: object, allowed: object) -> Self:
        """Return the error `FIELD: got GOT, allowed ALLOWED`, which carries the three."""
        error = cls(f"{field}: got {got}, allowed {allowed}")
        error.field, error.got, error.allowed = field, str(got), str(allowed)
        return error


class SettingInvalid(FieldError):
    """A setting is missing or has a value that cannot be used; the message names it."""

    title = "Invalid setting"


class PayloadInvalid(FieldError):
    """The body cannot be read as the content type it names."""

    status = 400
    title = "Unreadable payload"


class ContentTypeUnsupported(PayloadInvalid):
    """The content type is none that this door reads."""

    status = 415
    title = "Unsupported content type"


class PayloadTooLarge(PayloadInvalid):
    """The body is larger than the limit."""

    status = 413
    title = "Payload too large"


class HistoryInsufficient(FieldError):
    """Too little is known of a series for a forecast; the message names what is missing."""

    status = 422
    title = "History insufficient"


class ModelNotFound(KappawattError):
    """No model of that name or version is here."""

    status = 404
    title = "Model not found"


class ExtraMissing(KappawattError):
    """A package is not installed here that this version of a model needs; the message names the extra that has it."""

    status = 501
    title = "Not installed"

    @classmethod
    def of(cls, package: str | None, extra: str) -> Self:
        """Return the error that says how to install a package."""
        return cls(f"{package} is not installed: pip install 'kappawatt[{extra}]'")


class Overloaded(KappawattError):
    """A bounded buffer is full; try again after `retry_after` seconds."""

    status = 429
    title = "Too many requests"

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class NotReady(KappawattError):
    """The process runs but cannot answer yet."""

    status = 503
    title = "Not ready"


class NotStored(KappawattError):
    """A file cannot be written."""

    status = 507
    title = "Cannot be stored"


class ArtifactInvalid(KappawattError):
    """An artifact is damaged, or does not give its own example answer."""

    title = "Invalid artifact"


class BusError(KappawattError):
    """The bus did not do what was asked."""

    status = 503
    title = "Bus unavailable"


class BusUnreachable(BusError):
    """No broker answered within the time allowed."""


class TopicUnknown(BusError):
    """The topic does not exist on the bus."""


class LogRenewed(BusError):
    """A topic was deleted and made again: another log has its name, and offsets in it begin anew."""

    @classmethod
    def of(cls, topic: str, now: str, before: str) -> Self:
        """Return the error that names both logs."""
        return cls(f"topic {topic!r} was made again: got log {now}, allowed {before}, which positions here were of")


class SpanIncomplete(BusError):
    """The bus stopped giving messages before the end that was to be read up to."""


class BatchUnreadable(BusError):
    """A batch on the bus cannot be read: its codec is unknown, it is damaged, or its checksum is another.

    Attributes
    ----------
    topic, partition, offset
        The first message that cannot be read.
    """

    def __init__(self, topic: str, partition: int, offset: int, reason: object) -> None:
        self.topic, self.partition, self.offset = topic, partition, offset
        super().__init__(
            f"{topic}[{partition}]@{offset} cannot be read: {reason}; "
            "KAPPAWATT_SKIP_UNREADABLE=true goes on behind it and loses what is in it"
        )


class DeliveryFailed(BusError):
    """The bus did not acknowledge messages within the time allowed."""


class DeliveryLate(DeliveryFailed):
    """The bus has not acknowledged messages yet, and still may.

    Attributes
    ----------
    outcome : Future[bool]
        Decided later, in a thread of the bus's client: whether all of them were stored. If not, some may have been.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.outcome: Future[bool] = Future()


class WritesRefused(DeliveryFailed):
    """The bus takes no message on a topic, whatever it is: the right to write is missing, or replicas, or its disk."""


class HistoriesBehind(BusError):
    """Histories are still being read from the log; poll again, which shows that the member lives."""


FULL = (errno.ENOSPC, errno.EDQUOT)
SQLITE_FULL, SQLITE_IOERR = 13, 10
LEAST_FREE = 1 << 16  # bytes; SQLite writes pages and its index of a log in whole blocks


def storage_reason(error: Exception, path: Path) -> str:
    """Return why a file cannot be written, in the operator's words: `disk full` if that is it.

    Parameters
    ----------
    error : Exception
        Of the operating system or of SQLite, which also calls a disk that filled up in the middle an I/O error.
    path : Path
        The file.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == SQLITE_FULL or (isinstance(error, OSError) and error.errno in FULL):
        return f"disk full ({error})"
    if code == SQLITE_IOERR and _free(path) < LEAST_FREE:
        return f"disk full ({error})"
    return str(error)


def _free(path: Path) -> int:
    """How many bytes may still be written beside `path`."""
    try:
        return shutil.disk_usage(os.path.dirname(path) or ".").free
    except OSError:
        return LEAST_FREE
