"""Predict a class from the other columns of a table's row: iris, penguins, or any CSV of one's own.

tabular_classification:NAME reads DIR/tabular_classification/NAME.csv and predicts its last column,
NAME:COLUMN another one. Rows that a column `split` calls train and test are pool and queries, else
a fifth is held out by a fixed seed. The labels are those that occur.
"""

from icl_harness import Task, label_match, table, task


@task(subsets=("iris", "penguins"), default="all", any_subset=True)
def tabular_classification(name: str) -> Task:
    rows = table("tabular_classification", name, {"iris": "species", "penguins": "species"})
    return Task(
        pool=rows.pool,
        queries=rows.queries,
        example=rows.example,
        prompts="classify",
        fields={
            "instruction": f"Predict {rows.answer} from the other columns of a table's row.",
            "asked": "Row",
            "answer": rows.answer,
        },
        labels_from_data=True,
        scorer=label_match,
        max_tokens=64,
        leaks="drop",
    )
