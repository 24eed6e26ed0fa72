"""Is a vector of integers above an unknown plane, or below? (Agarwal et al. 2024, App. A.5)

Coefficients a and a pivot p are N random integers in [1, 1000), the threshold is a·p; random
vectors are taken until there are 2,048 shots and 25 queries with a·x above it, and as many below.
Every draw is a new data set (the paper's 5 are `--draws 5`). The pool alternates the classes,
either first at random, so that 2K shots are K of each class. N = 16, or :32, :64, and :2, :4 for
small models.
"""

import numpy as np

from icl_harness import Example, Task, label_match, task

N_POOL, N_QUERIES = 2048, 25  # of each class
N_CLASS = N_POOL + N_QUERIES
N_BATCH, N_BATCHES = 4096, 1000


def sample(rng: np.random.Generator, n: int) -> tuple[list[Example], list[Example]]:
    foo, bar = separated(rng, n)
    while min(len(foo), len(bar)) < N_CLASS:  # a plane in a corner of the cube: take another
        foo, bar = separated(rng, n)
    rows: list[tuple[str, str]] = []
    for f, b in list(zip(foo, bar, strict=False))[:N_CLASS]:
        pair = [(f, "Foo"), (b, "Bar")]
        rows += pair if rng.random() < 0.5 else pair[::-1]
    examples = [Example(id=f"x{i}", input=x, target=label) for i, (x, label) in enumerate(rows)]
    return examples[: 2 * N_POOL], examples[2 * N_POOL :]


def separated(rng: np.random.Generator, n: int) -> tuple[dict[str, None], dict[str, None]]:
    """Return distinct vectors above and below a new plane: enough, or what all batches give."""
    coefficients, pivot = rng.integers(1, 1000, size=(2, n))
    foo: dict[str, None] = {}
    bar: dict[str, None] = {}
    for _ in range(N_BATCHES):
        points = rng.integers(1, 1000, size=(N_BATCH, n))
        sides = np.sign((points - pivot) @ coefficients)
        for point, above in zip(points.tolist(), sides.tolist(), strict=True):
            if above:
                (foo if above > 0 else bar)[" ".join(map(str, point))] = None
        if min(len(foo), len(bar)) >= N_CLASS:
            break
    return foo, bar


@task(subsets=("16", "32", "64", "2", "4"))
def linear_classification(n: str) -> Task:
    return Task(
        generate=lambda rng, variant, draw: sample(rng, int(n)),
        per_draw=True,
        prompts="function",
        fields={
            "rule": f"An unknown rule gives {n} integers one of two names, Foo or Bar.",
            "reply": "Answer with Foo or Bar alone.",
        },
        labels=("Foo", "Bar"),
        scorer=label_match,
    )
