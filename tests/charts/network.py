"""NetworkPolicies as the specification reads them: may this pod talk to that one on a port?

A pod that no policy of a direction selects is open in that direction; one that is selected may do what any of its
policies allows. Selectors here are of labels alone, which is all the chart uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Peer:
    """A pod, or somebody outside the cluster (no labels)."""

    namespace: str
    labels: Labels
    is_outside: bool = False


@dataclass(frozen=True)
class Network:
    """All policies of the release's namespace."""

    namespace: str
    policies: tuple[dict[str, Any], ...]

    def allows(self, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
        """Whether `source` may open a connection to `target`."""
        return self._may("Egress", source, target, port, protocol) and self._may(
            "Ingress", target, source, port, protocol
        )

    def _may(self, direction: str, owner: Peer, other: Peer, port: int, protocol: str) -> bool:
        if owner.is_outside or owner.namespace != self.namespace:
            return True
        mine = [
            policy["spec"]
            for policy in self.policies
            if direction in policy["spec"]["policyTypes"] and _selects(policy["spec"]["podSelector"], owner.labels)
        ]
        if not mine:
            return True
        key, side = ("egress", "to") if direction == "Egress" else ("ingress", "from")
        return any(self._rule(rule, side, other, port, protocol) for spec in mine for rule in spec.get(key) or [])

    def _rule(self, rule: dict[str, Any], side: str, other: Peer, port: int, protocol: str) -> bool:
        ports = rule.get("ports")
        if ports and not any(p["port"] == port and p.get("protocol", "TCP") == protocol for p in ports):
            return False
        peers = rule.get(side)
        return not peers or any(self._peer(peer, other) for peer in peers)

    def _peer(self, peer: dict[str, Any], other: Peer) -> bool:
        assert "ipBlock" not in peer, "not read here"
        if other.is_outside:
            return False
        if "namespaceSelector" in peer:
            if not _selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace}):
                return False
        elif other.namespace != self.namespace:
            return False
        return "podSelector" not in peer or _selects(peer["podSelector"], other.labels)


def _selects(selector: dict[str, Any], labels: Labels) -> bool:
    assert not selector.keys() - {"matchLabels"}, "not read here"
    return all(labels.get(name) == value for name, value in (selector.get("matchLabels") or {}).items())
