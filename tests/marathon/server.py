"""A Marathon to send definitions to: its REST API as the `dcos` command line speaks it, in front of real instances.

Answers after mesosphere/marathon's docs/docs/rest-api at 1.11 (Apache-2.0): /v2/apps, /v2/groups, /v2/deployments,
/v2/queue, /v2/info, and the cluster's /metadata that the command line asks first.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, jsonify, request
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.marathon.orchestrator import App, Deployment, Locked, Orchestrator, Running
from tests.marathon.rules import Violation, violations
from tests.marathon.tasks import Agent

__all__ = ["Marathon"]

CLUSTER = "5a1c6e0e-0000-4000-8000-6b6170706177"


class Quiet(WSGIRequestHandler):
    """Polls several times a second are not worth a line each."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


class Invalid(Exception):
    """A definition that Marathon refuses."""

    def __init__(self, found: Sequence[Violation]) -> None:
        super().__init__("Object is not valid")
        self.found = found


class Marathon:
    """A server on a free port of localhost; `with` starts and ends it, and everything it runs.

    Parameters
    ----------
    agent : Agent
        What runs the instances.
    schema : dict, optional
        Marathon's JSON schema of app definitions.
    features : sequence of str
        As of `--enable_features`.
    port : int
        0 takes a free one.
    """

    def __init__(
        self, agent: Agent, schema: App | None = None, features: Sequence[str] = ("secrets",), port: int = 0
    ) -> None:
        self.orchestrator = Orchestrator(agent)
        self._schema, self._features = schema, features
        app = self._app()
        both = DispatcherMiddleware(app, {"/service/marathon": app})  # beside the cluster's own, as DC/OS proxies it
        self._server = make_server("127.0.0.1", port, both, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Marathon:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()
        self.orchestrator.close()

    def _checked(self, app: Any) -> App:
        found = violations(app, self._schema, self._features)
        if found:
            raise Invalid(found)
        checked: App = app
        return checked

    def _running(self, path: str) -> Running:
        running = self.orchestrator.apps.get(f"/{path.strip('/')}")
        if running is None:
            abort(_answer(404, {"message": f"App '/{path.strip('/')}' does not exist"}))
        return running

    def _described(self, running: Running, tasks: bool = False) -> App:
        counted = [task for task in running.tasks if task.running]
        name = running.definition["id"]
        deployments = [d for d in self.orchestrator.deployments.values() if name in d.apps]
        described = {
            **running.definition,
            "version": running.version,
            "versionInfo": {"lastScalingAt": running.version, "lastConfigChangeAt": running.version},
            "tasksStaged": 0,
            "tasksRunning": len(counted),
            "tasksHealthy": sum(task.healthy is True for task in counted),
            "tasksUnhealthy": sum(task.healthy is False for task in counted),
            "deployments": [{"id": deployment.id} for deployment in deployments],
        }
        if tasks:
            described["tasks"] = [task.to_json() for task in counted]
            if running.last_failure:
                described["lastTaskFailure"] = running.last_failure
        return described

    def _change(self, wanted: dict[str, App | None], restart: bool = False) -> Deployment:
        return self.orchestrator.change(wanted, force=request.args.get("force") == "true", restart=restart)

    def _updated(self, name: str, change: Any) -> App:
        """The definition that a PUT makes: missing keys keep their values, unless told otherwise."""
        running = self.orchestrator.apps.get(name)
        if not isinstance(change, dict):
            raise Invalid([Violation("/", "must be an object")])
        if "version" in change and running is not None:
            if change.keys() - {"version", "id"}:
                raise Invalid([Violation("/", "The 'version' field may only be combined with the 'id' field.")])
            if change["version"] not in running.versions:
                abort(_answer(404, {"message": f"App '{name}' does not exist"}))
            return dict(running.versions[change["version"]])
        known = (
            _without_defaults(running.definition) if running and request.args.get("partialUpdate") != "false" else {}
        )
        return self._checked({**known, **change, "id": name})

    def _app(self) -> Flask:
        flask = Flask(__name__)
        route: Callable[..., Any] = flask.route

        @flask.errorhandler(HTTPException)
        def _problem(error: HTTPException) -> Response:
            if error.response is not None:
                return error.response  # type: ignore[return-value]
            return _answer(error.code or 500, {"message": error.description})

        @flask.errorhandler(Invalid)
        def _invalid(error: Invalid) -> Response:
            paths = dict.fromkeys(violation.path for violation in error.found)
            details = [{"path": path, "errors": [v.error for v in error.found if v.path == path]} for path in paths]
            return _answer(422, {"message": str(error), "details": details})

        @flask.errorhandler(Locked)
        def _locked(error: Locked) -> Response:
            message = (
                f"{error} Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'."
            )
            return _answer(409, {"message": message, "deployments": [{"id": name} for name in error.deployments]})

        @route("/metadata")
        def _metadata() -> Response:
            return jsonify({"CLUSTER_ID": CLUSTER, "PUBLIC_IPV4": "127.0.0.1"})

        @route("/pkgpanda/active.buildinfo.full.json")
        def _anybody() -> Response:
            """The command line asks here whether it has to log in; without a challenge it does not."""
            return jsonify({})

        @route("/dcos-metadata/dcos-version.json")
        def _dcos_version() -> Response:
            return jsonify({"version": "2.2.0", "dcos-variant": "open"})

        @route("/ping")
        def _ping() -> Response:
            return Response("pong\n", mimetype="text/plain")

        @route("/v2/info")
        def _info() -> Response:
            return jsonify({"name": "marathon", "version": "1.11.0", "frameworkId": "marathon", "leader": self.url})

        self._app_routes(route)
        self._group_routes(route)

        @route("/v2/deployments")
        def _deployments() -> Response:
            return jsonify([deployment.to_json() for deployment in list(self.orchestrator.deployments.values())])

        @route("/v2/deployments/<name>", methods=["DELETE"])
        def _cancel(name: str) -> Response:
            deployment = self.orchestrator.deployments.get(name)
            if deployment is None:
                abort(_answer(404, {"message": f"DeploymentPlan {name} does not exist"}))
            if request.args.get("force") == "true":
                self.orchestrator.cancel(deployment)
                return _answer(202, {})
            return _deployed(self.orchestrator.roll_back(deployment))

        @route("/v2/queue")
        def _queue() -> Response:
            waiting = [
                {
                    "app": self._described(running),
                    "count": running.wanted - len(running.of_version(running.version)),
                    "delay": {"timeLeftSeconds": 0, "overdue": True},
                }
                for running in list(self.orchestrator.apps.values())
                if running.wanted > len(running.of_version(running.version))
            ]
            return jsonify({"queue": waiting})

        @route("/v2/tasks")
        def _tasks() -> Response:
            every = [task.to_json() for running in list(self.orchestrator.apps.values()) for task in running.tasks]
            return jsonify({"tasks": every})

        return flask

    def _app_routes(self, route: Callable[..., Any]) -> None:
        @route("/v2/apps")
        def _list() -> Response:
            return jsonify({"apps": [self._described(running) for running in list(self.orchestrator.apps.values())]})

        @route("/v2/apps", methods=["POST"])
        @route("/v2/apps/", methods=["POST"])
        def _add() -> Response:
            app = self._checked(_body())
            if app["id"] in self.orchestrator.apps:
                return _answer(409, {"message": f"An app with id [{app['id']}] already exists."})
            deployment = self._change({app["id"]: app})
            described = self._described(self.orchestrator.apps[app["id"]])
            return _answer(201, {**described, "deployments": [{"id": deployment.id}]})

        @route("/v2/apps", methods=["PUT"])
        def _update_many() -> Response:
            changes = _body()
            if not isinstance(changes, list):
                raise Invalid([Violation("/", "must be an array of apps")])
            return _deployed(self._change({change["id"]: self._updated(change["id"], change) for change in changes}))

        @route("/v2/apps/<path:path>/tasks")
        def _app_tasks(path: str) -> Response:
            return jsonify({"tasks": [task.to_json() for task in self._running(path).tasks]})

        @route("/v2/apps/<path:path>/tasks", methods=["DELETE"])
        def _kill(path: str) -> Response:
            running = self._running(path)
            tasks = [task for task in running.tasks if not task.stopping]
            described = [task.to_json() for task in tasks]
            if request.args.get("scale", "").lower() == "true":
                rest = {**_without_defaults(running.definition), "instances": 0}
                return _deployed(self._change({running.definition["id"]: rest}))
            self.orchestrator.kill(running.definition["id"], tasks)
            return jsonify({"tasks": described})

        @route("/v2/apps/<path:path>/restart", methods=["POST"])
        def _restart(path: str) -> Response:
            definition = self._running(path).definition
            return _deployed(self._change({definition["id"]: _without_defaults(definition)}, restart=True))

        @route("/v2/apps/<path:path>/versions")
        def _versions(path: str) -> Response:
            return jsonify({"versions": sorted(self._running(path).versions, reverse=True)})

        @route("/v2/apps/<path:path>/versions/<version>")
        def _version(path: str, version: str) -> Response:
            running = self._running(path)
            if version not in running.versions:
                abort(_answer(404, {"message": f"App '/{path}' does not exist in version {version}"}))
            return jsonify({**running.versions[version], "version": version})

        @route("/v2/apps/<path:path>")
        def _show(path: str) -> Response:
            return jsonify({"app": self._described(self._running(path), tasks=True)})

        @route("/v2/apps/<path:path>", methods=["PUT"])
        def _update(path: str) -> Response:
            name = f"/{path.strip('/')}"
            exists = name in self.orchestrator.apps
            deployment = self._change({name: self._updated(name, _body())})
            return _deployed(deployment, 200 if exists else 201)

        @route("/v2/apps/<path:path>", methods=["DELETE"])
        def _remove(path: str) -> Response:
            return _deployed(self._change({self._running(path).definition["id"]: None}))

    def _group_routes(self, route: Callable[..., Any]) -> None:
        def inside(path: str) -> dict[str, Running]:
            prefix = f"/{path.strip('/')}".rstrip("/") + "/"
            return {name: app for name, app in list(self.orchestrator.apps.items()) if name.startswith(prefix)}

        def described(path: str) -> App:
            name = f"/{path.strip('/')}"
            own = {app: running for app, running in inside(path).items() if app.rpartition("/")[0] == name.rstrip("/")}
            deeper = {
                app.removeprefix(name.rstrip("/") + "/").split("/")[0] for app in inside(path).keys() - own.keys()
            }
            return {
                "id": name,
                "apps": [self._described(running) for running in own.values()],
                "groups": [described(f"{name.rstrip('/')}/{part}") for part in sorted(deeper)],
                "pods": [],
                "dependencies": [],
                "version": max((running.version for running in inside(path).values()), default=""),
            }

        def change(group: Any) -> Deployment:
            wanted = dict(self._group_apps(group, group.get("id", "/")))
            return self._change(wanted)

        @route("/v2/groups")
        def _root() -> Response:
            return jsonify(described("/"))

        @route("/v2/groups", methods=["POST"])
        def _add_group() -> Response:
            group = _body()
            if inside(group["id"]):
                message = f"Group {group['id']} is already created. Use PUT to change this group."
                return _answer(409, {"message": message})
            return _deployed(change(group), 201)

        @route("/v2/groups/<path:path>")
        def _show_group(path: str) -> Response:
            if not inside(path):
                abort(_answer(404, {"message": f"Group '/{path.strip('/')}' does not exist"}))
            return jsonify(described(path))

        @route("/v2/groups/<path:path>", methods=["PUT"])
        def _update_group(path: str) -> Response:
            body = _body()
            if "scaleBy" in body:
                scaled: dict[str, App | None] = {}
                for name, running in inside(path).items():
                    count = int(running.definition["instances"] * body["scaleBy"])
                    scaled[name] = {**_without_defaults(running.definition), "instances": count}
                return _deployed(self._change(scaled))
            return _deployed(change({"id": f"/{path.strip('/')}", **body}))

        @route("/v2/groups/<path:path>", methods=["DELETE"])
        def _remove_group(path: str) -> Response:
            names = inside(path)
            if not names:
                abort(_answer(404, {"message": f"Group '/{path.strip('/')}' does not exist"}))
            return _deployed(self._change(dict.fromkeys(names)))

    def _group_apps(self, group: App, base: str) -> list[tuple[str, App]]:
        """The apps of a group and those below it, checked; an id without a slash in front is relative."""
        found = []
        for app in group.get("apps", []):
            name = app["id"] if app["id"].startswith("/") else f"{base.rstrip('/')}/{app['id']}"
            if not name.startswith(f"{base.rstrip('/')}/"):
                raise Invalid([Violation("/apps/id", f"identifier {name} is not child of {base}")])
            found.append((name, self._checked({**app, "id": name})))
        for below in group.get("groups", []):
            found += self._group_apps(below, below["id"])
        return found


def _body() -> Any:
    body = request.get_json(force=True, silent=True)
    if body is None:
        details = [{"errors": ["Unexpected character"]}]
        abort(_answer(400, {"message": "Invalid JSON", "details": details}))
    return body


def _answer(status: int, document: Any) -> Response:
    response = jsonify(document)
    response.status_code = status
    return response


def _deployed(deployment: Deployment, status: int = 200) -> Response:
    return _answer(status, {"version": deployment.version, "deploymentId": deployment.id})


def _without_defaults(definition: App) -> App:
    """A definition that can be checked again: without keys that were filled in with nothing."""
    return {key: value for key, value in definition.items() if value is not None}


def read_schema(path: Path) -> App:
    """Return Marathon's JSON schema."""
    schema: App = json.loads(path.read_text())
    return schema
