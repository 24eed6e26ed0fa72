"""Which intent has an utterance to a home assistant? NLU Evaluation Data (Liu et al. 2019).

The hub's copy has 25,715 utterances of 68 intents and no test split: 2,572 of them, by a fixed
seed, are the queries. nlu:bertsch asks the 250 of Bertsch et al. 2024 and draws its shots from what
was training data there. With --data, nlu_evaluation/train and test are the authors' own fold: 9,960
and 1,076 utterances of 64 intents, to which the numbers of those 250 do not apply.
"""

from functools import partial
from pathlib import Path

from icl_harness import Example, Task, bertsch_rows, holdout, hub, label_match, task

N_ROWS = 25_715

utterances = partial(
    hub,
    "xingkunliuxtracta/nlu_evaluation_data",
    split="train",
    revision="refs/convert/parquet",
    data_dir="default",
    local="nlu_evaluation/all",
)


def training_rows(data: Path | None) -> set[int]:
    """Return the rows that Bertsch et al. did not hold out."""
    return set(range(N_ROWS)) - set(bertsch_rows("nlu_test_split")(data))


@task(subsets=("full", "bertsch"), groups={"all": ("full",)})
def nlu(asked: str) -> Task:
    pool, queries = holdout(utterances(), queries=2572, local="nlu_evaluation")
    is_theirs = asked == "bertsch"
    return Task(
        pool=utterances(only=training_rows) if is_theirs else pool,
        queries=utterances(only=bertsch_rows("nlu")) if is_theirs else queries,
        example=lambda row: Example(id=row.place, input=row["text"], target=row["label"]),
        prompts="classify",
        fields={
            "instruction": "Say which intent an utterance to a home assistant has.",
            "asked": "Utterance",
            "answer": "Intent",
        },
        labels_from_data=True,
        scorer=label_match,
        max_tokens=32,
        leaks="drop",
    )
