"""Translate a sentence: FLORES-200 (NLLB Team 2022) as in Agarwal et al. 2024, by chrF2++.

translation:kurdish, :bemba and :tamil are from English, as is any other code of FLORES-200, such as
translation:fra_Latn; translation:deu_Latn-fra_Latn is from German into French. 997 pool sentences
(dev), 150 queries: the first of devtest. A cell's value is sacrebleu's chrF2++ of all its answers
together, from 0 to 1; the score of an answer is that of its sentence. Needs the extra `tasks`.
"""

from icl_harness import Example, Row, Task, chrf, chrf_match, flores, flores_language, task

CODES = {"kurdish": "kmr_Latn", "bemba": "bem_Latn", "tamil": "tam_Taml"}


@task(subsets=tuple(CODES), default="all", any_subset=True)
def translation(pair: str) -> Task:
    source, _, target = CODES.get(pair, pair).rpartition("-")
    source = source or "eng_Latn"

    def sentence(row: Row) -> Example:
        input, gold = row[f"sentence_{source}"], row[f"sentence_{target}"]
        return Example(id=row.place, input=input, target=gold)

    return Task(
        pool=flores(source, target, split="dev"),
        queries=flores(source, target, split="devtest", first=150),
        example=sentence,
        prompts="translate",
        fields={"asked": flores_language(source), "answer": flores_language(target)},
        scorer=chrf_match(flores_language(target)),
        metric=chrf,
        max_tokens=512,
    )
