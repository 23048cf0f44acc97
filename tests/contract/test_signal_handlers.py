"""No signal handler takes a lock: read in the code that stands there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src/kappawatt", "services", "docker", "tools", "serverless")
DOOR = "src/kappawatt/serving/server/door.py"
HOME = "src/kappawatt/signals.py"
OWN = {  # what cannot be done by the one module, and why
    "src/kappawatt/deploy/container/entry.py": "before anything is imported",
    "src/kappawatt/serving/server/door.py": "in gunicorn's master, which forks and so must have no thread",
    "src/kappawatt/serving/server/drain.py": "in gunicorn's master, which forks and so must have no thread",
}
LOCKLESS = {  # what a handler may call: system calls, and gunicorn's own handler, which queues by SimpleQueue
    "os.write", "os.close", "os._exit", "os.getpid", "signal.setitimer", "arbiter.signal", "bytes",
    "contextlib.suppress", "suppress", "before", "len", "b''.join", "struct.pack", "listener.setsockopt",
    "ctypes.create_string_buffer", "ctypes.addressof",
}  # fmt: skip
FOLLOWED = {"_wake": HOME, "end": DOOR, "close_door": DOOR}  # functions that handlers call, which are read as well


def modules() -> dict[str, ast.Module]:
    """Every module by its path in the repository; those of `services` once, not through the link as well."""
    found = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            if not name.startswith("src/kappawatt/services/"):
                found[name] = ast.parse(path.read_text())
    return found


MODULES = modules()


def called(node: ast.AST) -> set[str]:
    """What it calls itself."""
    return {ast.unparse(each.func) for each in ast.walk(node) if isinstance(each, ast.Call)}


def reached(node: ast.AST) -> set[str]:
    """What it calls, with what is called by those functions of ours that it calls."""
    found, left = set(), called(node)
    while left:
        name = left.pop()
        if name in FOLLOWED:
            (inner,) = [
                n for n in ast.walk(MODULES[FOLLOWED[name]]) if isinstance(n, ast.FunctionDef) and n.name == name
            ]
            left |= called(inner)
        else:
            found.add(name)
    return found


def functions(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def handlers(tree: ast.Module) -> Iterator[ast.AST]:
    """Whatever is given to `signal.signal`, as it stands there."""
    named = functions(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "signal.signal":
            handler = node.args[1]
            if ast.unparse(handler) not in ("signal.SIG_IGN", "signal.SIG_DFL"):
                yield named[handler.id] if isinstance(handler, ast.Name) else handler


def test_handlers_are_set_in_one_module() -> None:
    setting = {name for name, tree in MODULES.items() if "signal.signal" in called(tree)}

    assert setting == {HOME, *OWN}


def test_signal_is_called_by_its_full_name() -> None:
    """So that the test above sees it."""
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            assert not (isinstance(node, ast.ImportFrom) and node.module == "signal"), name
            if isinstance(node, ast.Import):
                assert not [a for a in node.names if a.name == "signal" and a.asname], name


@pytest.mark.parametrize("name", [HOME, *OWN])
def test_no_handler_calls_what_takes_a_lock(name: str) -> None:
    found = list(handlers(MODULES[name]))

    assert found
    for handler in found:
        assert reached(handler) <= LOCKLESS, ast.unparse(handler)


def test_what_wakes_only_writes() -> None:
    (wake,) = [n for n in ast.walk(MODULES[HOME]) if isinstance(n, ast.FunctionDef) and n.name == "_wake"]

    assert called(wake) == {"os.write", "contextlib.suppress", "bytes"}
