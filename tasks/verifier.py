"""Is a solution of a problem right? A verifier, or outcome reward model (Cobbe et al. 2021).

DIR/verifier/train and test: columns problem, solution, correct (true or false, Yes or No). `icl
solutions RUN --data DIR` writes both of a run's own attempts and answers, right and wrong. Rows
with the same problem are solutions of one: they are asked all or none, and none is a shot where
its problem is asked. `--scoring choices` weighs Yes and No; then `--metric best_of_n` is how often
the solution with the highest P(Yes) is right (Agarwal et al. 2024).
"""

from icl_harness import Example, Row, Task, label_match, rows, task

VERDICTS = {"yes": "Yes", "true": "Yes", "1": "Yes", "no": "No", "false": "No", "0": "No"}


def verdict(row: Row) -> Example:
    problem, solution = row["problem"].strip(), row["solution"].strip()
    correct = VERDICTS.get(str(row["correct"]).strip().lower())
    if correct is None:
        raise ValueError(f"correct is {row['correct']!r}; it must be true or false, Yes or No")
    if not problem:
        raise ValueError("the problem is empty")
    return Example(
        id=row["id"],
        input=f"{problem}\nSolution: {solution}",
        target=correct,
        cluster=" ".join(problem.split()),
    )


@task
def verifier() -> Task:
    return Task(
        pool=rows("train"),
        queries=rows("test"),
        example=verdict,
        prompts="verify",
        labels=("Yes", "No"),
        scorer=label_match,
        whole_clusters=True,
    )
