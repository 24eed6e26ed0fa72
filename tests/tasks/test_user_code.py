"""What task authors write: whatever is wrong with it is told in one line, and no half of it is
taken.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from icl_harness.errors import DataError, SpecError
from icl_harness.examples import Example, content_hash
from icl_harness.tasks.loading import find_tasks, load_examples
from icl_harness.tasks.scoring import label_match
from icl_harness.tasks.task import Task


def task(**given: Any) -> Task:
    fields = {
        "prompts": "classify",
        "scorer": label_match,
        "generate": lambda *_: ([], []),
        "name": "mine",
        **given,
    }
    return Task(**fields)


WRONG_FIELDS = {
    "labels": [(1, 2), "ab", ["a", "b"], ("a", "")],
    "max_tokens": ["x", 0, True, 1.5, None],
    "chance": ["hi", True, float("nan"), (0.5,)],
    "stop": ["\n", ("",), (1,), None],
    "scorer": ["label_match", None],
    "reward": ["x"],
    "learner": [3],
    "generate": ["x"],
    "prompts": [None, ""],
    "metric": [None, ""],
    "variants": ["flipped"],
    "label_maps": [["flipped"], {"flipped": "x"}, {"flipped": {"a": 1}}],
    "fields": [["x"], {1: "x"}],
    "leaks": ["no", ["drop"]],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG_FIELDS.items() for value in values]
)
def test_a_task_field_of_a_wrong_type_is_refused_by_name_and_rule(name: str, value: Any) -> None:
    with pytest.raises(SpecError, match=rf"^the task's {name} is .*; it must be \S.*\.$"):
        task(**{name: value})


def test_sources_of_rows_are_checked_too() -> None:
    with pytest.raises(SpecError, match=r"the task's pool is 'train'; it must be a source of rows"):
        task(generate=None, pool="train", queries="test", example=dict)


def test_a_wrong_value_of_many_lines_is_told_in_one() -> None:
    np = pytest.importorskip("numpy")
    with pytest.raises(SpecError) as caught:
        task(labels=np.zeros((3, 3)))
    assert "\n" not in str(caught.value)


def raising(error: BaseException) -> Any:
    def generate(*_: Any) -> Any:
        raise error

    return generate


one, other = Example(id="a", input="x y", target="t"), Example(id="b", input="z", target="t")
WRONG_GENERATE: dict[str, tuple[Any, str]] = {
    "it raises": (
        raising(ZeroDivisionError("by\nzero")),
        "its generate failed: ZeroDivisionError: by zero",
    ),
    "it raises a key": (raising(KeyError("variant")), "its generate failed: KeyError: 'variant'"),
    "it ends the program": (
        raising(SystemExit(3)),
        r"its generate failed: it ends the program \(SystemExit: 3\)",
    ),
    "it refuses the data": (raising(DataError("too few.")), r"too few\."),
    "nothing": (
        lambda *_: None,
        "its generate returned None; it must return pool and queries, two lists of Examples",
    ),
    "one list": (lambda *_: [one], "two lists of Examples"),
    "three lists": (lambda *_: ([one], [other], []), "two lists of Examples"),
    "texts": (lambda *_: (["x"], ["y"]), "two lists of Examples"),
    "two examples": (lambda *_: (one, other), "two lists of Examples"),
}


@pytest.mark.parametrize("case", WRONG_GENERATE)
def test_a_generate_that_fails_or_returns_something_else_is_one_line_with_the_tasks_name(
    case: str,
) -> None:
    generate, message = WRONG_GENERATE[case]
    with pytest.raises(DataError, match=rf"^task mine: .*{message}") as caught:
        load_examples(task(generate=generate))
    assert "\n" not in str(caught.value)


WRONG_FILES: dict[str, tuple[bytes, str]] = {
    "it ends the program": (
        b"import sys\nsys.exit(3)\n",
        r"cannot be run: it ends the program \(SystemExit: 3\)",
    ),
    "a NUL byte": (b"x = 1\0\n", r"mine\.py: source code string cannot contain null bytes"),
    "its function ends the program": (
        b"from icl_harness import task\n@task\ndef mine():\n    raise SystemExit\n",
        "task mine: its function failed: it ends the program",
    ),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_task_file_that_cannot_be_run_is_one_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, message = WRONG_FILES[case]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/mine.py").write_bytes(source)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=message) as caught:
        find_tasks("mine")
    assert "None" not in str(caught.value).replace("SystemExit: None", "")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("choices", ["north", ["north"], (1, 2), None])
def test_choices_are_a_tuple_of_strings(choices: Any) -> None:
    with pytest.raises(
        DataError, match=r"example a: the choices are .*; they must be a tuple of strings"
    ):
        Example(id="a", input="x", target="or", choices=choices)


@pytest.mark.parametrize("name", ["id", "input", "target", "rationale"])
def test_texts_of_an_example_are_texts(name: str) -> None:
    fields: dict[str, Any] = {"id": "a", "input": "x", "target": "t"}
    for value in ([1], b"x", True, *(() if name == "rationale" else (None,))):
        with pytest.raises(DataError, match=rf"^the {name} is .*; it must be text"):
            Example(**{**fields, name: value})
    with pytest.raises(DataError, match=rf"^the {name} holds half a surrogate pair"):
        Example(**{**fields, name: "\ud800"})
    assert getattr(Example(**{**fields, name: 7}), name) == "7"


def test_a_cluster_is_part_of_the_content_and_its_absence_is_not() -> None:
    fields: dict[str, Any] = {"id": "a", "input": "x", "target": "t"}
    plain, clustered = Example(**fields), Example(**fields, cluster="document 1")
    as_before = [plain.id, plain.input, plain.target, None, ()]
    before = hashlib.sha256(json.dumps(as_before).encode() + b"\n").hexdigest()
    assert content_hash([plain]) == before
    assert content_hash([clustered]) != before


def test_a_task_carries_the_hash_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = b'''"""Mine."""
from icl_harness import Task, label_match, task
@task
def mine():
    return Task(generate=lambda *_: ([], []), prompts="classify", scorer=label_match)
'''
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/mine.py").write_bytes(source)
    monkeypatch.chdir(tmp_path)
    (found,) = find_tasks("mine")
    assert found.source_hash == hashlib.sha256(source).hexdigest()
