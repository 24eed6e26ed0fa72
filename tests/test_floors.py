"""The structure that design and README promise: floors, a light base import, an API that is what `__all__` says."""

import ast
import subprocess
import sys
from pathlib import Path

import icl_harness

PACKAGE = Path(icl_harness.__file__).parent
FLOORS = {
    0: ("errors", "examples", "files", "prompts"),
    1: ("bank", "data", "dialects", "draws", "hub_data", "modes", "scoring", "task_files", "tasks"),
    2: ("ledger", "models", "results", "run_file", "tables"),
    3: (
        "banking",
        "batches",
        "caches",
        "experiment",
        "fitting",
        "grid",
        "groups",
        "lines",
        "plan",
        "planning",
        "records",
        "runner",
        "turns",
    ),
    4: ("compare", "curves", "stats"),
    5: ("app", "describe", "grid_options", "plan_report", "plots", "report", "runs", "usage"),
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
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
)


def imported(path: Path) -> set[str]:
    """The rooms of icl_harness that a file imports, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("icl_harness."):
            rooms.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "icl_harness":
            rooms.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            rooms.update(a.name.split(".")[1] for a in node.names if a.name.startswith("icl_harness."))
    return rooms


def test_every_file_stands_on_a_floor_and_imports_only_its_own_and_those_below() -> None:
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in FLOOR_OF, f"{path.name} stands on no floor: add it to FLOORS"
        above = {other for other in imported(path) if FLOOR_OF[other] > FLOOR_OF[room]}
        assert not above, f"{path.name} (floor {FLOOR_OF[room]}) imports {above} from above"


def test_base_import_loads_nothing_heavy() -> None:
    code = f"import sys, icl_harness; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom icl_harness.app import main\nsys.argv = ['icl', '--help']\n"
        f"try: main()\nexcept SystemExit: print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert out.splitlines()[-1] == "[]"
    assert "compare" in out


def test_all_is_the_public_api_and_every_name_of_it_loads() -> None:
    assert icl_harness.__all__ == sorted(icl_harness._HOMES)
    for name in icl_harness.__all__:
        assert getattr(icl_harness, name).__name__ == name
    assert set(dir(icl_harness)) == set(icl_harness.__all__)
