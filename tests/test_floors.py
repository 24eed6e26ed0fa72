"""The structure that the design promises: floors, a light base import, an API that is `__all__`."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import icl_harness

PACKAGE = Path(icl_harness.__file__).parent
# From the top down: a floor imports from those below it. What stands in no folder is the ground.
FLOORS = ("cli", "report", "analysis", "plan", "runner", "store", "models", "prompts", "tasks")
HEAVY = (
    "torch",
    "transformers",
    "pandas",
    "datasets",
    "openai",
    "anthropic",
    "google.genai",
    "sklearn",
    "matplotlib",
    "ray",
    "peft",
    "pydantic",
)


def height(module: str) -> int:
    """How high a module stands: 0 on the ground."""
    floor = module.split(".")[0]
    return len(FLOORS) - FLOORS.index(floor) if floor in FLOORS else 0


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name within it; a package by its folder's."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if parts:
            found[".".join(parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports anywhere in it, under TYPE_CHECKING and in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("icl_harness"):
            base = (node.module or "").removeprefix("icl_harness").removeprefix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".removeprefix(".")
                yield inner if inner in MODULES else base
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("icl_harness."):
                    yield alias.name.removeprefix("icl_harness.")


GRAPH = {name: sorted(set(imports(path)) - {""}) for name, path in MODULES.items()}


def test_the_folders_of_the_package_are_its_floors() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(FLOORS)


def test_no_file_imports_from_a_floor_above_its_own() -> None:
    upward = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if height(other) > height(name)
    ]
    assert not upward


def circle_from(start: str) -> list[str] | None:
    """A path of imports that leads back to where it began."""
    paths = [[start]]
    seen = set()
    while paths:
        path = paths.pop()
        for other in GRAPH.get(path[-1], []):
            if other == start:
                return [*path, other]
            if other not in seen:
                seen.add(other)
                paths.append([*path, other])
    return None


def test_no_imports_go_in_a_circle() -> None:
    assert [circle for name in GRAPH if (circle := circle_from(name))] == []


def test_base_import_loads_nothing_heavy() -> None:
    code = f"import sys, icl_harness; print([m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert out.strip() == "[]"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom icl_harness.cli.app import main\nsys.argv = ['icl', '--help']\n"
        f"try: main()\nexcept SystemExit: print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert out.splitlines()[-1] == "[]"
    assert "compare" in out


def test_all_is_the_public_api_and_every_name_of_it_loads() -> None:
    assert sorted(icl_harness.__all__) == sorted(icl_harness._HOMES | icl_harness._MODULES)
    for name in icl_harness.__all__:
        found = getattr(icl_harness, name)
        assert getattr(found, "__name__", name).rpartition(".")[2] == name
    assert set(dir(icl_harness)) == set(icl_harness.__all__)


def test_bundled_tasks_import_nothing_of_the_package_but_its_public_names() -> None:
    files = sorted((PACKAGE.parent / "tasks").glob("*.py"))
    assert files
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("icl_harness"):
                assert node.module == "icl_harness", path.name
                assert set(names) <= set(icl_harness.__all__), path.name
            elif isinstance(node, ast.Import):
                assert not any(name.startswith("icl_harness") for name in names), path.name
