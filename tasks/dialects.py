"""Invented words in one of 12 dialects: which label has the first of two words in this dialect?

The bundled model knows the dialects from its training; the prompt must tell it which one is spoken.
Draw d speaks dialect d mod 12, so 12 draws hear all. Variants change the labels alone: flipped
turns them on by one, random gives each word a label of the episode's own. Unsupervised prompts show
no labels: only in default can they be answered.
"""

from typing import cast, get_args

import numpy as np

from icl_harness import Example, Task, label_match, task
from icl_harness import dialect_world as world

N_POOL, N_QUERIES = 64, 200


def sample(
    rng: np.random.Generator, variant: str, draw: int
) -> tuple[list[Example], list[Example]]:
    inputs, labels = rng.spawn(2)  # a random label map must not change which words are drawn
    episode = world.Episode.sample(labels, draw % world.N_DIALECTS, cast(world.MapKind, variant))
    pool = episode.draw(inputs, N_POOL)
    shown = {text for text, _ in pool}
    queries: list[tuple[str, str]] = []
    while len(queries) < N_QUERIES:
        queries += [
            pair for pair in episode.draw(inputs, N_QUERIES - len(queries)) if pair[0] not in shown
        ]
    return examples("p", pool), examples("q", queries)


def examples(prefix: str, pairs: list[tuple[str, str]]) -> list[Example]:
    return [
        Example(id=f"{prefix}{i}", input=text, target=label)
        for i, (text, label) in enumerate(pairs)
    ]


@task
def dialects() -> Task:
    return Task(
        generate=sample,
        per_draw=True,
        variants=get_args(world.MapKind),
        prompts="dialects",
        labels=world.LABELS,
        scorer=label_match,
        max_tokens=2,
        learner=world.BayesLearner,
    )
