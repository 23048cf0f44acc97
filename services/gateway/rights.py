"""What each request needs, as whoever has its route describes it: this gateway, or the service it goes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Flask, Request

from kappawatt.serving.openapi import Right, rights

from .proxy.descriptions import UNDESCRIBED, Descriptions, Route
from .proxy.forward import Proxy

__all__ = ["FORWARD", "Rights"]

FORWARD = "forward"  # endpoint of the way to services
FOUND = "kappawatt.route"  # in the environ of a request, so that all ask the same description of a service
NOWHERE = Route(Right.READ, False)  # whoever has a key may hear that there is nothing


class Rights:
    """What the routes of `app` need, and those of the services behind it.

    Parameters
    ----------
    app : Flask
    proxy : Proxy
    descriptions : Descriptions
    """

    def __init__(self, app: Flask, proxy: Proxy, descriptions: Descriptions) -> None:
        self._views: Mapping[str, Callable[..., object]] = app.view_functions
        self._proxy = proxy
        self._descriptions = descriptions

    def is_open(self, asked: Request) -> bool:
        """Whether a route of the gateway's own asks for no key."""
        rule = asked.url_rule
        return rule is not None and rule.endpoint != FORWARD and self.of(asked).access is Right.OPEN

    def of(self, asked: Request) -> Route:
        """Return what a request needs, the same each time; raise what keeps its service from saying so."""
        found: Route | None = asked.environ.get(FOUND)
        if found is None:
            found = asked.environ[FOUND] = self._found(asked)
        return found

    def _found(self, asked: Request) -> Route:
        rule, parts = asked.url_rule, asked.view_args or {}
        if rule is None:
            return NOWHERE
        if rule.endpoint != FORWARD:
            return Route(*rights(self._views[rule.endpoint], asked.method))
        target = self._proxy.targets.get(parts["name"])
        if target is None:
            return NOWHERE
        return self._descriptions.route(target, asked.method, f"/{parts['rest']}")

    def why_strict(self, asked: Request) -> str | None:
        """Return why a request needs the highest right although nobody said so."""
        if asked.url_rule is None or asked.url_rule.endpoint != FORWARD or self.of(asked) is not UNDESCRIBED:
            return None
        target = self._proxy.targets.get((asked.view_args or {})["name"])
        unknown = None if target is None else self._descriptions.why_unknown(target)
        return unknown or "the service does not describe this route"
