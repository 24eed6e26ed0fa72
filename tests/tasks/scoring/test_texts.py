"""chrF2++ and ROUGE-L: equal to sacrebleu's and rouge-score's, for a sentence and for a corpus."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icl_harness import Example, ScoredAnswer, chrf, chrf_match, rouge_match
from icl_harness.analysis.influence import pseudo_values
from icl_harness.errors import SpecError
from icl_harness.tasks.loading import find_tasks
from icl_harness.tasks.scoring.texts import said_line

LANGUAGES = ("kmr_Latn", "bem_Latn", "tam_Taml")


@pytest.fixture(scope="module")
def devtest(shared_data: Path) -> list[dict[str, str]]:
    with gzip.open(shared_data / "flores200/devtest.jsonl.gz", "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def perturbed(text: str, rng: random.Random) -> str:
    """Return a sentence with words lost, moved, doubled or broken; the whole or nothing of it."""
    words = text.split()
    ways = {
        "same": lambda: text,
        "nothing": lambda: "",
        "mixed": lambda: " ".join(rng.sample(words, len(words))),
        "half": lambda: " ".join(words[: len(words) // 2]),
        "some": lambda: " ".join(word for word in words if rng.random() < 0.7),
        "twice": lambda: f"{text} {text}",
        "lower": lambda: text.lower().replace(",", ""),
        "broken": lambda: " ".join(word[1:] or word for word in words),
        "marks": lambda: "(" + " ".join(f"“{word}”!" for word in words),
        "one": lambda: rng.choice(words),
    }
    return ways[rng.choice(list(ways))]()


def corpus_value(said: list[str], gold: list[str]) -> tuple[float, float]:
    """Return our value of a cell and the mean of its pseudo-values."""
    answers = [
        ScoredAnswer(parsed=a or None, target=t, score=0.0, labels=())
        for a, t in zip(said, gold, strict=True)
    ]
    assert chrf.statistic is not None
    rows = np.array([chrf.statistic(answer) for answer in answers])
    zeros = np.zeros(len(rows), dtype=np.intp)
    value, pseudo = pseudo_values(chrf, rows, zeros, np.arange(len(rows)))
    return value, float(pseudo.mean())


def sacrebleu_corpus(said: list[str], gold: list[str]) -> float:
    import sacrebleu

    return sacrebleu.corpus_chrf(said, [gold], word_order=2).score / 100


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("seed", range(2))
def test_a_cell_s_chrf_is_sacrebleu_s_of_the_corpus(
    devtest: list[dict[str, str]], language: str, seed: int
) -> None:
    rng = random.Random(seed)
    rows = rng.sample(devtest, 150)
    gold = [row[f"sentence_{language}"] for row in rows]
    said = [perturbed(text, rng) for text in gold]
    value, mean = corpus_value(said, gold)
    assert value == pytest.approx(sacrebleu_corpus(said, gold), abs=1e-9)
    assert mean == pytest.approx(value, abs=1e-9)
    others = rng.sample(gold, len(gold))
    assert corpus_value(others, gold)[0] == pytest.approx(sacrebleu_corpus(others, gold), abs=1e-9)


@pytest.mark.slow
def test_the_whole_devtest_agrees_too(devtest: list[dict[str, str]]) -> None:
    rng = random.Random(7)
    gold = [row["sentence_kmr_Latn"] for row in devtest]
    for said in ([perturbed(text, rng) for text in gold], rng.sample(gold, len(gold))):
        value, _ = corpus_value(said, gold)
        assert value == pytest.approx(sacrebleu_corpus(said, gold), abs=1e-9)


def test_every_answer_counts_against_its_own_target(devtest: list[dict[str, str]]) -> None:
    # A published scorer compared the first answer alone, with all targets: one right answer and
    # two of garbage made 100.
    gold = [row["sentence_bem_Latn"] for row in devtest[:3]]
    said = [gold[0], "x y z", "x y z"]
    value, _ = corpus_value(said, gold)
    assert value == pytest.approx(sacrebleu_corpus(said, gold))
    assert 0.2 < value < 0.6
    assert corpus_value(gold, gold)[0] == 1.0
    assert corpus_value(["", "", ""], gold)[0] == 0.0


def test_one_sentence_s_score_is_sacrebleu_s(devtest: list[dict[str, str]]) -> None:
    import sacrebleu

    scorer, rng = chrf_match("Northern Kurdish"), random.Random(5)
    for row in devtest[:200]:
        target = row["sentence_kmr_Latn"]
        said = perturbed(target, rng)
        score = scorer(f" {said}\n", Example(id="q", input="x", target=target))
        read = said_line(said, "Northern Kurdish", target)
        expected = sacrebleu.sentence_chrf(read, [target], word_order=2).score / 100
        assert score.value == pytest.approx(expected, abs=1e-9), said
        assert (score.parsed is None) == (not said)


def longest_common(a: list[str], b: list[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        above = row
        row = [0]
        for place, other in enumerate(b):
            row.append(above[place] + 1 if word == other else max(row[place], above[place + 1]))
    return row[-1]


@pytest.mark.slow
def test_rouge_l_is_rouge_score_s_and_that_of_the_longest_common_words(shared_data: Path) -> None:
    import re

    from rouge_score.rouge_scorer import RougeScorer

    lines = (shared_data / "xsum/test.jsonl").read_text(encoding="utf-8").split("\n")
    reference, scorer, rng = RougeScorer(["rougeL"]), rouge_match("Summary"), random.Random(3)
    for line in lines[:200]:
        row = json.loads(line)
        said = rng.choice([perturbed(row["summary"], rng), row["document"].strip().split(". ")[0]])
        said = said_line(said, "Summary")
        score = scorer(f" {said}", Example(id="q", input="x", target=row["summary"]))
        assert score.value == reference.score(row["summary"], said)["rougeL"].fmeasure
        words = [re.findall(r"[a-z0-9]+", text.lower()) for text in (row["summary"], said)]
        common = longest_common(*words)
        mean = 2 * common / (len(words[0]) + len(words[1]))
        assert score.value == pytest.approx(mean), said


LINES = {
    " Roja duşemê.": "Roja duşemê.",
    "Roja duşemê.\n\nEnglish: On": "Roja duşemê.",
    "\n\n Roja": "Roja",
    "Kurdish: Roja duşemê.": "Roja duşemê.",
    "**Kurdish:** Roja duşemê.": "Roja duşemê.",
    "kurdish：Roja": "kurdish：Roja",
    "Kurdish： Roja": "Roja",
    '"Roja duşemê."': "Roja duşemê.",
    "“Roja”": "Roja",
    "**Roja**": "Roja",
    '"Roja" û "sê"': '"Roja" û "sê"',
    "Roja: duşemê": "Roja: duşemê",
    "<think>Monday</think>Roja": "Roja",
    "<think>Monday": "",
    "...": "",
    "": "",
    "\n": "",
}


@pytest.mark.parametrize("answer", LINES)
def test_a_translation_is_the_first_line_without_its_cue_and_quotes(answer: str) -> None:
    assert said_line(answer, "Kurdish") == LINES[answer]


def test_quotes_stay_where_the_target_has_them() -> None:
    assert said_line('"Roja."', "Kurdish", '"Roj."') == '"Roja."'
    assert said_line('"Roja."', "Kurdish", "Roj.") == "Roja."


@pytest.mark.parametrize(
    ("task", "module", "package"),
    [("translation", "sacrebleu", "sacrebleu"), ("summarization", "rouge_score", "rouge-score")],
)
def test_a_missing_package_is_named_in_one_line(
    task: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    lacking: Any = lambda name, *rest: None if name == module else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", lacking)
    with pytest.raises(SpecError, match=rf"needs {package}: pip install 'icl-harness\[tasks\]'"):
        find_tasks(task)
