"""Calls to AWS as values: shown, checked against botocore's own service model, and sent one by one.

Nothing is tried a second time behind the caller's back: botocore's retries are off.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kappawatt.columns.schema import shorten
from kappawatt.errors import KappawattError, SettingInvalid

__all__ = ["Aws", "Call", "CallFailed", "DeployFailed", "check", "missing"]

SHORT_BODY = 200  # bytes that are shown as they are
MOST_CHOICES = 12  # shown of an enumeration
THROTTLED = ("ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown")
UNREACHED = ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError")


class DeployFailed(KappawattError):
    """The platform did not do what was asked; the message says in whose words."""

    title = "Deployment failed"


class CallFailed(DeployFailed):
    """One call was refused or not answered.

    Parameters
    ----------
    call : Call
    code : str
        AWS's error code; the name of botocore's error where AWS said nothing.
    said : str
        What AWS said.
    http_status : int
        HTTP status of the answer, 0 without one.
    """

    def __init__(self, call: Call, code: str, said: str, http_status: int = 0) -> None:
        self.call = call
        self.code = code
        self.said = said
        self.http_status = http_status
        super().__init__(f"{call.name}: {code}: {said}")

    @property
    def is_passing(self) -> bool:
        """Whether the same call may well be answered later: throttled, not reached, or an error of AWS itself."""
        return self.http_status >= 500 or self.code in (*THROTTLED, *UNREACHED)


@dataclass(frozen=True, slots=True)
class Call:
    """One operation with its parameters.

    Parameters
    ----------
    service, operation : str
        In botocore's words: `sagemaker`, `CreateModel`.
    parameters : mapping
    when : str
        When it is sent; empty is always.
    """

    service: str
    operation: str
    parameters: Mapping[str, Any]
    when: str = ""

    @property
    def name(self) -> str:
        """`sagemaker.CreateModel`."""
        return f"{self.service}.{self.operation}"

    def to_json(self) -> dict[str, Any]:
        """Return what `--dry-run` prints; long bodies by size, short ones as text."""
        shown = {name: _shown(value) for name, value in self.parameters.items()}
        document: dict[str, Any] = {"service": self.service, "operation": self.operation, "parameters": shown}
        return document | ({"when": self.when} if self.when else {})


def check(call: Call) -> None:
    """Raise SettingInvalid unless botocore's service model allows the call.

    botocore's ParamValidator looks at names, types and least values; patterns, greatest lengths and enumerations,
    which AWS refuses later, are looked at here from the same model.
    """
    botocore = _botocore()
    shape = _service_model(call.service).operation_model(call.operation).input_shape
    report = botocore.validate.ParamValidator().validate(dict(call.parameters), shape)
    problems = (
        report.generate_report().splitlines() if report.has_errors() else list(_problems(shape, call.parameters, ""))
    )
    if problems:
        raise SettingInvalid(f"{call.name}: {'; '.join(problems)}")


def missing(error: CallFailed) -> bool:
    """Return whether the call was refused because the thing it names does not exist.

    SageMaker has no code for that: DescribeModel and its kin answer a ValidationException "Could not find ...".
    """
    if error.call.service == "s3":
        return error.code in ("404", "NoSuchKey", "NotFound")
    return error.code == "ValidationException" and "could not find" in error.said.lower()


class Aws:
    """Sends calls in one region, with the credentials boto3 finds (environment, profile, instance role)."""

    def __init__(self, region: str | None = None, make_client: Callable[[str], Any] | None = None) -> None:
        self._region = region
        self._make_client = make_client or self._client_of
        self._clients: dict[str, Any] = {}

    def send(self, call: Call) -> dict[str, Any]:
        """Return AWS's answer.

        Raises
        ------
        CallFailed
            It was refused, or there was no answer.
        """
        botocore = _botocore()
        errors = botocore.exceptions
        try:
            client = self._clients.get(call.service)
            if client is None:
                client = self._clients[call.service] = self._make_client(call.service)
            method = getattr(client, botocore.xform_name(call.operation))
            answer: dict[str, Any] = method(**call.parameters)
        except errors.ClientError as error:
            document = error.response.get("Error", {})
            http = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            said = document.get("Message") or str(error)
            raise CallFailed(call, str(document.get("Code") or "ClientError"), said, http) from error
        except errors.BotoCoreError as error:
            raise CallFailed(call, type(error).__name__, str(error)) from error
        return answer

    def _client_of(self, service: str) -> Any:
        import boto3

        once = _botocore().config.Config(retries={"total_max_attempts": 1})
        return boto3.session.Session(region_name=self._region).client(service, config=once)


def _botocore() -> Any:
    try:
        import botocore
        import botocore.config
        import botocore.exceptions
        import botocore.session
        import botocore.validate
    except ImportError:
        raise SettingInvalid("boto3 is not installed: pip install 'kappawatt[aws]'") from None
    return botocore


@functools.cache
def _service_model(service: str) -> Any:
    return _botocore().session.Session().get_service_model(service)


def _shown(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    return value.decode() if len(value) <= SHORT_BODY and value.isascii() else f"<{len(value)} bytes>"


def _problems(shape: Any, value: Any, where: str) -> list[str]:
    """Return what is wrong with `value` by pattern, greatest length or value, and enumeration."""
    if shape.type_name == "structure":
        inner = [(shape.members[name], item, f"{where}.{name}".strip(".")) for name, item in value.items()]
    elif shape.type_name == "list":
        inner = [(shape.member, item, f"{where}[{i}]") for i, item in enumerate(value)]
    elif shape.type_name == "map":
        inner = [(shape.value, item, f"{where}[{key!r}]") for key, item in value.items()]
    else:
        reason = _reason(shape, value)
        return [f"{where}: got {shorten(value)!r}, allowed {reason}"] if reason else []
    return [problem for part in inner for problem in _problems(*part)]


def _reason(shape: Any, value: Any) -> str | None:
    limit = shape.metadata.get("max")
    if shape.type_name in ("integer", "long", "float", "double"):
        return f"{limit} at most" if limit is not None and value > limit else None
    if not isinstance(value, str | bytes):
        return None
    if limit is not None and len(value) > limit:
        return f"{limit} {'bytes' if isinstance(value, bytes) else 'characters'} at most, not {len(value)}"
    choices = getattr(shape, "enum", None) or []
    if choices and value not in choices:
        near = difflib.get_close_matches(str(value), choices, MOST_CHOICES // 2, 0.3) or list(choices)
        shown = choices if len(choices) <= MOST_CHOICES else [*near[:MOST_CHOICES], "..."]
        return ", ".join(shown)
    pattern = shape.metadata.get("pattern")
    if pattern is None or isinstance(value, bytes):
        return None
    try:
        return None if re.fullmatch(pattern, value) else f"what matches {pattern}"
    except re.error:  # some use Java's classes, \p{L}; AWS will say itself
        return None
