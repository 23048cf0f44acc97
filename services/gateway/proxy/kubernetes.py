"""Kubernetes objects of one kind, with one label, in the gateway's own namespace: listed, and watched from there on.

Each minute the watch ends and they are listed again, which also covers a watch that expired or went silent. While the
API server is away, the objects last seen stay.

The `kubernetes` client finds the API server, its certificates and this process's credentials (and renews them). Its
generated classes stay out: CoreV1Api alone takes 22 MB and half a second to import, for one GET.
"""

from __future__ import annotations

import logging
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util.ssl_ import create_urllib3_context

from kappawatt.bus.retrying import RetryingThread

__all__ = ["Kind", "Watch", "account_token", "in_cluster", "kubeconfig"]

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
KUBECONFIG = "~/.kube/config"
WATCH_SECONDS = (50, 70)
CONNECT_SECONDS = 3.0
LIST_SECONDS = 10.0
SILENT_SECONDS = 15.0  # after the end of a watch, until its connection counts as dead
RETRY_SECONDS = (0.25, 10.0)  # first and longest wait after a failure
LEAST_SECONDS = 1.0  # between two listings

log = logging.getLogger(__name__)


def account_token() -> Path:
    """Return where a pod has the token of its service account."""
    return ACCOUNT / "token"


def kubeconfig() -> str:
    """Return the files, one or several, that say where a cluster is."""
    return os.environ.get("KUBECONFIG", KUBECONFIG)


def in_cluster() -> bool:
    """Whether this process runs in a pod that may ask the API server."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and account_token().is_file()


@dataclass(frozen=True, slots=True)
class Kind:
    """What is watched.

    Parameters
    ----------
    group : str
        Path of its API group and version, such as `api/v1`.
    plural : str
        Its name in paths and roles.
    label : str
        The label it must have, whatever its value.
    """

    group: str
    plural: str
    label: str


class _Refused(Exception):
    """The API server said no."""

    def __init__(self, status: int, reason: str, plural: str) -> None:
        allowed = f", allowed an account that may get, list and watch {plural}" if status in (401, 403) else ""
        super().__init__(f"the API server answered {status} {reason}{allowed}")
        self.status = status


class _Api:
    """The objects of one kind in one namespace."""

    def __init__(self, kind: Kind) -> None:
        from kubernetes import config
        from kubernetes.client.api_client import ApiClient
        from kubernetes.client.configuration import Configuration

        self._kind = kind
        self._configuration = Configuration()
        if in_cluster():
            config.load_incluster_config(self._configuration)  # type: ignore[no-untyped-call]
            self.namespace = (ACCOUNT / "namespace").read_text().strip()
        else:
            path = kubeconfig()
            config.load_kube_config(path, client_configuration=self._configuration)  # type: ignore[no-untyped-call]
            _, context = config.list_kube_config_contexts(path)  # type: ignore[no-untyped-call]
            self.namespace = context["context"].get("namespace", "default")
        self._pool: urllib3.PoolManager = ApiClient(self._configuration).rest_client.pool_manager
        self._pool.connection_pool_kw["ssl_context"] = _context(self._configuration)
        self._watched: urllib3.BaseHTTPResponse | None = None

    def all(self) -> tuple[list[dict[str, Any]], str]:
        """Return all there are, and the version to watch on from."""
        answer = self._get({}, LIST_SECONDS)
        document = orjson.loads(answer.data)
        answer.release_conn()
        return document["items"], document["metadata"]["resourceVersion"]

    def watch(self, version: str, seconds: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give each change after `version` as it comes, for `seconds`: what happened, and the object."""
        asked = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(seconds)}
        self._watched = answer = self._get(asked, seconds + SILENT_SECONDS)
        try:
            for line in answer:
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise _Refused(status.get("code", 0), status.get("message", ""), self._kind.plural)
                yield event["type"], event["object"]
        finally:
            self._watched = None
            answer.close()

    def interrupt(self) -> None:
        """End a watch that waits in another thread."""
        with suppress(ValueError, RuntimeError, OSError):  # it has just ended
            if self._watched is not None:
                self._watched.shutdown()

    def _get(self, more: Mapping[str, str], seconds: float) -> urllib3.BaseHTTPResponse:
        bearer = self._configuration.auth_settings().get("BearerToken")
        path = f"{self._kind.group}/namespaces/{quote(self.namespace)}/{self._kind.plural}"
        answer = self._pool.request(
            "GET",
            f"{self._configuration.host}/{path}",
            fields={"labelSelector": self._kind.label, **more},
            headers={"Authorization": str(bearer["value"])} if bearer else {},
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=seconds),
            retries=False,
            preload_content=False,
        )
        if answer.status != HTTPStatus.OK:
            reason = answer.reason or ""
            answer.close()
            raise _Refused(answer.status, reason, self._kind.plural)
        return answer


def _context(configuration: Any) -> ssl.SSLContext:
    """Return TLS that verifies as Python up to 3.12 does.

    Python 3.13 also wants extensions in the CA's certificate that those of many clusters do not have (of MicroK8s, of
    older EKS). Signature, dates and name are checked as ever.
    """
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if configuration.verify_ssl else ssl.CERT_NONE)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not configuration.ssl_ca_cert:  # public authorities; urllib3 takes them only into a context of its own
        context.load_default_certs()
    return context


class Watch(RetryingThread):
    """The thread that lists and watches; it asks for nothing until `wanted` is set.

    Parameters
    ----------
    kind : Kind
    changed : callable
        Called in this thread whenever `objects`, `failure` or `is_refused` have changed.
    """

    def __init__(self, kind: Kind, changed: Callable[[], None]) -> None:
        super().__init__(f"discovery of {kind.plural}")
        self.wanted = threading.Event()
        self.objects: Mapping[str, dict[str, Any]] | None = None  # by name; replaced as a whole, never changed
        self.is_refused = False  # this account may not, or there is no such kind
        self._kind = kind
        self._changed = changed
        self._api: _Api | None = None
        self._failures = 0

    @property
    def namespace(self) -> str:
        """Where the objects are; known once they were listed."""
        return "" if self._api is None else self._api.namespace

    @property
    def is_settled(self) -> bool:
        """Whether the objects are known, or why they are not."""
        return self.objects is not None or self.failure is not None

    def stop(self, timeout: float = 5.0) -> None:
        """Have the watch end, and wait for it."""
        self.stopped.set()
        self.wanted.set()
        if self._api is not None:
            self._api.interrupt()
        super().stop(timeout)

    def _run(self) -> None:
        from kubernetes.config import ConfigException

        self.wanted.wait()
        began = time.monotonic()
        try:
            if not self.stopped.is_set():
                self._follow()
        except (_Refused, ConfigException, HTTPError, OSError) as error:
            if self.stopped.is_set():
                return
            if not isinstance(error, _Refused) or error.status != HTTPStatus.GONE:
                self._note_failure(error)
                return
            log.info("the watch has expired; listing again", extra={"kind": self._kind.plural})
        self.stopped.wait(max(0.0, LEAST_SECONDS - (time.monotonic() - began)))

    def _note_failure(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, _Refused) else f"{type(error).__name__}: {error}"
        if isinstance(error, _Refused) and error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            self.is_refused = True
        if reason != self.failure:
            log.warning("cannot be listed or watched", extra={"kind": self._kind.plural, "error": reason})
            self.failure = reason
            self._changed()
        shortest, longest = RETRY_SECONDS
        wait = min(shortest * 2**self._failures, longest)
        self._failures = min(self._failures + 1, 10)
        self.stopped.wait(wait * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, not a secret)

    def _follow(self) -> None:
        """List, then watch from there until the server ends the watch."""
        if self._api is None:
            self._api = _Api(self._kind)
        listed, version = self._api.all()
        if self.failure is not None:
            log.info("listed again", extra={"kind": self._kind.plural, "objects": len(listed)})
        self.failure, self.is_refused, self._failures = None, False, 0
        self._see({each["metadata"]["name"]: each for each in listed})
        if self.stopped.is_set():  # while it listed: there was no watch to interrupt
            return
        for what, changed in self._api.watch(version, random.randint(*WATCH_SECONDS)):  # noqa: S311 (jitter)
            if self.stopped.is_set():
                return
            name, seen = changed["metadata"]["name"], dict(self.objects or {})
            # An object that loses the label is DELETED as far as this watch goes.
            if what == "DELETED":
                seen.pop(name, None)
            elif what in ("ADDED", "MODIFIED"):
                seen[name] = changed
            self._see(seen)

    def _see(self, objects: Mapping[str, dict[str, Any]]) -> None:
        self.objects = objects
        self._changed()
