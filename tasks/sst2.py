"""Is a sentence of a film review positive or negative? SST-2 (Socher et al. 2013).

6,920 pool sentences, 1,821 queries: whole sentences, the published train and test split. The copy
with 67,349 training rows holds phrases of them, too, and hides the labels of its test split.
"""

from icl_harness import Example, Task, hub, label_match, task


@task
def sst2() -> Task:
    return Task(
        pool=hub("SetFit/sst2", split="train"),
        queries=hub("SetFit/sst2", split="test"),
        example=lambda row: Example(id=row["id"], input=row["text"], target=row["label_text"]),
        prompts="classify",
        fields={
            "instruction": "Say whether a sentence of a film review is positive or negative.",
            "asked": "Sentence",
            "answer": "Sentiment",
        },
        labels=("negative", "positive"),
        scorer=label_match,
        leaks="drop",
    )
