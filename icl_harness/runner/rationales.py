"""Pools of which some problems have a gold rationale and others an answer alone.

In: the examples of a pool. Out: those that a prompt may show worked. A prompt that asks for steps
shows no bare answer as a shot: supervised mode, and the shots before the attempts of a bank, take
those with a rationale wherever there are any. Where all have one, or none, nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from icl_harness.draws import sample_examples
from icl_harness.examples import Example
from icl_harness.prompts.modes import Mode


def worked_of(examples: Sequence[Example]) -> list[Example]:
    """Return the examples with a gold rationale; all where none has one."""
    return [e for e in examples if e.rationale is not None] or list(examples)


def shown_in(mode: Mode, examples: Sequence[Example]) -> list[Example]:
    """Return the examples that can be shots of a mode."""
    return worked_of(examples) if mode == "supervised" else list(examples)


def limited_pool(pool: Sequence[Example], n: int, seed: int, name: str) -> list[Example]:
    """Return `n` examples of a pool; where only some have a rationale, these first."""
    worked = {example.id for example in worked_of(pool)}
    chosen = [example for example in pool if example.id in worked]
    others = [example for example in pool if example.id not in worked]
    kept = sample_examples(chosen, n, seed, name)
    kept += sample_examples(others, n - len(kept), seed, name)
    ids = {example.id for example in kept}
    return [example for example in pool if example.id in ids]
