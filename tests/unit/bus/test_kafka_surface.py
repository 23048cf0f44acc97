"""Both Kafka clients are used through their public surface, so that any of their releases will do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("src", "bench", "services", "serverless", "tools")
CLIENTS = ("kafka", "confluent_kafka")
# What the clients' own documentation describes.
PUBLIC = {"kafka", "kafka.admin", "kafka.errors", "kafka.net.sasl.oauth", "confluent_kafka", "confluent_kafka.admin"}
OURS = ("self", "cls", "super()")  # an object's own attributes
INHERITED = {
    "AbstractTokenProvider",
    "ConsumerRebalanceListener",
}  # made to be inherited from; of another class, self would be the client's


def below_the_surface(source: str) -> Iterator[str]:
    """Yield what a module that imports a client touches and should not."""
    tree = ast.parse(source)
    imported = set(_imported(tree))
    if not any(name.partition(".")[0] in CLIENTS for name in imported):
        return
    for name in sorted(imported):
        if name.partition(".")[0] in CLIENTS and name not in PUBLIC:
            yield name
    theirs = set(_classes(tree)) - INHERITED
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from (f"class {node.name}({ast.unparse(base)})" for base in node.bases if ast.unparse(base) in theirs)
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            if ast.unparse(node.value) not in OURS:
                yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in CLIENTS:
            yield from (f"{node.module}.{alias.name}" for alias in node.names if _is_private(alias.name))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and _is_private(str(name.value)):
                yield ast.unparse(node)


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            # `from kafka import cluster` names a module, too; classes and constants are written with a capital
            yield from (f"{node.module}.{a.name}" for a in node.names if a.name.islower() and node.module in CLIENTS)


def _classes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in CLIENTS:
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in CLIENTS:
            yield ast.unparse(node)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def modules() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_module_goes_below_the_public_surface_of_a_kafka_client() -> None:
    found = {
        str(path.relative_to(ROOT)): touched
        for path in modules()
        if (touched := list(below_the_surface(path.read_text(encoding="utf-8"))))
    }

    assert found == {}


def test_modules_that_use_a_client_are_looked_at() -> None:
    used = {path.parent.name for path in modules() if "import kafka" in path.read_text(encoding="utf-8")}
    used |= {path.parent.name for path in modules() if "from kafka import" in path.read_text(encoding="utf-8")}
    used |= {path.parent.name for path in modules() if "confluent_kafka" in path.read_text(encoding="utf-8")}

    assert {"kafka", "confluent", "bench"} <= used


@pytest.mark.parametrize(
    ("line", "touched"),
    [
        ("from kafka import KafkaProducer\nclient._sender.wakeup()", ["client._sender"]),
        ("from kafka import KafkaConsumer\nself._client._fetcher", ["self._client._fetcher"]),
        ("from kafka import KafkaConsumer\ngetattr(client, '_cluster')", ["getattr(client, '_cluster')"]),
        ("from kafka.record import util", ["kafka.record"]),
        ("import kafka.protocol.fetch", ["kafka.protocol.fetch"]),
        ("from kafka import cluster", ["kafka.cluster"]),
        ("from confluent_kafka import KafkaError\nKafkaError._STATE", ["KafkaError._STATE"]),
        ("from confluent_kafka.cimpl import NewTopic", ["confluent_kafka.cimpl"]),
        ("from confluent_kafka import _util", ["confluent_kafka._util"]),
        ("from kafka import KafkaProducer\nclass Ours(KafkaProducer): pass", ["class Ours(KafkaProducer)"]),
        ("import kafka\nclass Ours(kafka.KafkaProducer): pass", ["class Ours(kafka.KafkaProducer)"]),
        ("from kafka import ConsumerRebalanceListener\nclass Ours(ConsumerRebalanceListener): pass", []),
        ("from kafka import KafkaProducer, errors\nself._client.send(topic)", []),
        ("import threading\nthing._private", []),
    ],
)
def test_what_is_below_the_surface_is_found(line: str, touched: list[str]) -> None:
    assert list(dict.fromkeys(below_the_surface(line))) == touched
