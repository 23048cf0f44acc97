"""What Marathon refuses that its JSON schema lets pass.

Rules and words of mesosphere/marathon, src/main/scala/mesosphere/marathon/api/v2/validation/ (AppValidation,
NetworkValidation, EnvVarValidation, SecretValidation, SchedulingValidation), Apache-2.0, said again in Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema

__all__ = ["RULES", "Violation", "violations"]

App = dict[str, Any]
Found = Iterator[tuple[str, str]]
MESOS_CHECKS = ("MESOS_HTTP", "MESOS_HTTPS", "MESOS_TCP", "COMMAND")
MARATHON_CHECKS = ("HTTP", "HTTPS", "TCP")
OPERATORS = ("UNIQUE", "CLUSTER", "GROUP_BY", "LIKE", "UNLIKE", "MAX_PER", "IS")


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """What is wrong, and where: the path as Marathon writes it, `/healthChecks(0)/portIndex`."""

    path: str
    error: str


def violations(app: Any, schema: App | None = None, features: Sequence[str] = ("secrets",)) -> list[Violation]:
    """Return everything that is wrong with an app's definition; none if Marathon would take it.

    Parameters
    ----------
    app : object
        As it was parsed from JSON.
    schema : dict, optional
        Marathon's JSON schema of app definitions.
    features : sequence of str
        What Marathon was started with (`--enable_features`).
    """
    found = []
    if schema is not None:
        errors = jsonschema.Draft4Validator(schema).iter_errors(app)
        found = [Violation(_path(error.absolute_path), error.message) for error in errors]
    if not found:  # the rules may rely on its types
        found = [Violation(path, error) for rule in RULES for path, error in rule(app)]
        if "secrets" not in features:
            found += [Violation(path, error) for path, error in secrets_need_the_feature(app)]
    return sorted(found)


def _path(parts: Sequence[str | int]) -> str:
    return "".join(f"({part})" if isinstance(part, int) else f"/{part}" for part in parts) or "/"


def _port_mappings(app: App) -> list[App]:
    container = app.get("container") or {}
    return container.get("portMappings") or (container.get("docker") or {}).get("portMappings") or []


def _modes(app: App) -> list[str]:
    return [network.get("mode", "container") for network in app.get("networks", [])]


def id_is_an_absolute_path(app: App) -> Found:
    segments = app["id"].split("/")[1:]
    if not app["id"].startswith("/"):
        yield "/id", "Path needs to be absolute"
    elif not segments or segments == [""]:
        yield "/id", "must not be root"
    elif not all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?|\.|\.\.", segment) for segment in segments):
        yield "/id", "must fully match regular expression '^(([a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])$'"


def something_is_to_be_run(app: App) -> Found:
    container = app.get("container") or {}
    image = bool(container.get("docker") or container.get("appc"))
    cmd, args = bool(app.get("cmd")), bool(app.get("args"))
    if not (cmd != args or (not (cmd and args) and image)):
        yield "/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'."


def port_mappings_not_with_host_network(app: App) -> Found:
    if "host" in _modes(app) and _port_mappings(app):
        yield "/", "portMappings are not allowed with host-networking"


def port_definitions_only_with_host_network(app: App) -> Found:
    if any(mode != "host" for mode in _modes(app)) and app.get("portDefinitions"):
        yield "/", "portDefinitions are only allowed with host-networking"


def networks_or_the_old_docker_network(app: App) -> Found:
    if app.get("networks") and ((app.get("container") or {}).get("docker") or {}).get("network"):
        yield "/", "must not specify both container.docker.network and networks"


def host_networks_have_no_name(app: App) -> Found:
    if any(n.get("mode") == "host" and (n.get("name") or n.get("labels")) for n in app.get("networks", [])):
        yield "/networks", "Host networks may not have names or labels"


def bridge_networks_have_no_name(app: App) -> Found:
    if any(n.get("mode") == "container/bridge" and n.get("name") for n in app.get("networks", [])):
        yield "/networks", "Bridge networks may not have names"


def one_kind_of_network(app: App) -> Found:
    modes = _modes(app)
    kinds = set(modes)
    if len(kinds) > 1 or (kinds and kinds != {"container"} and len(modes) > 1):
        yield (
            "/networks",
            "May specify a single host network, single bridge network, or else 1-to-n container networks",
        )


def one_container_network_with_dockers_engine(app: App) -> Found:
    if (app.get("container") or {}).get("type") == "DOCKER" and _modes(app).count("container") > 1:
        yield "/", "may only specify a single container network when using the Docker container engine"


def no_pull_config_with_dockers_engine(app: App) -> Found:
    container = app.get("container") or {}
    if container.get("type") == "DOCKER" and (container.get("docker") or {}).get("pullConfig"):
        yield "/container/docker/pullConfig", "pullConfig is not supported with Docker containerizer"


def pull_config_names_a_secret(app: App) -> Found:
    container = app.get("container") or {}
    config = (container.get("docker") or {}).get("pullConfig")
    if container.get("type") == "MESOS" and config and config["secret"] not in app.get("secrets", {}):
        yield "/container/docker/pullConfig", "pullConfig.secret must refer to an existing secret"


def no_old_docker_keys_with_mesos(app: App) -> Found:
    container = app.get("container") or {}
    if container.get("type", "MESOS") == "MESOS":
        for key in ("credential", "network", "parameters", "portMappings"):
            if (container.get("docker") or {}).get(key):
                yield f"/container/docker/{key}", "must be empty"


def port_names_are_unique(app: App) -> Found:
    for path, ports in (
        ("/container/portMappings", _port_mappings(app)),
        ("/portDefinitions", app.get("portDefinitions", [])),
    ):
        names = [port["name"] for port in ports if port.get("name")]
        if len(set(names)) != len(names):
            yield path, "Port names must be unique."


def at_most_one_readiness_check(app: App) -> Found:
    if len(app.get("readinessChecks", [])) > 1:
        yield "/readinessChecks", f"got {len(app['readinessChecks'])}, expected 1 or less"


def readiness_checks_name_a_port(app: App) -> Found:
    names = {port.get("name") for port in (_port_mappings(app) or app.get("portDefinitions", []))}
    for i, check in enumerate(app.get("readinessChecks", [])):
        name = check.get("portName", "http-api")
        if name not in names:
            yield f"/readinessChecks({i})/portName", f"No port definition reference for portName {name}"


def readiness_checks_end_before_the_next(app: App) -> Found:
    for i, check in enumerate(app.get("readinessChecks", [])):
        timeout, interval = check.get("timeoutSeconds", 10), check.get("intervalSeconds", 30)
        if timeout >= interval:
            yield f"/readinessChecks({i})/timeoutSeconds", f"got {timeout}, expected less than {interval}"


def at_most_one_mesos_health_check(app: App) -> Found:
    checks = app.get("healthChecks", [])
    if sum(not check.get("command") and check.get("protocol", "HTTP") in MESOS_CHECKS for check in checks) > 1:
        yield "/", "AppDefinition can contain at most one Mesos health check"


def marathons_own_health_checks_name_a_port(app: App) -> Found:
    ports = len(_port_mappings(app) or app.get("portDefinitions", []))
    for i, check in enumerate(app.get("healthChecks", [])):
        if check.get("command") or check.get("protocol", "HTTP") not in MARATHON_CHECKS:
            continue
        index = check.get("portIndex")
        if not (index < ports if index is not None else check.get("port") is not None or ports == 1):
            yield (
                f"/healthChecks({i})",
                "Health check port indices must address an element of the ports array or container port mappings.",
            )


def environment_names_are_names(app: App) -> Found:
    for name in app.get("env", {}):
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name):
            yield (
                f"/env({name})",
                "must contain only alphanumeric chars or underscore, and must not begin with a number",
            )


def environment_secrets_are_declared(app: App) -> Found:
    for name, value in app.get("env", {}).items():
        if isinstance(value, dict) and value["secret"] not in app.get("secrets", {}):
            yield f"/env({name})/secret", "references an undefined secret"


def volume_secrets_are_declared(app: App) -> Found:
    for i, volume in enumerate((app.get("container") or {}).get("volumes", [])):
        if "secret" in volume and volume["secret"] not in app.get("secrets", {}):
            yield f"/container/volumes({i})", "volume.secret must refer to an existing secret"


def secrets_need_the_feature(app: App) -> Found:
    """Not one of RULES: only where Marathon was started without `secrets`."""
    message = "Feature secrets is not enabled. Enable with --enable_features secrets)"
    if app.get("secrets"):
        yield "/secrets", message
    if any(isinstance(value, dict) for value in app.get("env", {}).values()):
        yield "/env", "use of secret-references in the environment requires the secrets feature to be enabled"


def gpus_only_with_mesos(app: App) -> Found:
    if app.get("gpus", 0) > 0 and (app.get("container") or {}).get("type") == "DOCKER":
        yield "/", "GPU resources only work with the Mesos containerizer"


def capacities_are_shares(app: App) -> Found:
    for key, value in (app.get("upgradeStrategy") or {}).items():
        if not 0 <= value <= 1:
            yield f"/upgradeStrategy/{key}", f"is {'greater than 1' if value > 1 else 'less than 0'}"


def cpus_are_enough_for_mesos(app: App) -> Found:
    if app.get("cpus", 1) < 0.001:
        yield "/cpus", f"got {app['cpus']}, expected 0.001 or more"


def constraints_are_known(app: App) -> Found:
    for i, (_, operator, *value) in enumerate(app.get("constraints", [])):
        if operator not in OPERATORS:
            yield f"/constraints({i})", f"Invalid operator {operator}: should be one of {', '.join(OPERATORS)}"
        elif operator == "UNIQUE" and value:
            yield f"/constraints({i})", "Value specified but not used"
        elif operator in ("LIKE", "UNLIKE", "IS") and not value:
            yield f"/constraints({i})", "A regular expression value must be provided"
        elif operator in ("GROUP_BY", "MAX_PER") and value and not value[0].isdecimal():
            yield f"/constraints({i})", "Value was specified but is not a number"
        elif operator == "MAX_PER" and not value:
            yield f"/constraints({i})", "Value must be specified for MAX_PER"


def dependencies_are_paths(app: App) -> Found:
    for i, path in enumerate(app.get("dependencies", [])):
        if not re.fullmatch(r"/?([a-z0-9]([a-z0-9-]*[a-z0-9])?|\.\.?)(/([a-z0-9]([a-z0-9-]*[a-z0-9])?|\.\.?))*", path):
            yield f"/dependencies({i})", "must be a path of [a-z0-9-]"


def inactive_before_expunged(app: App) -> Found:
    strategy = app.get("unreachableStrategy")
    if isinstance(strategy, dict) and strategy.get("inactiveAfterSeconds", 0) > strategy.get("expungeAfterSeconds", 0):
        yield "/unreachableStrategy", "inactiveAfterSeconds must be less than or equal to expungeAfterSeconds"


RULES: tuple[Callable[[App], Found], ...] = (
    id_is_an_absolute_path,
    something_is_to_be_run,
    port_mappings_not_with_host_network,
    port_definitions_only_with_host_network,
    networks_or_the_old_docker_network,
    host_networks_have_no_name,
    bridge_networks_have_no_name,
    one_kind_of_network,
    one_container_network_with_dockers_engine,
    no_pull_config_with_dockers_engine,
    pull_config_names_a_secret,
    no_old_docker_keys_with_mesos,
    port_names_are_unique,
    at_most_one_readiness_check,
    readiness_checks_name_a_port,
    readiness_checks_end_before_the_next,
    at_most_one_mesos_health_check,
    marathons_own_health_checks_name_a_port,
    environment_names_are_names,
    environment_secrets_are_declared,
    volume_secrets_are_declared,
    gpus_only_with_mesos,
    capacities_are_shares,
    cpus_are_enough_for_mesos,
    constraints_are_known,
    dependencies_are_paths,
    inactive_before_expunged,
)
