"""Which of 150 intents has a user's message, or none of them? (Larson et al. 2019)

15,250 pool messages, 5,500 queries: the train and test split of the edition `plus`, whose label
`oos` is out of scope. clinc150:bertsch asks the 250 test messages of Bertsch et al. 2024.
"""

from icl_harness import Example, Task, bertsch_rows, hub, label_match, task


@task(subsets=("full", "bertsch"), groups={"all": ("full",)})
def clinc150(asked: str) -> Task:
    only = bertsch_rows("clinc150") if asked == "bertsch" else None
    return Task(
        pool=hub("clinc/clinc_oos", "plus", split="train"),
        queries=hub("clinc/clinc_oos", "plus", split="test", only=only),
        example=lambda row: Example(
            id=row["id"], input=row["text"], target=row.first("intent", "label")
        ),
        prompts="classify",
        fields={
            "instruction": "Say which intent a message to an assistant has; oos is none of them.",
            "asked": "Message",
            "answer": "Intent",
        },
        labels_from_data=True,
        scorer=label_match,
        max_tokens=32,
        leaks="drop",
    )
