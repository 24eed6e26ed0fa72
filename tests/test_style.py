"""How the package is written: short files and functions, one thought a line."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import icl_harness

PACKAGE = Path(icl_harness.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {file: ast.parse(file.read_text()) for file in FILES}
TASKS = {file: ast.parse(file.read_text()) for file in sorted(PACKAGE.parent.glob("tasks/*.py"))}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def nodes(*kinds: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """Every node of these kinds, after its file and line."""
    for file, tree in (TREES | TASKS).items():
        for node in ast.walk(tree):
            if isinstance(node, kinds):
                yield f"{file.relative_to(PACKAGE.parent)}:{node.lineno}", node


def holding(*kinds: type[ast.AST]) -> list[str]:
    """Where a node of these kinds holds another."""
    found = []
    for place, outer in nodes(*kinds):
        inner = [node for node in ast.walk(outer) if isinstance(node, kinds)]
        if len(inner) > 1:
            found.append(place)
    return found


def test_no_comprehension_holds_another() -> None:
    assert not holding(*COMPREHENSIONS)


def test_no_comprehension_has_two_loops() -> None:
    assert not [place for place, node in nodes(*COMPREHENSIONS) if len(node.generators) > 1]


def test_no_conditional_expression_holds_another() -> None:
    assert not holding(ast.IfExp)


def test_files_and_functions_are_short() -> None:
    files = [len(file.read_text().splitlines()) for file in FILES]
    assert median(files) < 150
    assert sum(n <= 300 for n in files) >= 0.9 * len(files)
    functions = []
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.append(node.end_lineno - node.lineno + 1)
    assert median(functions) < 10
