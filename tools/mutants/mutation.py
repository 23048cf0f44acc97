"""The mutants of a file: each one fault, with the place a person finds it by."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

from tools.mutants.operators import WORDS, operators

__all__ = ["Mutant", "mutants_of"]

Place = tuple[int, int]  # line, column
GUARDS = ("strict", "frozen", "slots")  # of zip and dataclass
COMMENT = re.compile(r"  # [^\"']*$")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault.

    Parameters
    ----------
    file : str
        Path from the repository's root.
    line : int
        Where it begins, from 1.
    statement : tuple of int
        First and last line of the statement around it: a compound one to the colon.
    function : str
        Qualified name of the function around it; empty outside of all.
    before, after : str
        The lines that differ, as they are and as they become, with single blanks.
    operator : str
    source : str
        The whole file with the fault.
    """

    file: str
    line: int
    statement: tuple[int, int]
    function: str
    before: str
    after: str
    operator: str
    source: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What a judgement names: it outlives changes elsewhere in the file."""
        return (self.file, self.function, self.before, self.after)


def mutants_of(root: Path, file: str) -> list[Mutant]:
    """Return the mutants of a file, each source once, in order of lines; annotations are no code and stay."""
    source = (root / file).read_text()
    tree = ast.parse(source)
    nodes = list(ast_nodes(get_ast(source)))
    no_code = list(_left_alone(tree))
    seen, found = {ast.dump(tree)}, []
    for name, operator in operators().items():
        places = [(begin, node) for node in nodes for begin, _ in operator.mutation_positions(node)]
        for occurrence, (begin, node) in enumerate(places):
            if _is_star(node) or any(first <= begin < last for first, last in no_code):
                continue
            mutated = mutate_code(source, operator, occurrence)
            try:
                dump = ast.dump(ast.parse(mutated))
            except SyntaxError:
                continue
            if dump not in seen:
                seen.add(dump)
                before, after = _difference(source, mutated)
                found.append(
                    Mutant(
                        file,
                        begin[0],
                        _statement(tree, begin[0]),
                        _function(tree, begin[0]),
                        before,
                        after,
                        name,
                        mutated,
                    )
                )
    return sorted(found, key=lambda mutant: (mutant.line, mutant.operator, mutant.after))


def _is_star(node: Any) -> bool:
    """Whether it is the star or the slash of a signature, which cosmic-ray takes for a product."""
    return node.parent is not None and node.parent.type == "parameters" and node.type == "operator"


def _left_alone(tree: ast.AST) -> Iterator[tuple[Place, Place]]:
    """Yield where that begins and ends which nothing can notice: annotations, aliases of types, imports for them, lines
    for people, and what a correct program never comes upon (`strict`, `frozen`, `slots`).
    """
    for node in ast.walk(tree):
        part: ast.expr | ast.stmt | None = None
        if isinstance(node, ast.AnnAssign | ast.arg):
            part = node.annotation
        elif isinstance(node, ast.FunctionDef):
            part = node.returns
        elif _is_words(node) or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            part = node
        elif isinstance(node, ast.keyword) and node.arg in GUARDS:
            part = node.value
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            part = node if name[:1].isupper() and name != name.upper() else None
        if part is not None:
            yield (part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0)


def _is_words(node: ast.AST) -> TypeGuard[ast.expr]:
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith(WORDS)


def _statement(tree: ast.AST, line: int) -> tuple[int, int]:
    found = (line, line)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.ExceptHandler) and node.lineno <= line <= (node.end_lineno or 0):
            body = getattr(node, "body", None)
            last = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or 0
            if line <= last:
                found = (node.lineno, last)
    return found


def _function(tree: ast.AST, line: int, name: str = "") -> str:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.lineno <= line <= (
            node.end_lineno or 0
        ):
            return _function(node, line, f"{name}.{node.name}" if name else node.name)
    return name


def _difference(before: str, after: str) -> tuple[str, str]:
    old, new = before.splitlines(), after.splitlines()
    changes = [
        change
        for change in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if change[0] != "equal"
    ]
    first, last = changes[0], changes[-1]
    return _blanks(old[first[1] : last[2]]), _blanks(new[first[3] : last[4]])


def _blanks(lines: list[str]) -> str:
    return " ".join(" ".join(COMMENT.sub("", line) for line in lines).split())
