"""Each rule of Marathon's validator refuses the one definition that breaks it, and lets a good one pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.marathon import rules
from tests.marathon.rules import RULES, violations

GOOD: dict[str, Any] = {
    "id": "/group/app",
    "args": ["serve"],
    "container": {
        "type": "MESOS",
        "docker": {"image": "example:1"},
        "portMappings": [{"containerPort": 8080, "hostPort": 0, "name": "http"}],
    },
    "networks": [{"mode": "container/bridge"}],
    "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/healthz"}],
    "readinessChecks": [{"portName": "http", "intervalSeconds": 5, "timeoutSeconds": 2}],
}
PORT = {"containerPort": 1, "name": "http"}
CHECK = {"protocol": "MESOS_HTTP", "path": "/healthz"}


def docker(**more: Any) -> dict[str, Any]:
    return {"type": "DOCKER", "docker": {"image": "example:1", **more}}


# What to change for the rule to be broken, and the path that is then named. A key with None is taken away.
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "id_is_an_absolute_path": ({"id": "group/app"}, "/id"),
    "something_is_to_be_run": ({"args": None, "container": None, "readinessChecks": None}, "/"),
    "port_mappings_not_with_host_network": ({"networks": [{"mode": "host"}]}, "/"),
    "port_definitions_only_with_host_network": ({"portDefinitions": [{"port": 0}]}, "/"),
    "networks_or_the_old_docker_network": (
        {"container": docker(network="BRIDGE"), "readinessChecks": None},
        "/",
    ),
    "host_networks_have_no_name": (
        {"networks": [{"mode": "host", "name": "x"}], "container": docker(), "readinessChecks": None},
        "/networks",
    ),
    "bridge_networks_have_no_name": ({"networks": [{"mode": "container/bridge", "name": "x"}]}, "/networks"),
    "one_kind_of_network": ({"networks": [{"mode": "container/bridge"}, {"mode": "container/bridge"}]}, "/networks"),
    "one_container_network_with_dockers_engine": (
        {
            "networks": [{"mode": "container", "name": "a"}, {"mode": "container", "name": "b"}],
            "container": docker(),
            "readinessChecks": None,
        },
        "/",
    ),
    "no_pull_config_with_dockers_engine": (
        {"container": docker(pullConfig={"secret": "s"}), "secrets": {"s": {"source": "s"}}, "readinessChecks": None},
        "/container/docker/pullConfig",
    ),
    "pull_config_names_a_secret": (
        {
            "container": {"type": "MESOS", "docker": {"image": "example:1", "pullConfig": {"secret": "s"}}},
            "readinessChecks": None,
        },
        "/container/docker/pullConfig",
    ),
    "no_old_docker_keys_with_mesos": (
        {
            "container": {
                "type": "MESOS",
                "docker": {"image": "example:1", "parameters": [{"key": "read-only", "value": "true"}]},
                "portMappings": [PORT],
            }
        },
        "/container/docker/parameters",
    ),
    "port_names_are_unique": (
        {"container": {"type": "MESOS", "docker": {"image": "example:1"}, "portMappings": [PORT, PORT]}},
        "/container/portMappings",
    ),
    "at_most_one_readiness_check": ({"readinessChecks": GOOD["readinessChecks"] * 2}, "/readinessChecks"),
    "readiness_checks_name_a_port": (
        {"readinessChecks": [{"portName": "web", "intervalSeconds": 5, "timeoutSeconds": 2}]},
        "/readinessChecks(0)/portName",
    ),
    "readiness_checks_end_before_the_next": (
        {"readinessChecks": [{"portName": "http", "intervalSeconds": 2, "timeoutSeconds": 2}]},
        "/readinessChecks(0)/timeoutSeconds",
    ),
    "at_most_one_mesos_health_check": ({"healthChecks": [CHECK, CHECK]}, "/"),
    "marathons_own_health_checks_name_a_port": (
        {"healthChecks": [{"protocol": "HTTP", "portIndex": 1}]},
        "/healthChecks(0)",
    ),
    "environment_names_are_names": ({"env": {"9LIVES": "x"}}, "/env(9LIVES)"),
    "environment_secrets_are_declared": ({"env": {"PASSWORD": {"secret": "p"}}}, "/env(PASSWORD)/secret"),
    "volume_secrets_are_declared": (
        {
            "container": {
                **GOOD["container"],
                "volumes": [{"containerPath": "/run/secrets/p", "secret": "p"}],
            }
        },
        "/container/volumes(0)",
    ),
    "gpus_only_with_mesos": ({"gpus": 1, "container": docker(), "readinessChecks": None}, "/"),
    "capacities_are_shares": (
        {"upgradeStrategy": {"minimumHealthCapacity": 1.5}},
        "/upgradeStrategy/minimumHealthCapacity",
    ),
    "cpus_are_enough_for_mesos": ({"cpus": 0}, "/cpus"),
    "constraints_are_known": ({"constraints": [["hostname", "MAX_PER"]]}, "/constraints(0)"),
    "dependencies_are_paths": ({"dependencies": ["/group/Model"]}, "/dependencies(0)"),
    "inactive_before_expunged": (
        {"unreachableStrategy": {"inactiveAfterSeconds": 90, "expungeAfterSeconds": 60}},
        "/unreachableStrategy",
    ),
}


def changed(app: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = {**copy.deepcopy(app), **change}
    return {key: value for key, value in merged.items() if value is not None}


def test_a_good_definition_passes() -> None:
    assert violations(GOOD) == []


def test_every_rule_has_an_example_that_breaks_it() -> None:
    assert {rule.__name__ for rule in RULES} == BROKEN.keys()


@pytest.mark.parametrize("name", BROKEN)
def test_a_rule_refuses_what_breaks_it_and_names_the_path(name: str) -> None:
    change, path = BROKEN[name]
    broken = changed(GOOD, change)

    assert path in [where for where, _ in getattr(rules, name)(broken)]
    assert [rule.__name__ for rule in RULES if list(rule(broken))] == [name]  # nothing else is wrong with it
    assert list(getattr(rules, name)(GOOD)) == []


def test_secrets_are_refused_where_the_feature_is_off() -> None:
    app = changed(GOOD, {"env": {"PASSWORD": {"secret": "p"}}, "secrets": {"p": {"source": "a/b"}}})

    assert violations(app) == []
    assert {violation.path for violation in violations(app, features=())} == {"/secrets", "/env"}
