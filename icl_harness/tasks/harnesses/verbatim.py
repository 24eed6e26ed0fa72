"""Examples whose texts another harness has made: nothing is stripped, unlike those of task files.

In: examples. Out: a source of rows, and the scorer of answers that are one of fixed choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from icl_harness.examples import Example
from icl_harness.tasks.rows import MakeExample
from icl_harness.tasks.scoring import UNPARSED, Score, label_match

TEMPLATE = "verbatim"  # prompts/verbatim.jinja


@dataclass(frozen=True, kw_only=True)
class Verbatim:
    """A source of examples as they are."""

    items: tuple[Example, ...] = field(repr=False)

    def examples(self, make: MakeExample, task: str, data: Path | None) -> list[Example]:
        """Return the examples."""
        return list(self.items)


def choice_score(right: Mapping[str, frozenset[int]], answer: str, example: Example) -> Score:
    """Return whether an answer is one of the right choices of its example, by their places; a
    written one is matched to a choice as labels are.
    """
    choices = example.choices
    chosen: str | None = answer
    if answer not in choices:
        chosen = label_match(answer, example).parsed
    if chosen is None or chosen not in choices:
        return UNPARSED
    return Score(chosen, float(choices.index(chosen) in right[example.id]))
