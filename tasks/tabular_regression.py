"""Predict a number from the other columns of a table's row: six UCI sets, or any CSV of one's own.

tabular_regression:NAME reads DIR/tabular_regression/NAME.csv and predicts its last column,
NAME:COLUMN another one. Rows that a column `split` calls train and test are pool and queries, else
a fifth is held out by a fixed seed. The value is R², with `--metric rmse` the root of the mean
squared error; an answer without a number counts as the mean of the queries' numbers. The score of
one answer is 1 less its relative error.
"""

from icl_harness import Example, Row, Task, number_close, parse_number, r2, table, task

TARGETS = {
    "concrete": "compressive_strength_mpa",
    "energy": "heating_load",
    "mpg": "mpg",
    "power_plant": "energy_output_mw",
    "wine_quality_red": "quality",
    "yacht": "residuary_resistance",
}


@task(subsets=tuple(TARGETS), default="all", any_subset=True)
def tabular_regression(name: str) -> Task:
    rows = table("tabular_regression", name, TARGETS)

    def numeric(row: Row) -> Example:
        example = rows.example(row)
        if parse_number(example.target) is None:
            raise ValueError(f"what it is to predict, {example.target!r}, is no number")
        return example

    return Task(
        pool=rows.pool,
        queries=rows.queries,
        example=numeric,
        prompts="answer",
        fields={
            "instruction": f"Predict {rows.answer} from the other columns of a table's row.",
            "reply": "Answer with one number alone.",
            "asked": "Row",
            "answer": rows.answer,
        },
        scorer=number_close,
        metric=r2,
        chance=0.0,  # of the mean of all
        leaks="drop",
    )
