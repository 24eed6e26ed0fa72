"""Is a financial news sentence good for the investor? Financial PhraseBank (Malo et al. 2014).

Sentences on whose label all annotators agree; sentiment:75agree, :66agree and :50agree are larger
and harder. There is no test split: 216 sentences, by a fixed seed, are the queries, which leaves a
pool of 2,048 (Agarwal et al. 2024 go up to 2,048 shots). Variants flipped and abstract show other
labels, as there.
"""

from icl_harness import Example, Task, holdout, hub, label_match, task


@task(subsets=("allagree", "75agree", "66agree", "50agree"))
def sentiment(agreement: str) -> Task:
    sentences = hub(
        "takala/financial_phrasebank",
        split="train",
        revision="refs/convert/parquet",
        data_dir=f"sentences_{agreement}",
        local=f"financial_phrasebank/sentences_{agreement}",
    )
    folder = "sentiment" if agreement == "allagree" else f"sentiment/{agreement}"
    pool, queries = holdout(sentences, queries=216, local=folder)
    return Task(
        pool=pool,
        queries=queries,
        example=lambda row: Example(id=row["id"], input=row["sentence"], target=row["label"]),
        prompts="classify",
        fields={
            "instruction": "Say what a sentence of financial news means to an investor.",
            "asked": "Sentence",
            "answer": "Sentiment",
        },
        labels=("negative", "neutral", "positive"),
        label_maps={
            "flipped": {"negative": "neutral", "neutral": "positive", "positive": "negative"},
            "abstract": {"negative": "A", "neutral": "B", "positive": "C"},
        },
        scorer=label_match,
    )
