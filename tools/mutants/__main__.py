"""`python -m tools.mutants`: run the mutants of each target, and say which survived."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tools.mutants.judged import read_judged
from tools.mutants.mutation import Mutant, mutants_of

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "tests" / "mutants"
OUT = ROOT / ".mutants"
SEED = 11
PYTEST = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0", "--disable-warnings")
KILLED = ("killed", "timeout")
SHARE = 0.9  # of the mutants that are not equivalent


@dataclass(frozen=True, slots=True)
class Target:
    """Files that are mutated together, the tests that are asked, and words in the names of those that are not."""

    name: str
    files: tuple[str, ...]
    tests: tuple[str, ...]
    skip: tuple[str, ...]

    @property
    def arguments(self) -> list[str]:
        """What pytest is given."""
        return [*PYTEST, *self.tests, *(("-k", " and ".join(f"not {w}" for w in self.skip)) if self.skip else ())]


def targets() -> dict[str, Target]:
    """Return the targets of tests/mutants/targets.toml by name."""
    document = tomllib.loads((PLACE / "targets.toml").read_text())
    return {
        name: Target(name, tuple(t["files"]), tuple(t["tests"]), tuple(t.get("skip", ())))
        for name, t in document.items()
    }


@click.group()
def main() -> None:
    """Mutation tests."""


@main.command()
@click.argument("names", nargs=-1)
@click.option(
    "--sample", type=int, default=0, help="So many mutants of each target, drawn with a fixed seed; 0 is all."
)
@click.option("--survivors", is_flag=True, help="Only those that no test noticed last time and nobody has judged.")
@click.option("--jobs", type=int, default=1, show_default=True, help="Targets at once.")
def run(names: Sequence[str], sample: int, survivors: bool, jobs: int) -> None:
    """Run the mutants of targets, of all if none is named; 1 if fewer than nine in ten are killed in one."""
    known = targets()
    if unknown := set(names) - set(known):
        raise click.ClickException(f"target: got {', '.join(sorted(unknown))}, allowed {', '.join(known)}")
    chosen = names or tuple(known)
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

    def one(name: str) -> int:
        command = [sys.executable, "-m", "tools.mutants", "target", name, "--sample", str(sample)]
        return subprocess.run(  # noqa: S603
            [*command, *(["--survivors"] if survivors else [])], env=environment, cwd=ROOT, check=False
        ).returncode

    with ThreadPoolExecutor(jobs) as pool:
        codes = list(pool.map(one, chosen))
    rows = [row(name) for name in chosen]
    click.echo("\n".join(table(rows)))
    sys.exit(any(codes) or any(r["share"] < SHARE for r in rows))


@main.command(hidden=True)
@click.argument("name")
@click.option("--sample", type=int, default=0)
@click.option("--survivors", is_flag=True)
def target(name: str, sample: int, survivors: bool) -> None:
    """Run one target in this process."""
    import pytest

    from tools.mutants.plugin import AT_IMPORT, Forks, Verdict
    from tools.mutants.profile import Profile

    this = targets()[name]
    mutants = [mutant for file in this.files for mutant in mutants_of(ROOT, file)]
    of_all = len(mutants)
    if sample and sample < of_all:
        mutants = sorted(random.Random(SEED).sample(mutants, sample), key=lambda m: (m.file, m.line))  # noqa: S311
    before = {_identity(r): r for r in _kept(name)} if survivors else {}
    judged = read_judged(PLACE / "judged.toml")
    results: dict[int, dict[str, Any]] = {}
    for i, mutant in enumerate(mutants):
        old = before.get(_identity(_described(mutant, Verdict(""))))
        if old and (old["outcome"] in KILLED or mutant.key in judged):
            results[i] = old | {"line": mutant.line}
    asked = [i for i in range(len(mutants)) if i not in results]

    def say(number: int, verdict: Verdict) -> None:
        i = asked[number]
        results[i] = _described(mutants[i], verdict)
        if verdict.outcome not in (AT_IMPORT, *KILLED):
            click.echo(f"\n{verdict.outcome}: {_place(results[i])}")

    forks = Forks(ROOT, this.files, [mutants[i] for i in asked], say)
    code = pytest.main(this.arguments, plugins=[Profile(), forks])
    if code not in (0, 5):
        sys.exit(code or 1)
    for i in [i for i, result in sorted(results.items()) if result["outcome"] == AT_IMPORT]:
        results[i] = _described(mutants[i], _at_import(mutants[i], this))
        if results[i]["outcome"] not in KILLED:
            click.echo(f"{results[i]['outcome']}: {_place(results[i])}")
    OUT.mkdir(exist_ok=True)
    document = {"all": of_all, "mutants": [results[i] for i in sorted(results)]}
    (OUT / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    click.echo(f"{name}: {dict(Counter(r['outcome'] for r in results.values()))}")


def _at_import(mutant: Mutant, this: Target) -> Any:
    """Run the tests in a process that imports the mutated file."""
    from tools.mutants.plugin import LEAST_SECONDS, Verdict

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "mutant.py"
        source.write_text(mutant.source)
        command = [sys.executable, "-m", "tools.mutants.importing", str(ROOT / mutant.file), str(source)]
        options = ["-x", f"--basetemp={folder}/pytest"]
        try:
            done = subprocess.run(  # noqa: S603
                [*command, *options, *this.arguments], cwd=ROOT, capture_output=True, text=True, check=False,
                timeout=30 * LEAST_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Verdict("timeout")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return Verdict("killed" if done.returncode else "survived", failed[0][:200] if failed else "")


@main.command()
@click.argument("names", nargs=-1)
def show(names: Sequence[str]) -> None:
    """Say which mutants survived and are not judged, and the table of all."""
    known = names or tuple(n for n in targets() if (OUT / f"{n}.json").exists())
    judged = read_judged(PLACE / "judged.toml")
    for name in known:
        for result in _kept(name):
            if result["outcome"] not in KILLED and _key(result) not in judged:
                click.echo(f"{result['outcome']}: {_place(result)}")
        survived = {_key(r) for r in _kept(name) if r["outcome"] not in KILLED}
        if row(name)["all"] == row(name)["run"]:
            for file, function, line, after in sorted(judged.keys() - survived):
                if file in targets()[name].files:
                    click.echo(f"judged, but no survivor: {file} {function}: {line}  ->  {after}")
    click.echo("\n".join(table([row(name) for name in known])))


def row(name: str) -> dict[str, Any]:
    """Return the figures of a target's last run."""
    judged = read_judged(PLACE / "judged.toml")
    results = _kept(name)
    killed = sum(r["outcome"] in KILLED for r in results)
    by = Counter(judged.get(_key(r), "unjudged") for r in results if r["outcome"] not in KILLED)
    of_all = json.loads((OUT / f"{name}.json").read_text())["all"] if results else 0
    share = killed / max(1, len(results) - by["equivalent"])
    return {"name": name, "all": of_all, "run": len(results), "killed": killed, **by, "share": share}


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the table of docs/mutants.md."""
    yield "| target | mutants | run | killed | equivalent | accepted | not judged | killed of those not equivalent |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for r in rows:
        figures = [r[key] for key in ("all", "run", "killed")]
        figures += [r.get(key, 0) for key in ("equivalent", "accepted", "unjudged")]
        yield f"| {r['name']} | " + " | ".join(map(str, figures)) + f" | {100 * r['share']:.1f} % |"


def _kept(name: str) -> list[dict[str, Any]]:
    path = OUT / f"{name}.json"
    return list(json.loads(path.read_text())["mutants"]) if path.exists() else []


def _described(mutant: Mutant, verdict: Any) -> dict[str, Any]:
    return {
        "file": mutant.file,
        "line": mutant.line,
        "function": mutant.function,
        "before": mutant.before,
        "after": mutant.after,
        "operator": mutant.operator,
        "outcome": verdict.outcome,
        "by": verdict.by,
    }


def _key(result: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return (result["file"], result["function"], result["before"], result["after"])


def _identity(result: Mapping[str, Any]) -> tuple[str, ...]:
    return (*_key(result), result["operator"])


def _place(result: Mapping[str, Any]) -> str:
    return f"{result['file']}:{result['line']} {result['function']}: {result['before']}  ->  {result['after']}"


if __name__ == "__main__":
    main()
