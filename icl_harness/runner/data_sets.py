"""The data of a run: pool and queries of each task and draw, loaded once.

In: a spec, and the tasks whose pools are shown before other tasks' queries. Out: a `Dataset` by
(task, variant, draw). Left out: which order a draw has, and what of a pool its mode can show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from icl_harness.examples import content_hash
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.rationales import limited_pool
from icl_harness.runner.spec import Spec
from icl_harness.runner.transfer import transferred
from icl_harness.tasks.loading import Dataset, load_examples
from icl_harness.tasks.task import Task

Key = tuple[str, str, int, str]  # task, task of the pool if another, draw, labels


class DataSets:
    """`sources`: other tasks whose pools are shown, by their names in variants."""

    def __init__(self, spec: Spec, data: Path | None, sources: Mapping[str, Task]) -> None:
        self.sources = sources
        self._spec = spec
        self._data = data
        self._found: dict[Key, Dataset] = {}

    def pool_owner(self, task: Task, variant: str) -> Task:
        """Return the task whose pool shots are drawn from: itself, unless a variant names one."""
        return self.sources.get(parse_variant(variant).frame.pool, task)

    def of(self, task: Task, variant: str, draw: int) -> Dataset:
        """Return the examples of a draw; only those of a `per_draw` task differ between draws. The
        pool may be another task's.
        """
        labels, source = parse_variant(variant).labels, self.pool_owner(task, variant)
        own = self.own(task, labels, draw)
        if source is task:
            return own
        other = self.own(source, labels, draw)
        is_new = task.per_draw or source.per_draw
        key = (task.name, source.name, draw if is_new else 0, labels)
        if key not in self._found:
            if is_new:
                self._forget(task.name, source.name)
            self._found[key] = transferred(own, other, task, source)
        return self._found[key]

    def own(self, task: Task, labels: str, draw: int) -> Dataset:
        """Return a task's own examples under some labels, with the pool that --pool leaves."""
        key = (task.name, "", draw if task.per_draw else 0, labels)
        if key not in self._found:
            if task.per_draw:
                self._forget(task.name, "")
            found = load_examples(
                task, data=self._data, seed=self._spec.seed, draw=key[2], variant=labels
            )
            self._found[key] = self._with_pool(task, found)
        return self._found[key]

    def _forget(self, task: str, source: str) -> None:
        """Forget what was generated for another draw."""
        self._found = {key: v for key, v in self._found.items() if key[:2] != (task, source)}

    def _with_pool(self, task: Task, found: Dataset) -> Dataset:
        """Return the data with the pool examples that --pool leaves."""
        n = self._spec.pool
        if n is None or n >= len(found.pool):
            return found
        if not task.per_draw:
            some = limited_pool(found.pool, n, self._spec.seed, f"pool {task.name}")
            return replace(found, pool=tuple(some))
        # Its order is its own, class-balanced say: the first n keep that. The hash tells such runs
        # from those of versions that took any n.
        pool = list(found.pool[:n])
        return replace(found, pool=tuple(pool), pool_hash=content_hash(pool))
