"""Competition mathematics with worked solutions: MATH and MATH-500 (Hendrycks et al. 2021).

7,498 pool problems, the training split without two whose box is empty; 500 queries, none of them in
the pool. The target is what the solution's last box holds; answers are equal where math-verify says
so, once the final answer is taken out. math:gsm8k asks 500 problems of GSM8K, the first of its test
split, after the same shots: their answers are compared as numbers.
"""

from icl_harness import (
    Example,
    Row,
    Task,
    boxed_answer,
    hub,
    latex_match,
    number_match,
    task,
)

SUBJECTS = """
algebra counting_and_probability geometry intermediate_algebra number_theory prealgebra precalculus
"""


def worked(row: Row) -> Example | None:
    if "question" in row:  # of GSM8K
        _, _, number = row["answer"].rpartition("####")
        return Example(id=f"gsm8k-{row.place}", input=row["question"], target=number)
    target = row.get("answer") or boxed_answer(row["solution"])
    if not target:
        return None
    return Example(
        id=row.get("unique_id") or row.place,
        input=row["problem"],
        target=target,
        rationale=row["solution"],
    )


@task(subsets=("math500", "gsm8k"))
def math(asked: str) -> Task:
    subjects = tuple(SUBJECTS.split())
    gsm8k = hub("openai/gsm8k", "main", split="test", local="gsm8k/test", first=500)
    math500 = hub("HuggingFaceH4/MATH-500", split="test", local="math500/test")
    return Task(
        pool=hub("EleutherAI/hendrycks_math", subjects, split="train", local="math/train_full"),
        queries=gsm8k if asked == "gsm8k" else math500,
        example=worked,
        prompts="solve",
        fields={"rationales": True, "reply": "X is a number or an expression in LaTeX."},
        scorer=number_match if asked == "gsm8k" else latex_match,
        reward=latex_match,  # of attempts at problems of MATH
        chance=0.0,
        max_tokens=2048,  # a limit would bend the curve
        stop=("\n---", "\nProblem:"),
    )
