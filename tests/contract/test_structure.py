"""The floor plan of docs/architecture.md, held by the imports that stand in the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "src" / "kappawatt"
ORDER = (  # what stands in one line may import its own package and the lines below, never a line above or beside
    ("cli",),
    ("deploy",),
    ("services",),
    ("serving",),
    ("worker", "ingest", "evaluation"),
    ("messages", "datasets"),
    ("streams",),
    ("forecasting",),
    ("bus", "models", "store"),
    ("columns",),
    ("telemetry",),
    ("logs",),
    ("settings",),
    ("signals",),
    ("clock",),
    ("errors",),
)
APART = ("broker",)  # a real Kafka for developers: imported by commands alone
LEVEL = {name: len(ORDER) - i for i, names in enumerate(ORDER) for name in names}


def modules() -> dict[str, Path]:
    """Return all modules of the project by dotted name; a package is its `__init__`."""
    found = {}
    for name, folder in (("kappawatt", CORE), ("kappawatt.services", ROOT / "services"), ("tools", ROOT / "tools"),
                         ("serverless", ROOT / "serverless"), ("bench", ROOT / "bench")):  # fmt: skip
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            if name == "kappawatt" and parts[0] == "services":
                continue
            found[".".join((name, *parts)).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """Yield the modules that a module imports, wherever in it, for types alone too."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in MODULES or base in MODULES:
                    yield inner if inner in MODULES else base


IMPORTS = {name: set(imports(name)) - {name} for name in MODULES}


def package_of(name: str) -> str:
    """Return the part of the order that a module of `kappawatt` belongs to."""
    return name.split(".")[1] if name.count(".") else "kappawatt"


@pytest.mark.parametrize("name", sorted(n for n in MODULES if n.startswith("kappawatt.")))
def test_no_module_imports_upward(name: str) -> None:
    own = package_of(name)
    for other in IMPORTS[name]:
        package = package_of(other) if other.startswith("kappawatt.") else other
        if package in (own, "kappawatt"):
            continue
        assert other.startswith("kappawatt."), f"{name} imports {other}, which is no part of what is installed"
        if package in APART or own in APART:
            assert own in ("cli", *APART), f"{name} imports {other}"
            continue
        assert LEVEL[package] < LEVEL[own], f"{name} imports {other}: {own} stands below {package}, or beside it"


def test_the_core_imports_no_service() -> None:
    for name in MODULES:
        if name.startswith("kappawatt.") and package_of(name) != "services":
            found = {other for other in IMPORTS[name] if other.startswith("kappawatt.services.")}
            assert not found, f"{name} imports {found}: a service is found by its name"


def test_no_service_imports_another() -> None:
    for name in MODULES:
        if name.startswith("kappawatt.services."):
            own = name.split(".")[2]
            others = {other for other in IMPORTS[name] if other.startswith("kappawatt.services.")}
            assert {other.split(".")[2] for other in others} <= {own}, name


def test_no_imports_go_in_a_circle() -> None:
    circles = [" -> ".join(names) for names in _circles()]

    assert circles == []


def _circles() -> Iterator[list[str]]:
    state: dict[str, int] = {}
    trail: list[str] = []

    def visit(name: str) -> Iterator[list[str]]:
        state[name] = 1
        trail.append(name)
        for other in sorted(IMPORTS[name]):
            if state.get(other) == 1:
                yield [*trail[trail.index(other) :], other]
            elif other not in state:
                yield from visit(other)
        trail.pop()
        state[name] = 2

    for name in sorted(MODULES):
        if name not in state:
            yield from visit(name)


def test_few_modules_stand_beside_the_packages() -> None:
    assert len([path for path in CORE.glob("*.py") if path.name != "__init__.py"]) <= 6


def test_every_package_says_what_may_be_in_it() -> None:
    packages = {path.parent.name for path in CORE.glob("*/__init__.py")} - {*APART}

    assert len(LEVEL) == sum(map(len, ORDER)), "a name stands in two lines"
    assert {name for name in LEVEL if not (CORE / f"{name}.py").exists()} == packages
    for name in packages:
        said = ast.get_docstring(ast.parse((CORE / name / "__init__.py").read_text())) or ""
        assert len(said.split()) > 15, f"{name}/__init__.py: got {said!r}"
        assert "may not" in said.lower() or "never" in said.lower(), f"{name}/__init__.py: got {said!r}"
