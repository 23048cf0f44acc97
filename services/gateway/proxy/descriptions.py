"""What services say of their own routes: who may ask for each, and whether a request may be sent again.

That is no question of how a path looks: `POST /readings/predict` puts the reading of a plant called `predict` on the
bus. Each service publishes it at `/openapi.json` (`x-kappawatt-access`, `x-kappawatt-repeatable`), and a request counts
as what the published template says that it fits as the service itself would match it: the whole path, decoded once,
with capitals, blanks and a slash at the end being what they are. What is not described is for administrators, once.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from kappawatt.bus.retrying import RetryingThread
from kappawatt.errors import KappawattError
from kappawatt.serving.openapi import ACCESS, REPEATABLE, SLASHES, Right

from .forward import METHODS, ServiceUnreachable, Target

__all__ = ["UNDESCRIBED", "Description", "Descriptions", "Route", "route_of"]

log = logging.getLogger(__name__)

DOCUMENT = "/openapi.json"
FETCH_SECONDS = 3.0
FRESH_SECONDS = 10.0  # a new version of a service may say something else
RETRY_SECONDS = 1.0  # after a failure
RANK = list(Right)

Fetch = Callable[[Target, str, float], tuple[int, bytes]]
Fits = Callable[[str], object]
Place = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True)
class Route:
    """What a description says of one route.

    Parameters
    ----------
    access : Right
    repeatable : bool
        Whether a request that may have been received may be sent again.
    """

    access: Right
    repeatable: bool


UNDESCRIBED = Route(Right.ADMIN, False)  # itself, and no equal one, where nothing was said


class Description:
    """The routes of one service.

    Parameters
    ----------
    document : object
        Its OpenAPI document, as it was published; ValueError if it is none.

    Examples
    --------
    >>> document = {"paths": {"/readings/{key}": {"post": {"x-kappawatt-access": "write"}}}}
    >>> Description(document).route("POST", "/readings/predict")
    Route(access=<Right.WRITE: 'write'>, repeatable=False)
    """

    def __init__(self, document: Any) -> None:
        paths = document.get("paths") if isinstance(document, Mapping) else None
        if not isinstance(paths, Mapping) or not all(isinstance(item, Mapping) for item in paths.values()):
            raise ValueError("got a document without paths, allowed an OpenAPI document")
        self._routes: dict[str, list[tuple[Fits, Route]]] = {method: [] for method in METHODS}
        for template, item in paths.items():
            for method in METHODS:
                described = item.get(method.lower())
                if isinstance(described, Mapping):
                    parameters = [*_listed(item), *_listed(described)]
                    self._routes[method].append((_matcher(template, parameters), route_of(described)))

    def route(self, method: str, path: str) -> Route:
        """Return what is said of `method` at `path`, which is decoded; of several templates that fit, the strictest."""
        found = [route for fits, route in self._routes.get(method, ()) if fits(path)]
        if not found and method == "HEAD":
            return self.route("GET", path)
        if not found or any(route is UNDESCRIBED for route in found):
            return UNDESCRIBED
        strictest = max((route.access for route in found), key=RANK.index)
        return Route(strictest, all(route.repeatable for route in found))


def _listed(item: Mapping[str, Any]) -> list[Any]:
    found = item.get("parameters")
    return found if isinstance(found, list) else []


def route_of(described: Mapping[str, Any]) -> Route:
    """Return what an operation says; behind a gateway that asks for keys nothing of a service is open."""
    said = described.get(ACCESS)
    if said not in tuple(Right):
        return UNDESCRIBED
    access = Right(said)
    return Route(Right.READ if access is Right.OPEN else access, described.get(REPEATABLE) is True)


def _matcher(template: str, parameters: Iterable[Any]) -> Fits:
    """Return what says whether a path fits.

    A regular expression would try every way to share a segment among its parameters, or a path among several that may
    contain slashes: 8,000 characters and three of them are minutes.
    """
    wide = {p.get("name") for p in parameters if isinstance(p, Mapping) and p.get("in") == "path" and p.get(SLASHES)}
    parts = re.split(r"\{([^{}/]+)\}", template)
    if len(wide.intersection(parts[1::2])) > 1 or any(segment.count("{") > 1 for segment in template.split("/")):
        return partial(_fits, [(part, i % 2 == 1, part in wide) for i, part in enumerate(parts)])
    for i, part in enumerate(parts):
        parts[i] = re.escape(part) if i % 2 == 0 else "[^/].*" if part in wide else "[^/]+"
    return re.compile("".join(parts), re.DOTALL).fullmatch


def _fits(parts: list[tuple[str, bool, bool]], path: str) -> bool:
    """Go through the path once for each part (text or name, whether it is a parameter, and one with slashes)."""
    ends = {0}  # where the parts so far may have ended
    for text, is_parameter, is_wide in parts:
        if is_parameter:
            found, is_within = set(), False
            for at, letter in enumerate(path):
                is_within = (is_within or at in ends) if letter != "/" else is_within and is_wide
                if is_within:
                    found.add(at + 1)
            ends = found
        else:
            ends = {at + len(text) for at in ends if path.startswith(text, at)}
    return len(path) in ends


@dataclass(slots=True)
class _Known:
    """What is known of the service at one address."""

    description: Description | None = None
    failure: KappawattError | None = None  # why it is not, or no longer, known
    due: float = 0.0
    asking: threading.Lock = field(default_factory=threading.Lock)


class Descriptions(RetryingThread):
    """The descriptions of all services, kept fresh by a thread of their own.

    While a service is away its last description stands. One that has never answered is asked when it is needed.

    Parameters
    ----------
    targets : callable
        Returns the services there are, by name.
    fetch : callable
        (target, path, seconds) to status and body; raises KappawattError.
    """

    def __init__(self, targets: Callable[[], Mapping[str, Target]], fetch: Fetch) -> None:
        super().__init__("descriptions of services")
        self._targets = targets
        self._fetch = fetch
        self._known: dict[Place, _Known] = {}

    def route(self, target: Target, method: str, path: str) -> Route:
        """Return what the service says of `method` at `path`; UNDESCRIBED if it publishes nothing that can be read.

        Raises
        ------
        ServiceUnreachable, ServiceSlow
            It has never answered, and does not now.
        """
        known = self._of(target)
        if known.description is None:
            self._ask(target, known)
        if known.description is not None:
            return known.description.route(method, path)
        if known.failure is not None and not isinstance(known.failure, _NoDescription):
            raise known.failure
        return UNDESCRIBED

    def why_unknown(self, target: Target) -> str | None:
        """Return why nothing is known of the service's routes, if nothing is."""
        known = self._of(target)
        return None if known.description is not None or known.failure is None else str(known.failure)

    def _of(self, target: Target) -> _Known:
        return self._known.setdefault((target.name, target.scheme, target.host, target.port), _Known())

    def _run(self) -> None:
        targets = self._targets()
        for target in targets.values():
            if self.stopped.is_set():
                return
            self._ask(target, self._of(target))
        places = {(each.name, each.scheme, each.host, each.port) for each in targets.values()}
        for place in list(self._known):
            if place not in places:
                self._known.pop(place, None)
        self.stopped.wait(RETRY_SECONDS)

    def _ask(self, target: Target, known: _Known) -> None:
        """Fetch the description if it is time to; whoever comes meanwhile waits for the answer."""
        with known.asking:
            if time.monotonic() < known.due:
                return
            try:
                known.description, failure = self._read(target), None
            except KappawattError as error:
                failure = error
                if isinstance(error, _NoDescription):  # it answers, and describes nothing any more
                    known.description = None
            if failure is not None and str(failure) != str(known.failure):
                log.warning("routes are not known", extra={"service": target.name, "reason": str(failure)})
            known.failure = failure
            known.due = time.monotonic() + (FRESH_SECONDS if failure is None else RETRY_SECONDS)

    def _read(self, target: Target) -> Description:
        status, body = self._fetch(target, DOCUMENT, FETCH_SECONDS)
        if status in (502, 503, 504):
            raise ServiceUnreachable(f"{target.name}: {DOCUMENT} was answered with {status}")
        if status != 200:
            raise _NoDescription(f"{target.name}: got {status} at {DOCUMENT}, allowed an OpenAPI document")
        try:
            return Description(orjson.loads(body))
        except (ValueError, TypeError, re.error) as error:
            raise _NoDescription(f"{target.name}: {DOCUMENT} cannot be read: {error}") from None


class _NoDescription(KappawattError):
    """The service answers, and not with a description."""
