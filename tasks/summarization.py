"""Summarise a news article in one sentence: XSum (Narayan et al. 2018), by ROUGE-L.

11,332 pool articles (validation), 150 queries: the first of the test split. summarization:xlsum
asks the first 150 test articles of XL-Sum (Hasan et al. 2021) after shots of XSum, as Agarwal et
al. 2024. ROUGE-L is rouge-score's F-measure without stemming. Needs the extra `tasks`.
"""

from icl_harness import Example, Row, Task, hub, rouge_l, rouge_match, task

PARQUET = "refs/convert/parquet"


def article(row: Row) -> Example:
    return Example(id=row.place, input=row.first("document", "text"), target=row["summary"])


@task(subsets=("xsum", "xlsum"))
def summarization(asked: str) -> Task:
    xsum, xlsum = "EdinburghNLP/xsum", "csebuetnlp/xlsum"
    pool = hub(xsum, split="validation", revision=PARQUET, data_dir="default", local="xsum/pool")
    queries = hub(
        xsum if asked == "xsum" else xlsum,
        split="test",
        revision=PARQUET,
        data_dir="default" if asked == "xsum" else "english",
        local=f"{asked}/test",
        first=150,
    )
    return Task(
        pool=pool,
        queries=queries,
        example=article,
        prompts="summarise",
        scorer=rouge_match("Summary"),
        metric=rouge_l,
        max_tokens=128,
        leaks="drop",
    )
