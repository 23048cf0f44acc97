"""The mutants themselves, without running any: where faults are made, and where they are not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import click
import pytest

pytest.importorskip("cosmic_ray", reason="make mutants installs it")

from kappawatt.columns import schema
from tools.mutants.__main__ import PLACE, ROOT, targets
from tools.mutants.judged import read_judged
from tools.mutants.mutation import mutants_of
from tools.mutants.plugin import _caches

SOURCE = '''"""A module."""
from dataclasses import dataclass

LIMIT = 7  # a bound
Row = tuple[int | None, str]


@dataclass(frozen=True)
class Kept:
    def put(self, values: list[int | None], *, most: int | None = None) -> int | None:
        """Put."""
        log.info("put", exc_info=True)
        self.values = max(values)
        try:
            return values[0] < 3
        except (KeyError, os.error):
            raise
'''


def changes(tmp_path: Path, source: str = SOURCE) -> set[tuple[str, str]]:
    (tmp_path / "a.py").write_text(source)
    return {(mutant.before, mutant.after) for mutant in mutants_of(tmp_path, "a.py")}


def test_a_module_gets_faults_in_all_that_runs_and_in_nothing_else(tmp_path: Path) -> None:
    assert changes(tmp_path) == {
        ("LIMIT = 7", "LIMIT = 8"),
        ("LIMIT = 7", "LIMIT = 6"),
        ("@dataclass(frozen=True)", ""),
        ("self.values = max(values)", "self.values = min(values)"),
        ("self.values = max(values)", "pass"),
        ("return values[0] < 3", "return values[ 1] < 3"),
        ("return values[0] < 3", "return values[ -1] < 3"),
        ("return values[0] < 3", "return values[0] < 4"),
        ("return values[0] < 3", "return values[0] < 2"),
        ("return values[0] < 3", "return values[0] <= 3"),
        ("return values[0] < 3", "return values[0] >= 3"),
        ("except (KeyError, os.error):", "except NotImplementedError:"),
    }


def test_a_mutant_names_its_function_and_the_lines_of_its_statement(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class A:\n    def b(self, c):\n        return (\n            c + 1\n        )\n")

    (plus, *_) = [m for m in mutants_of(tmp_path, "a.py") if m.after == "c - 1"]

    assert (plus.function, plus.line, plus.statement) == ("A.b", 4, (3, 5))


def test_cached_functions_are_found_by_their_file() -> None:
    own = ROOT / "src" / "kappawatt" / "columns" / "schema.py"

    assert {cache.__wrapped__ for cache in _caches([own])} == {schema._nothing_for_one.__wrapped__}


def test_every_target_has_its_files_and_tests() -> None:
    for target in targets().values():
        for path in (*target.files, *target.tests):
            assert (ROOT / path).exists(), path


def test_every_judgement_is_of_a_file_that_is_mutated() -> None:
    mutated = {file for target in targets().values() for file in target.files}

    assert {file for file, *_ in read_judged(PLACE / "judged.toml")} <= mutated


def test_a_judgement_without_a_reason_is_refused(tmp_path: Path) -> None:
    entry = {"file": "a.py", "function": "b", "line": "c", "mutants": ["d"], "judged": "equivalent", "why": "no"}
    text = "[[survivor]]\n" + "\n".join(f"{key} = {value!r}" for key, value in entry.items())
    assert tomllib.loads(text)["survivor"] == [entry]
    (tmp_path / "judged.toml").write_text(text)

    with pytest.raises(click.ClickException, match=r"judged.toml: a.py, b, c: got .* and a why"):
        read_judged(tmp_path / "judged.toml")
