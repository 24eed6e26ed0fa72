"""A line of a run: the cells that share one path of prompts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from icl_harness.prompts.modes import Mode
from icl_harness.prompts.variants import Variant, parse_variant
from icl_harness.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Line:
    """The cells that share one prompt path: all shot counts of a (model, task, variant, mode,
    draw).
    """

    model: str
    task: Task
    variant: str
    mode: Mode
    draw: int
    owner: Task | None = None  # of the pool, where that is another task's

    def __str__(self) -> str:
        return f"{self.task.name}, {self.mode}, {self.variant}, draw {self.draw}"

    @property
    def needs_bank(self) -> bool:
        """Return whether its shots depend on what the model has solved."""
        variant = parse_variant(self.variant)
        return variant.frame.shots and (self.mode == "reinforced" or variant.needs_bank)

    @property
    def for_bank(self) -> Line:
        """Return the line whose bank this one takes: that of the pool's task, with the labels and,
        of its own task, the words of this one.
        """
        steps = [step for step in parse_variant(self.variant).steps if step.operator.of_attempts]
        labels = parse_variant(self.variant).labels
        kept = Variant(labels=labels, steps=() if self.owner else tuple(steps))
        return replace(self, task=self.owner or self.task, owner=None, variant=str(kept))
