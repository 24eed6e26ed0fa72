"""Running parity of 20 random bits: are the ones so far odd or even? (Agarwal et al. 2024, A.6)

8,192 pool strings and 200 queries, all different. An answer is right when all 20 words are;
guessing gives 2^-20. The prompt does not tell the rule: nearest neighbours are of no use here, so
it must be read off the examples.
"""

import re

import numpy as np

from icl_harness import UNPARSED, Example, Score, Task, first_line, task

N_BITS, N_POOL, N_QUERIES = 20, 8192, 200


def sample(
    rng: np.random.Generator, variant: str, draw: int
) -> tuple[list[Example], list[Example]]:
    numbers = rng.choice(2**N_BITS, size=N_POOL + N_QUERIES, replace=False)
    bits = numbers[:, None] >> np.arange(N_BITS) & 1  # (strings, 20)
    words = np.where(bits.cumsum(axis=1) % 2, "Odd", "Even")
    examples = [
        Example(id=f"x{i}", input=" ".join(map(str, x)), target=" ".join(y))
        for i, (x, y) in enumerate(zip(bits.tolist(), words.tolist(), strict=True))
    ]
    return examples[:N_POOL], examples[N_POOL:]


def words_match(answer: str, example: Example) -> Score:
    """Compare the words of the first line, behind a cue such as "Output:"; what is not 20 Odd or
    Even is unparsed.
    """
    line = re.sub(
        r"^\W*(?:the )?(?:output|answer)\W*(?:is\b|:)", "", first_line(answer), flags=re.IGNORECASE
    )
    words = [word.capitalize() for word in re.findall(r"[^\W_]+", line)]
    if len(words) != N_BITS or not set(words) <= {"Odd", "Even"}:
        return UNPARSED
    return Score(" ".join(words), float(words == example.target.split()))


@task
def sequential_parity() -> Task:
    return Task(
        generate=sample,
        prompts="function",
        fields={
            "rule": f"An unknown rule turns {N_BITS} bits into {N_BITS} words, "
            "each of them Odd or Even.",
            "reply": f"Answer with the {N_BITS} words alone, separated by spaces.",
        },
        scorer=words_match,
        chance=2.0**-N_BITS,
        max_tokens=128,
    )
