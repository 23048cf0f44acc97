"""Services found by their label in Kubernetes, so that a new one appears behind the gateway without a redeploy.

A Service with the label `kappawatt.io/service: NAME` and a port named `http`, in the gateway's own namespace, is
`/api/NAME`. If it also has the annotation `kappawatt.io/route-by: idempotency-key`, its instances are found in its
EndpointSlices, for requests that must come to the same one again; while none is known, they go to the Service's
address.

The service account needs `get`, `list` and `watch` on `services` in its namespace, on `endpointslices` for that
annotation, and nothing else.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kappawatt.errors import SettingInvalid
from kappawatt.settings import Settings

from ..paths import OWN_NAMES
from .breaker import Breaker
from .forward import SERVICE_NAME, Address, Target
from .kubernetes import Kind, Watch, account_token, in_cluster, kubeconfig

__all__ = ["BY_IDEMPOTENCY_KEY", "LABEL", "ROUTE_BY", "KubernetesDiscovery", "check_discovery"]

LABEL = "kappawatt.io/service"
ROUTE_BY = "kappawatt.io/route-by"
BY_IDEMPOTENCY_KEY = "idempotency-key"  # the one value of that annotation
OF_SERVICE = "kubernetes.io/service-name"
SERVICES = Kind("api/v1", "services", LABEL)
SLICES = Kind("apis/discovery.k8s.io/v1", "endpointslices", OF_SERVICE)
PORT_NAME = "http"
OWN_SERVICE = "gateway"  # carries the label too; it is not behind itself

log = logging.getLogger(__name__)

Object = Mapping[str, Any]


def check_discovery(settings: Settings) -> None:
    """Raise SettingInvalid if services are to be found where there is nothing to ask."""
    if settings.discovery != "kubernetes":
        return
    if importlib.util.find_spec("kubernetes") is None:
        raise SettingInvalid(
            "KAPPAWATT_DISCOVERY: got 'kubernetes' without its client, allowed after pip install 'kappawatt[gateway]'"
        )
    paths = kubeconfig().split(os.pathsep)
    if not in_cluster() and not any(Path(path).expanduser().is_file() for path in paths if path):
        raise SettingInvalid(
            f"KAPPAWATT_DISCOVERY: got 'kubernetes' with neither a service account's token ({account_token()}) nor a "
            f"file {os.pathsep.join(paths)}, allowed in a pod that has its token, or where KUBECONFIG names a file"
        )


class KubernetesDiscovery:
    """What two watches see, made into services.

    Parameters
    ----------
    changed : callable
        Gets all services there are, whenever one or an instance of one came, went or moved.
    """

    def __init__(self, changed: Callable[[Sequence[Target]], None]) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._services = Watch(SERVICES, self._tell)
        self._slices = Watch(SLICES, self._tell)
        self._services.wanted.set()
        self._is_ready = False
        self._ignored: Mapping[str, str] = {}
        self._unrouted: Mapping[str, str] = {}

    @property
    def threads(self) -> tuple[Watch, ...]:
        """The watches, to start and stop."""
        return self._services, self._slices

    @property
    def failure(self) -> str | None:
        """What keeps the services or their instances from being seen."""
        return self._services.failure or self._slices.failure

    def why_not_ready(self) -> str | None:
        """Return None once the services were listed, whatever happened since; else why they were not."""
        if self._is_ready:
            return None
        return f"services are not listed yet: {self._services.failure or 'the API server is being asked'}"

    def _tell(self) -> None:
        with self._lock:
            services = self._services.objects
            if services is None:
                return
            found: dict[str, Target] = {}
            ignored: dict[str, str] = {}
            unrouted: dict[str, str] = {}
            # Of two with one label the older one stays, so that nobody takes a name over.
            for name in sorted(services, key=lambda name: (services[name]["metadata"]["creationTimestamp"], name)):
                target = _target(services[name], self._services.namespace)
                if isinstance(target, str):
                    ignored[name] = target
                elif target.name in found:
                    ignored[name] = f"label {LABEL}: got {target.name!r}, which an older Service has"
                elif target.name != OWN_SERVICE:
                    instances = self._instances(services[name])
                    if isinstance(instances, str):
                        unrouted[name], instances = instances, ()
                    found[target.name] = replace(target, instances=instances)
            _log_new("Service is ignored", ignored, self._ignored)
            _log_new("Idempotency-Keys go to the Service's address, to any instance", unrouted, self._unrouted)
            self._ignored, self._unrouted = ignored, unrouted
            self._changed(list(found.values()))
            self._is_ready = self._is_ready or not self._slices.wanted.is_set() or self._slices.is_settled

    def _instances(self, service: Object) -> tuple[Address, ...] | str:
        """Return the instances to choose from, none if the Service does not ask for it, or why there are none."""
        given = service["metadata"].get("annotations", {}).get(ROUTE_BY)
        if given is None:
            return ()
        if given != BY_IDEMPOTENCY_KEY:
            return f"annotation {ROUTE_BY}: got {given!r}, allowed {BY_IDEMPOTENCY_KEY}"
        self._slices.wanted.set()
        slices = self._slices.objects
        if slices is None or self._slices.is_refused:
            return self._slices.failure or ()
        return (
            _staying(service, slices.values())
            or f"no EndpointSlice has an endpoint that stays, with a port {PORT_NAME}"
        )


def _log_new(what: str, reasons: Mapping[str, str], known: Mapping[str, str]) -> None:
    for name, reason in reasons.items():
        if known.get(name) != reason:
            log.warning(what, extra={"service": name, "reason": reason})


def _target(service: Object, namespace: str) -> Target | str:
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


def _staying(service: Object, slices: Iterable[Object]) -> tuple[Address, ...]:
    """Return the addresses of a Service's endpoints that are not on their way out, ready or not.

    All instances turn unready when the bus is away, and ready again one by one: keys that moved to the first would
    leave those that know them. One that cannot be reached hands its keys on by refusing the connection. Of two
    families it is the first: each pod has an address of both.
    """
    name, family = service["metadata"]["name"], service["spec"].get("ipFamilies", ["IPv4"])[0]
    addresses = {
        (endpoint["addresses"][0], port["port"])
        for each in slices
        if each["metadata"]["labels"][OF_SERVICE] == name and each["addressType"] == family
        for port in each.get("ports") or ()
        if port.get("name") == PORT_NAME and port.get("port")
        for endpoint in each.get("endpoints") or ()
        if not endpoint.get("conditions", {}).get("terminating", False)
    }
    return tuple(sorted(addresses))
