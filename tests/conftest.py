"""Shared fixtures: a toy task in a working directory of its own, and the real data where it is at
hand.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

TOY_TASK = '''"""Is the number even? A toy."""

from icl_harness import Example, Task, label_match, rows, task


def example(row):
    return Example(id=row["id"], input=row["text"], target=row["label"], rationale=row.get("why"))


@task
def toy() -> Task:
    return Task(
        pool=rows("train"),
        queries=rows("test"),
        example=example,
        prompts="toy",
        scorer=label_match,
        labels=("even", "odd"),
        label_maps={"flipped": {"even": "odd", "odd": "even"}},
        max_tokens=4,
    )
'''

TOY_PROMPTS = """\
{% block preamble %}Even or odd? ({{ mode }})
{% endblock %}
{% block shot %}{{ input }} ->{% if target is not none %} {{ target }}{% endif %}
{% endblock %}
{% block format %}Answer {{ labels | join(" or ") }}.
{% for e in examples %}{{ e.input }} -> {{ e.target }}
{% endfor %}{% endblock %}
{% block query %}{{ input }} ->{% endblock %}
"""

N_POOL, N_QUERIES = 40, 12


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the task `toy`: 40 pool numbers, 12 others to ask."""
    for folder in ("tasks", "prompts", "data/toy"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "tasks/toy.py").write_text(TOY_TASK)
    (tmp_path / "prompts/toy.jinja").write_text(TOY_PROMPTS)
    for name, numbers in (("train", range(N_POOL)), ("test", range(100, 100 + N_QUERIES))):
        lines = [
            f'{{"id": "{name}{i}", "text": "n {i}", "label": "{parity(i)}"}}\n' for i in numbers
        ]
        (tmp_path / f"data/toy/{name}.jsonl").write_text("".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ICL_DATA", raising=False)
    return tmp_path


def parity(number: int) -> str:
    return ("even", "odd")[number % 2]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets, outside the project."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the real data sets (../shared/data) are not on this machine")
    return folder


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the tests that take a minute: begun last, one alone would keep all waiting.
    Of the parameters of a slow test try every second, unless ICL_TRIES is 1 or a test is named.
    """
    long = ("test_workers.py", "test_pretrained.py", "test_damage.py")
    items.sort(key=lambda item: item.path.name not in long)
    is_named = any("::" in arg for arg in config.args)
    if float(os.environ.get("ICL_TRIES", "0.5")) < 1 and not is_named:
        items[:] = list(_every_second(items))


def _every_second(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    seen = Counter[tuple[object, str]]()
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("slow"):
            which = (item.parent, item.originalname)
            seen[which] += 1
            if seen[which] % 2 == 0:
                continue
        yield item
