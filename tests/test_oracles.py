"""Models that know the answers and dress them are read as right; `python -m tests.oracles` prints
the table for every back end.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracles import KEYS, TASKS, accuracy, oracles

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, "no-key-is-needed")


@pytest.mark.parametrize("task", TASKS)
def test_right_answers_are_read_in_any_dress_and_hedges_are_not(
    task: str, shared_data: Path
) -> None:
    for name, say, wanted in oracles(TASKS[task]):
        assert (name, accuracy(task, "scripted", str(shared_data), say)) == (name, wanted)


@pytest.mark.parametrize(
    "back_end",
    ["openai chat", "openai responses", "openai completions", "anthropic", "google"],
)
def test_every_back_end_gives_the_same(back_end: str, shared_data: Path) -> None:
    for name, say, wanted in oracles("label"):
        assert (name, accuracy("trec", back_end, str(shared_data), say)) == (name, wanted)
