"""Marathon definitions in marathon/, rendered from the chart's values: `python -m tools.render_marathon [--check]`.

Both values files of the chart and `marathon/values.yaml` are merged as helm would. A service that serves becomes
`apps/NAME.json`, its worker `apps/NAME-consume.json`, and all but those left out the group in `group.json`: once with
secrets, and once without in `open/`. What means something to Kubernetes alone (probes' periods, autoscalers, policies,
node selectors, which services are enabled by default) is not read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from kappawatt.deploy.container.health import PORT
from tools.rendered import Rendered

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "kappawatt"
OUT = ROOT / "marathon"
OWN = OUT / "values.yaml"
RENDERED = Rendered(OUT, (OWN.name, "README.md"))
FOLDERS = {"secrets": "", "open": "open/"}  # of each variant
SANDBOX = "/mnt/mesos/sandbox"  # where a container finds what was fetched
ROLES = ("serve", "consume")
MEBIBYTES = {"Mi": 1, "Gi": 1024}
# Docker's engine alone has these; the Universal Container Runtime isolates in its own way.
HARDENING = {"read-only": "true", "tmpfs": "/tmp", "cap-drop": "ALL", "security-opt": "no-new-privileges"}  # noqa: S108

Values = dict[str, Any]
App = dict[str, Any]


def merged(below: Any, above: Any) -> Any:
    """Return `above` laid over `below`: mappings key by key, anything else replaces."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}


@dataclass(frozen=True, slots=True)
class Role:
    """A service in one of its roles, which becomes one app.

    Parameters
    ----------
    service, role : str
        `role` is `serve` or `consume`.
    values : dict
        Of this service, with `global` and `marathon`.
    all_values : dict
        Of the whole variant.
    """

    service: str
    role: str
    values: Values
    all_values: Values

    @property
    def own(self) -> Values:
        """The values of this role."""
        found: Values = self.values[self.role]
        return found

    @property
    def name(self) -> str:
        """The app's name in the group; a service that has no other role needs no suffix."""
        return (
            self.service if self.role == "serve" or not self.values["serve"]["enabled"] else f"{self.service}-consume"
        )

    @property
    def id(self) -> str:
        return f"{self.values['marathon']['group']}/{self.name}"

    @property
    def is_called(self) -> bool:
        """Whether others send it requests, and not only probes."""
        return self.role == "serve" or bool(self.own["hasRoutes"])

    @property
    def is_gateway(self) -> bool:
        return bool(self.values["component"] == "gateway")

    @property
    def in_group(self) -> bool:
        return self.service not in self.values["marathon"]["leftOut"]

    @property
    def vip(self) -> str:
        return f"{self.values['marathon']['group'].strip('/').replace('/', '-')}-{self.name}"

    @property
    def address(self) -> str:
        """Where other apps reach it, whichever instance answers."""
        return f"{self.vip}.marathon.l4lb.thisdcos.directory:{self.values['service']['port']}"


def values_of(variant: str) -> Values:
    """Return the chart's values with those of a variant laid over them; each service has the application chart's."""
    umbrella = _read(CHART / "values.yaml")
    own = _read(OWN)
    values: Values = merged(merged(umbrella, own), own["variants"][variant])
    defaults = _read(CHART / "charts" / "service" / "values.yaml")
    shared = {"global": values["global"], "marathon": values["marathon"]}
    for service in _services():
        values[service] = merged(merged(defaults, shared), values.get(service) or {})
    return values


def roles_of(values: Values) -> Iterator[Role]:
    """Yield every role of every service that the umbrella knows, but loops: they need files that Marathon has not."""
    for service in _services():
        for role in ROLES:
            if values[service][role]["enabled"] and values[service]["component"] != "loop":
                yield Role(service, role, values[service], values)


def app_of(role: Role) -> App:
    """Return one app's definition."""
    marathon, secrets = role.values["marathon"], _secrets(role)
    scaling = role.own["autoscaling"]
    instances = scaling["minReplicas"] if scaling["enabled"] else role.own["replicas"]
    app: App = {
        "id": role.id,
        "args": ["serve" if role.role == "serve" else role.own["role"]],
        "cpus": marathon["cpus"],
        "mem": memory_of(role),
        "disk": marathon["disk"],
        "instances": instances,
        "container": _container(role),
        "networks": [{"mode": "container/bridge"}],
        "env": _environment(role) | {name: {"secret": key} for name, (key, _) in secrets.items()},
        "secrets": {key: {"source": source} for key, source in secrets.values()},
        "healthChecks": [
            {
                "protocol": "MESOS_HTTP",
                "path": "/healthz",
                "portIndex": 0,
                "delaySeconds": 2,
                "gracePeriodSeconds": 120,
                "intervalSeconds": 10,
                "timeoutSeconds": 5,
                "maxConsecutiveFailures": 6,
            }
        ],
        "readinessChecks": [
            {
                "name": "ready",
                "protocol": "HTTP",
                "path": "/readyz",
                "portName": "http",
                "intervalSeconds": 5,
                "timeoutSeconds": 2,
                "httpStatusCodesForReady": [200],
                "preserveLastResponse": True,
            }
        ],
        # One instance more while a version is replaced, never one less.
        "upgradeStrategy": {"minimumHealthCapacity": 1.0, "maximumOverCapacity": 1.0 / max(instances, 1)},
        "unreachableStrategy": {"inactiveAfterSeconds": 60, "expungeAfterSeconds": 120},
        "killSelection": "YOUNGEST_FIRST",
        "taskKillGracePeriodSeconds": role.values["terminationGracePeriodSeconds"],
        "constraints": [["hostname", "GROUP_BY"]],
        "fetch": _fetched(role),
        "dependencies": [other.id for other in _behind(role)],
        "labels": _labels(role),
        "user": marathon["user"],
    }
    return {key: value for key, value in app.items() if value not in ([], {}, "")}


def memory_of(role: Role) -> int:
    """Return what a role may use [MiB], as the chart reckons it: its resources, or more for its series."""
    said = mebibytes(role.own["resources"]["limits"]["memory"])
    series = role.values["expectedSeries"]
    wanted = 200e6 + 1000 * series * role.values["seriesKilobytes"][role.role]
    return max(said, math.ceil(wanted / 0.7 / 2**20)) if series else said


def mebibytes(amount: str) -> int:
    """Return an amount of memory as Kubernetes writes it in MB as Marathon takes it (they are MiB).

    Examples
    --------
    >>> mebibytes("1Gi")
    1024
    """
    number, unit = amount[:-2], amount[-2:]
    if unit not in MEBIBYTES or not number.isdecimal():
        raise click.ClickException(f"memory: got {amount!r}, allowed a whole number of Mi or Gi")
    return int(number) * MEBIBYTES[unit]


def files() -> dict[str, str]:
    """Return everything below marathon/ by path."""
    written: dict[str, str] = {}
    for variant, folder in FOLDERS.items():
        roles = list(roles_of(values_of(variant)))
        for role in roles:
            written[f"{folder}apps/{role.name}.json"] = _text(app_of(role))
        members = [app_of(role) for role in roles if role.in_group]
        group = roles[0].values["marathon"]["group"]
        written[f"{folder}group.json"] = _text({"id": group, "apps": members})
    return written


def _read(path: Path) -> Values:
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise click.ClickException(f"{path.relative_to(ROOT)}: {error}") from None
    if not isinstance(found, dict):
        raise click.ClickException(f"{path.relative_to(ROOT)}: got {type(found).__name__}, allowed a mapping")
    return found


def _services() -> list[str]:
    """Return the aliases of the umbrella, which are the services' names."""
    return [item["alias"] for item in _read(CHART / "Chart.yaml")["dependencies"] if item["name"] == "service"]


def _container(role: Role) -> Values:
    docker: Values = {"image": _image(role), "forcePullImage": role.values["global"]["image"]["pullPolicy"] == "Always"}
    containerizer = role.values["marathon"]["containerizer"]
    if containerizer == "DOCKER":
        docker["parameters"] = [{"key": key, "value": value} for key, value in HARDENING.items()]
    labels = {"DCOS_METRICS_FORMAT": "prometheus"}  # scraped by DC/OS's own telegraf
    if role.is_called:
        labels = {"VIP_0": f"/{role.vip}:{role.values['service']['port']}", **labels}
    return {
        "type": containerizer,
        "docker": docker,
        "portMappings": [
            {
                "containerPort": PORT,
                "hostPort": 0,
                "protocol": "tcp",
                "name": "http",
                "labels": labels,
            }
        ],
    }


def _image(role: Role) -> str:
    shared, own = role.values["global"]["image"], role.values["image"]
    registry = own["registry"] or shared["registry"]
    name = f"{own['repository'] or shared['repository']}/{own['name'] or role.service}"
    tag = own["tag"] or shared["tag"] or _read(CHART / "Chart.yaml")["appVersion"]
    return (f"{registry}/" if registry else "") + (f"{name}@{own['digest']}" if own["digest"] else f"{name}:{tag}")


def _environment(role: Role) -> dict[str, str]:
    values = role.values
    env = {
        "KAPPAWATT_SERVICE": role.service,
        "KAPPAWATT_PORT" if role.role == "serve" else "KAPPAWATT_PROBE_PORT": str(PORT),
        "KAPPAWATT_LOG_LEVEL": values["global"]["logLevel"].upper(),
        "KAPPAWATT_STATE": "/tmp",  # noqa: S108
        "KAPPAWATT_DRAIN_SECONDS": str(values["drainSeconds"]),
    }
    if values["usesBus"]:
        env |= _kafka(values["global"]["kafka"], has_authority=_has_authority(role))
    if values["access"]["mode"] == "keys":
        env |= {"KAPPAWATT_API_KEYS": f"{SANDBOX}/api-keys", "KAPPAWATT_RATE_LIMIT": values["access"]["rateLimit"]}
    elif values["access"]["mode"] == "open":
        env["KAPPAWATT_OPEN_ACCESS"] = "true"
    if role.is_gateway:
        env["KAPPAWATT_SERVICES"] = ",".join(f"{other.service}=http://{other.address}" for other in _behind(role))
    for claim in ("artifacts", "database"):
        if values[claim]["existingClaim"]:
            raise click.ClickException(f"{role.service}.{claim}.existingClaim: Marathon has no claims; allowed empty")
    return env | {name: str(value) for name, value in values["env"].items()}


def _has_authority(role: Role) -> bool:
    """Whether Kafka's certificates are of an authority of their own, and not of one that every image knows."""
    protocol: str = role.values["global"]["kafka"]["securityProtocol"]
    return role.values["usesBus"] and protocol.endswith("SSL") and bool(role.values["marathon"]["kafkaAuthority"])


def _kafka(kafka: Values, *, has_authority: bool) -> dict[str, str]:
    env = {
        "KAPPAWATT_BUS": f"kafka://{kafka['bootstrapServers']}",
        "KAPPAWATT_KAFKA_CLIENT": kafka["client"],
        "KAPPAWATT_KAFKA_SECURITY_PROTOCOL": kafka["securityProtocol"],
    }
    if kafka["saslMechanism"]:
        env["KAPPAWATT_KAFKA_SASL_MECHANISM"] = kafka["saslMechanism"]
        env["KAPPAWATT_KAFKA_SASL_USERNAME"] = kafka["saslUsername"]
    if has_authority:
        env["KAPPAWATT_KAFKA_SSL_CA_LOCATION"] = f"{SANDBOX}/kafka-ca.pem"
    return env | {
        f"KAPPAWATT_KAFKA_{name.replace('.', '_').upper()}": str(value) for name, value in kafka["settings"].items()
    }


def _secrets(role: Role) -> dict[str, tuple[str, str]]:
    """Return, by environment variable, the secret's key in the app and its path in the store."""
    found = {}
    if role.values["usesBus"] and role.values["global"]["kafka"]["existingSecret"]:
        found["KAPPAWATT_KAFKA_SASL_PASSWORD"] = ("kafkaPassword", role.values["global"]["kafka"]["existingSecret"])
    if role.values["database"]["existingSecret"]:
        found["KAPPAWATT_DATABASE"] = ("databaseUrl", role.values["database"]["existingSecret"])
    return found


def _fetched(role: Role) -> list[Values]:
    marathon = role.values["marathon"]
    fetched: list[Values] = [dict(item) for item in marathon["fetch"]]
    if role.values["access"]["mode"] == "keys":
        fetched.append({"uri": marathon["apiKeys"], "extract": False, "destPath": "api-keys"})
    if _has_authority(role):
        fetched.append({"uri": marathon["kafkaAuthority"], "extract": False, "destPath": "kafka-ca.pem"})
    return fetched


def _behind(role: Role) -> list[Role]:
    """Return what the gateway passes requests on to: it starts after them."""
    if not role.is_gateway:
        return []
    others = roles_of(role.all_values)
    return [other for other in others if other.in_group and other.is_called and not other.is_gateway]


def _labels(role: Role) -> dict[str, str]:
    """Return marathon-lb's labels; a worker without routes has no business there."""
    domain = role.values["marathon"]["domain"]
    if role.is_gateway:
        return {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": domain, "HAPROXY_0_REDIRECT_TO_HTTPS": "true"}
    if role.is_called:
        return {"HAPROXY_GROUP": "internal", "HAPROXY_0_VHOST": f"{role.name}.internal.{domain}"}
    return {}


def _text(document: App) -> str:
    return json.dumps(document, indent=2) + "\n"


main = RENDERED.command(__doc__, files)

if __name__ == "__main__":
    main()
