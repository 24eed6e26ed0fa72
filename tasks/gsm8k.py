"""Grade-school word problems with worked solutions; answers compare as numbers (Cobbe et al. 2021).

7,473 pool problems, 1,319 queries: the published train and test split. The rationale is the
published solution without its calculator annotations (`<<48/2=24>>`) and its last line (`#### 24`).
"""

import re

from icl_harness import Example, Row, Task, hub, number_match, task


def worked(row: Row) -> Example:
    solution, mark, answer = row["answer"].rpartition("####")
    if not mark:
        raise ValueError("its answer has no '####' line")
    rationale = re.sub(r"<<[^<>]*>>", "", solution)
    return Example(id=row["id"], input=row["question"], target=answer, rationale=rationale)


@task
def gsm8k() -> Task:
    return Task(
        pool=hub("openai/gsm8k", "main", split="train"),
        queries=hub("openai/gsm8k", "main", split="test"),
        example=worked,
        prompts="solve",
        fields={"rationales": True, "reply": "X is one number, without its unit."},
        scorer=number_match,
        chance=0.0,
        # a chain of thought without shots is longer than one with; a limit would bend the curve
        max_tokens=1024,
        stop=("\n---", "\nProblem:"),
    )
