"""Graduate-level questions of four options, "Google-proof" (Rein et al. 2023).

250 pool questions, those of gpqa_main that are not in gpqa_diamond; 198 queries, gpqa_diamond, as
in Agarwal et al. 2024. gpqa:main and gpqa:extended hold out 198 questions of one file. The set is
gated: accept its terms on the hub and log in, or put the CSV files of its authors into DIR/gpqa.
The order of the options is drawn for each question, by its words, and ends its id: 2031 says that
(A) is the third of the file's answers, of which the first, 0, is right.
"""

import random

from icl_harness import Example, Row, Task, final_match, holdout, hub, task

LETTERS = ("(A)", "(B)", "(C)", "(D)")
ANSWERS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def question(row: Row) -> Example:
    text = row["Question"].strip()
    order = random.Random(text).sample(range(4), 4)
    options = [
        f"{letter} {row[ANSWERS[i]].strip()}" for letter, i in zip(LETTERS, order, strict=True)
    ]
    return Example(
        id=f"{row.place}-{''.join(map(str, order))}",
        input="\n".join([text, *options]),
        target=LETTERS[order.index(0)],
        rationale=(row.get("Explanation") or "").strip() or None,
        choices=LETTERS,
    )


@task(subsets=("diamond", "main", "extended"), groups={"all": ("diamond",)})
def gpqa(asked: str) -> Task:
    pool, queries = (
        hub("Idavidrein/gpqa", f"gpqa_{name}", split="train", local=f"gpqa/gpqa_{name}", ids=name)
        for name in ("main" if asked == "diamond" else asked, "diamond")
    )
    sides = (pool, queries) if asked == "diamond" else holdout(pool, queries=198)
    return Task(
        pool=sides[0],
        queries=sides[1],
        example=question,
        prompts="solve",
        fields={
            "rationales": True,
            "reply": "X is the letter of the best option in parentheses, as in (A).",
        },
        scorer=final_match,
        chance=0.25,
        max_tokens=2048,
        stop=("\n---", "\nProblem:"),
        leaks="drop",
    )
