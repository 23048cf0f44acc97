"""Services found by their label in Kubernetes, so that a new one appears behind the gateway without a redeploy.

A Service with the label `kappawatt.io/service: NAME` and a port named `http`, in the gateway's own namespace, is
`/api/NAME`. The Services are listed and watched; each minute the watch ends and they are listed again, which also
covers a watch that expired or went silent. While the API server is away, the Services last seen stay.

The service account needs `get`, `list` and `watch` on `services` in its namespace, and nothing else.

The `kubernetes` client finds the API server, its certificates and this process's credentials (and renews them). Its
generated classes stay out: CoreV1Api alone takes 22 MB and half a second to import, for one GET.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util.ssl_ import create_urllib3_context

from kappawatt.errors import SettingInvalid
from kappawatt.settings import Settings
from kappawatt.surviving import SurvivingThread
from services.gateway.breaker import Breaker
from services.gateway.proxy import OWN_NAMES, SERVICE_NAME, Target

__all__ = ["LABEL", "KubernetesDiscovery", "check_discovery", "in_cluster"]

LABEL = "kappawatt.io/service"
PORT_NAME = "http"
OWN_SERVICE = "gateway"  # carries the label too; it is not behind itself
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
KUBECONFIG = "~/.kube/config"
WATCH_SECONDS = (50, 70)
CONNECT_SECONDS = 3.0
LIST_SECONDS = 10.0
SILENT_SECONDS = 15.0  # after the end of a watch, until its connection counts as dead
RETRY_SECONDS = (0.25, 10.0)  # first and longest wait after a failure
LEAST_SECONDS = 1.0  # between two listings

log = logging.getLogger(__name__)


def in_cluster() -> bool:
    """Whether this process runs in a pod that may ask the API server."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (ACCOUNT / "token").is_file()


def check_discovery(settings: Settings) -> None:
    """Raise SettingInvalid if services are to be found where there is nothing to ask."""
    if settings.discovery != "kubernetes":
        return
    if importlib.util.find_spec("kubernetes") is None:
        raise SettingInvalid(
            "KAPPAWATT_DISCOVERY: got 'kubernetes' without its client, allowed after pip install 'kappawatt[gateway]'"
        )
    paths = os.environ.get("KUBECONFIG", KUBECONFIG).split(os.pathsep)
    if not in_cluster() and not any(Path(path).expanduser().is_file() for path in paths if path):
        raise SettingInvalid(
            f"KAPPAWATT_DISCOVERY: got 'kubernetes' with neither a service account's token in {ACCOUNT} nor a file "
            f"{os.pathsep.join(paths)}, allowed in a pod that has its token, or where KUBECONFIG names a file"
        )


class _Refused(Exception):
    """The API server said no."""

    def __init__(self, status: int, reason: str) -> None:
        allowed = ", allowed an account that may get, list and watch services" if status in (401, 403) else ""
        super().__init__(f"the API server answered {status} {reason}{allowed}")
        self.status = status


class _Api:
    """The labelled Services of one namespace."""

    def __init__(self) -> None:
        from kubernetes import config
        from kubernetes.client.api_client import ApiClient
        from kubernetes.client.configuration import Configuration

        self._configuration = Configuration()
        if in_cluster():
            config.load_incluster_config(self._configuration)  # type: ignore[no-untyped-call]
            self.namespace = (ACCOUNT / "namespace").read_text().strip()
        else:
            path = os.environ.get("KUBECONFIG", KUBECONFIG)
            config.load_kube_config(path, client_configuration=self._configuration)  # type: ignore[no-untyped-call]
            _, context = config.list_kube_config_contexts(path)  # type: ignore[no-untyped-call]
            self.namespace = context["context"].get("namespace", "default")
        self._pool: urllib3.PoolManager = ApiClient(self._configuration).rest_client.pool_manager
        self._pool.connection_pool_kw["ssl_context"] = _context(self._configuration.verify_ssl)
        self._watched: urllib3.BaseHTTPResponse | None = None

    def all(self) -> tuple[list[dict[str, Any]], str]:
        """Return all there are, and the version to watch on from."""
        answer = self._get({}, LIST_SECONDS)
        document = orjson.loads(answer.data)
        answer.release_conn()
        return document["items"], document["metadata"]["resourceVersion"]

    def watch(self, version: str, seconds: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give each change after `version` as it comes, for `seconds`: what happened, and the Service."""
        asked = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(seconds)}
        self._watched = answer = self._get(asked, seconds + SILENT_SECONDS)
        try:
            for line in answer:
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    raise _Refused(event["object"].get("code", 0), event["object"].get("message", ""))
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
        answer = self._pool.request(
            "GET",
            f"{self._configuration.host}/api/v1/namespaces/{quote(self.namespace)}/services",
            fields={"labelSelector": LABEL, **more},
            headers={"Authorization": str(bearer["value"])} if bearer else {},
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=seconds),
            retries=False,
            preload_content=False,
        )
        if answer.status != HTTPStatus.OK:
            reason = answer.reason or ""
            answer.close()
            raise _Refused(answer.status, reason)
        return answer


def _context(verify: bool) -> ssl.SSLContext:
    """Return TLS that verifies as Python up to 3.12 does.

    Python 3.13 also wants extensions in the CA's certificate that those of many clusters do not have (of MicroK8s, of
    older EKS). Signature, dates and name are checked as ever.
    """
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if verify else ssl.CERT_NONE)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class KubernetesDiscovery(SurvivingThread):
    """The thread that lists and watches.

    Parameters
    ----------
    changed : callable
        Gets all services there are, whenever one came, went or moved.
    """

    def __init__(self, changed: Callable[[Sequence[Target]], None]) -> None:
        super().__init__("discovery")
        self._changed = changed
        self._api: _Api | None = None
        self._is_listed = False
        self._failures = 0
        self._ignored: dict[str, str] = {}

    def why_not_ready(self) -> str | None:
        """Return None once the services were listed, whatever happened since; else why they were not."""
        if self._is_listed:
            return None
        return f"services are not listed yet: {self.failure or 'the API server is being asked'}"

    def stop(self, timeout: float = 5.0) -> None:
        """Have the watch end, and wait for it."""
        self.stopped.set()
        if self._api is not None:
            self._api.interrupt()
        super().stop(timeout)

    def _run(self) -> None:
        from kubernetes.config import ConfigException

        began = time.monotonic()
        try:
            self._follow()
        except (_Refused, ConfigException, HTTPError, OSError) as error:
            if self.stopped.is_set():
                return
            if not isinstance(error, _Refused) or error.status != HTTPStatus.GONE:
                self._note_failure(str(error) if isinstance(error, _Refused) else f"{type(error).__name__}: {error}")
                return
            log.info("the watch has expired; listing again")
        self.stopped.wait(max(0.0, LEAST_SECONDS - (time.monotonic() - began)))

    def _note_failure(self, reason: str) -> None:
        if reason != self.failure:
            log.warning("services cannot be listed or watched; those last seen stay", extra={"error": reason})
        self.failure = reason
        shortest, longest = RETRY_SECONDS
        wait = min(shortest * 2**self._failures, longest)
        self._failures = min(self._failures + 1, 10)
        self.stopped.wait(wait * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, not a secret)

    def _follow(self) -> None:
        """List, then watch from there until the server ends the watch."""
        if self._api is None:
            self._api = _Api()
        listed, version = self._api.all()
        services = {service["metadata"]["name"]: service for service in listed}
        self._tell(services, self._api.namespace)
        self._is_listed = True
        if self.failure is not None:
            log.info("services are listed again", extra={"services": len(services)})
        self.failure, self._failures = None, 0
        for what, service in self._api.watch(version, random.randint(*WATCH_SECONDS)):  # noqa: S311 (jitter)
            if self.stopped.is_set():
                return
            # A Service that loses the label is DELETED as far as this watch goes.
            if what == "DELETED":
                services.pop(service["metadata"]["name"], None)
            elif what in ("ADDED", "MODIFIED"):
                services[service["metadata"]["name"]] = service
            self._tell(services, self._api.namespace)

    def _tell(self, services: Mapping[str, dict[str, Any]], namespace: str) -> None:
        found: dict[str, Target] = {}
        ignored: dict[str, str] = {}
        # Of two with one label the older one stays, so that nobody takes a name over.
        for name in sorted(services, key=lambda name: (services[name]["metadata"]["creationTimestamp"], name)):
            target = _target(services[name], namespace)
            if isinstance(target, str):
                ignored[name] = target
            elif target.name in found:
                ignored[name] = f"label {LABEL}: got {target.name!r}, which an older Service has"
            elif target.name != OWN_SERVICE:
                found[target.name] = target
        for name, reason in ignored.items():
            if self._ignored.get(name) != reason:
                log.warning("Service is ignored", extra={"service": name, "reason": reason})
        self._ignored = ignored
        self._changed(list(found.values()))


def _target(service: Mapping[str, Any], namespace: str) -> Target | str:
    """Return where a Service is, or why it cannot be used."""
    metadata, spec = service["metadata"], service["spec"]
    name = metadata["labels"][LABEL]
    if not SERVICE_NAME.fullmatch(name) or name in OWN_NAMES:
        allowed = f"small letters, digits and hyphens, none of {', '.join(OWN_NAMES)}"
        return f"label {LABEL}: got {name!r}, allowed {allowed}"
    ports = {port.get("name", str(port["port"])): port["port"] for port in spec.get("ports", ())}
    if PORT_NAME not in ports:
        return f"ports: got {', '.join(ports) or 'none'}, allowed one named {PORT_NAME}"
    # With `.svc`: a namespace may be called like a top-level domain, and names of it then end outside the cluster.
    host = f"{metadata['name']}.{namespace}.svc" if in_cluster() else spec.get("clusterIP", "None")
    if host in ("", "None"):
        return "it has no cluster IP, and its name is known only inside the cluster"
    return Target(name, "http", host, ports[PORT_NAME], Breaker(name))
