"""pytest collects the tests of a target once; each mutant is then put into a fork of that process and run there.

Forking saves what a run of pytest costs before its first test, some seconds, and nothing is written into the working
tree: a mutant's function gets the code of the mutated one. What is run at import (constants, defaults, decorators)
cannot be changed afterwards. A constant is replaced wherever it was imported; what survives that, and all else, is
given to a process of its own, which imports the mutated file.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import gc
import json
import os
import resource
import select
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import coverage
import pytest

from tools.mutants.mutation import Mutant

__all__ = ["AT_IMPORT", "Baseline", "Forks", "Verdict"]

AT_IMPORT = "at import"  # no verdict yet: for a process of its own
LEAST_SECONDS = 10.0  # a test may take, and SLOWER times what it takes without a fault
SLOWER = 6.0
MOST_FAILING = 2  # tests without a mutant
MOST_MEMORY = 3 << 30  # a mutant that gathers without end [bytes]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant.

    Parameters
    ----------
    outcome : str
        `killed`, `timeout` (killed too), `survived`, `not covered` or `AT_IMPORT`.
    by : str
        The test that failed, or was running.
    """

    outcome: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The tests without a fault: seconds each takes, and those that run each line of each file."""

    seconds: Sequence[float]
    tests: Mapping[str, Mapping[int, Sequence[int]]]


class Forks:
    """Runs collected tests once as they are, and then for each mutant those that run its line.

    Parameters
    ----------
    root : Path
    files : sequence of str
        What is mutated, from `root`.
    mutants : sequence of Mutant
    say : callable
        Gets each mutant's number and verdict.
    """

    def __init__(
        self, root: Path, files: Sequence[str], mutants: Sequence[Mutant], say: Callable[[int, Verdict], None]
    ) -> None:
        self._root, self._files, self._mutants, self._say = root, files, mutants, say
        self._items: list[pytest.Item] = []
        self._caches: list[Any] = []  # each test begins without what others have left in them
        self._left_out: set[int] = set()  # tests that fail anyway, such as by a machine that is busy

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._items = session.items
        self._caches = list(_caches([self._root / file for file in self._files]))
        before = self._baseline()
        functions = {file: _live_functions(self._root / file) for file in self._files}
        gc.collect()
        gc.freeze()  # what forks share stays shared
        for i, mutant in enumerate(self._mutants):
            codes = list(_replacements(self._root, mutant, functions[mutant.file]))
            if not codes:
                self._say(i, self._constant(mutant, before.seconds))
                continue
            first, last = mutant.statement
            lines = before.tests[mutant.file]
            running = {test for line in range(first, last + 1) for test in lines.get(line, ())}
            tests = sorted(running - self._left_out, key=lambda t: before.seconds[t])
            if not tests:
                self._say(i, Verdict("not covered"))
                continue
            self._say(i, self._run(tests, before.seconds, lambda codes=codes: _replace(codes)))
        return True

    def _constant(self, mutant: Mutant, seconds: Sequence[float]) -> Verdict:
        if not (change := _other_constant(self._root, mutant)):
            return Verdict(AT_IMPORT)
        tests = sorted(set(range(len(self._items))) - self._left_out, key=lambda t: seconds[t])
        verdict = self._run(tests, seconds, change)
        return Verdict(AT_IMPORT) if verdict.outcome == "survived" else verdict

    def _baseline(self) -> Baseline:
        """Run all tests in a fork, with their seconds and lines."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            paths = [str((self._root / file).resolve()) for file in self._files]
            measured = coverage.Coverage(data_file=None, include=paths, config_file=False)
            measured.start()
            seconds, failed = [], []

            def begin(test: int) -> None:
                self._forget()
                seconds.append(time.monotonic())
                measured.switch_context(str(test))

            with _quiet():
                failed = _run_tests(self._items, range(len(self._items)), begin, stop=False)
            seconds.append(time.monotonic())
            measured.stop()
            found = {
                os.path.realpath(p): measured.get_data().contexts_by_lineno(p)
                for p in measured.get_data().measured_files()
            }
            document = {
                "failed": failed,
                "seconds": [b - a for a, b in pairwise(seconds)],
                "tests": {
                    file: {line: [int(c) for c in contexts if c] for line, contexts in found.get(path, {}).items()}
                    for file, path in zip(self._files, paths, strict=True)
                },
            }
            with os.fdopen(write, "w") as pipe:
                json.dump(document, pipe)
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            document = json.load(pipe)
        os.waitpid(child, 0)
        failed = set(document["failed"])
        print(*(f"\nleft out, since it fails without any mutant: {name}" for name in sorted(failed)))
        if len(failed) > MOST_FAILING:
            pytest.exit("too many tests fail without any mutant", returncode=1)
        self._left_out = {i for i, item in enumerate(self._items) if item.nodeid in failed}
        tests = {file: {int(n): t for n, t in lines.items()} for file, lines in document["tests"].items()}
        return Baseline(document["seconds"], tests)

    def _run(self, tests: Sequence[int], seconds: Sequence[float], mutate: Callable[[], None]) -> Verdict:
        read, write = os.pipe()

        def begin(test: int) -> None:
            self._forget()
            os.write(write, b"%d\n" % test)

        child = os.fork()
        if child == 0:
            os.close(read)
            os.setsid()
            resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
            with _quiet():
                mutate()
                failed = _run_tests(self._items, tests, begin, stop=True)
                os.write(write, b"failed\n" if failed else b"passed\n")
            os._exit(0)
        os.close(write)
        try:
            return self._watch(read, seconds)
        finally:
            os.close(read)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def _forget(self) -> None:
        for cache in self._caches:
            cache.cache_clear()

    def _watch(self, read: int, seconds: Sequence[float]) -> Verdict:
        """Follow a fork by the tests it begins; each has its own deadline."""
        running, allowed, rest = "", LEAST_SECONDS, b""
        while select.select([read], [], [], allowed)[0]:
            got = os.read(read, 65536)
            if not got:
                return Verdict("killed", running)  # it ended itself
            *words, rest = (rest + got).split(b"\n")
            for word in words:
                if word == b"failed":
                    return Verdict("killed", running)
                if word == b"passed":
                    return Verdict("survived")
                running = self._items[int(word)].nodeid
                allowed = LEAST_SECONDS + SLOWER * seconds[int(word)]
        return Verdict("timeout", running)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nobody reads what a fork prints."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    yield


def _run_tests(
    items: Sequence[pytest.Item], tests: Sequence[int], begin: Callable[[int], object], *, stop: bool
) -> list[str]:
    """Run tests by number; return the names of those that failed, at most the first if `stop`."""
    failed: list[str] = []

    class Reports:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                failed.append(report.nodeid)

    items[0].config.pluginmanager.register(Reports())
    for test, following in zip(tests, [*tests[1:], None], strict=True):
        begin(test)
        item = items[test]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None if following is None else items[following])
        if failed and stop:
            break
    return failed


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _live_functions(path: Path) -> list[types.FunctionType]:
    """All functions there are of a file, also those inside decorators and closures."""
    names = {n for n in {c.__code__.co_filename for c in _functions()} if os.path.realpath(n) == str(path.resolve())}
    return [f for f in _functions() if f.__code__.co_filename in names]


def _caches(paths: Sequence[Path]) -> Iterator[Any]:
    """Yield the cached functions of files: lines behind one are else run by the first test that asks, by no other."""
    own = {str(path.resolve()) for path in paths}
    for cache in [o for o in gc.get_objects() if type(o) is functools._lru_cache_wrapper]:
        if os.path.realpath(cache.__wrapped__.__code__.co_filename) in own:
            yield cache


def _functions() -> Iterator[types.FunctionType]:
    return (o for o in gc.get_objects() if type(o) is types.FunctionType)


def _replacements(
    root: Path, mutant: Mutant, functions: Sequence[types.FunctionType]
) -> Iterator[tuple[types.FunctionType, types.CodeType]]:
    """Yield each live function that a mutant changes with its code; none if it changes what runs at import."""
    old = {(c.co_qualname, c.co_firstlineno): c for c in _codes(compile((root / mutant.file).read_text(), "x", "exec"))}
    changed = [
        c
        for c in _codes(compile(mutant.source, "x", "exec"))
        if (before := old.get((c.co_qualname, c.co_firstlineno))) is None or before != c
    ]
    places = {(c.co_qualname, c.co_firstlineno): c for c in changed}
    for function in functions:
        code = places.get((function.__code__.co_qualname, function.__code__.co_firstlineno))
        if code is not None and len(code.co_freevars) == len(function.__code__.co_freevars):
            yield function, code.replace(co_filename=function.__code__.co_filename)


def _replace(codes: Sequence[tuple[types.FunctionType, types.CodeType]]) -> None:
    for function, code in codes:
        function.__code__ = code


def _other_constant(root: Path, mutant: Mutant) -> Callable[[], None] | None:
    """Return what gives a module's constant its other value wherever it was imported; None if it is none."""
    statement = next((s for s in ast.parse(mutant.source).body if s.lineno <= mutant.line <= (s.end_lineno or 0)), None)
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return None
    target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
    path = (root / mutant.file).resolve()
    home = next((m for m in list(sys.modules.values()) if _file_of(m) == str(path)), None)
    if home is None or not isinstance(target, ast.Name):
        return None
    name, old = target.id, getattr(home, target.id)

    def change() -> None:
        namespace = dict(vars(home))
        exec(compile(ast.Module([statement], []), str(path), "exec"), namespace)  # noqa: S102
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get(name, change) is old:
                setattr(module, name, namespace[name])

    return change


def _file_of(module: types.ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    return os.path.realpath(file) if isinstance(file, str) else None
