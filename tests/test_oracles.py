"""Models that know the answers and dress them are read as right; `python -m tests.oracles` prints
the table for every back end.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracles import KEYS, TASKS, accuracies, oracles

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, "no-key-is-needed")


def wanted(task: str) -> dict[str, float]:
    return {name: must for name, (_, must) in oracles(TASKS[task]).items()}


@pytest.mark.parametrize("task", TASKS)
def test_right_answers_are_read_in_any_dress_and_hedges_are_not(
    task: str, shared_data: Path
) -> None:
    assert accuracies(task, "scripted", str(shared_data)) == wanted(task)


@pytest.mark.parametrize(
    "back_end",
    ["openai chat", "openai responses", "openai completions", "anthropic", "google"],
)
def test_every_back_end_gives_the_same(back_end: str, shared_data: Path) -> None:
    assert accuracies("trec", back_end, str(shared_data)) == wanted("trec")


@pytest.mark.parametrize("back_end", ["hf", "vllm"])
def test_local_models_that_write_token_by_token_give_the_same(
    back_end: str, shared_data: Path
) -> None:
    names = ["after line ends", "after a thought", "before another problem", "as JSON", "hedges"]
    found = accuracies("trec", back_end, str(shared_data), names)
    assert found == {name: wanted("trec")[name] for name in names}
