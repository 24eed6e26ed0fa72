"""Scorers and metrics beside their references, on 200 real or made-up cases and more.

Others stand where their scorer is tested: chrF2++ and ROUGE-L in test_texts.py, RMSE and R² in
test_closeness.py, plans in test_plans.py, judged answers to labels, numbers and options in
*_cases.yaml, majority and pass@k in tests/analysis/test_samples.py.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from icl_harness import (
    Example,
    Metric,
    ScoredAnswer,
    accuracy,
    exact_match,
    final_match,
    latex_match,
    macro_f1,
    number_close,
    number_match,
)
from tests.tasks.scoring.test_texts import corpus_value, sacrebleu_corpus


def example(target: str) -> Example:
    return Example(id="q", input="?", target=target)


def value_of(metric: Metric, answers: list[ScoredAnswer]) -> float:
    if metric.statistic is None or metric.aggregate is None:
        return float(np.mean([answer.score for answer in answers]))
    return metric.aggregate(np.mean([metric.statistic(answer) for answer in answers], axis=0))


def test_macro_f1_and_accuracy_of_200_cells_are_scikit_learn_s() -> None:
    from sklearn.metrics import accuracy_score, f1_score

    rng = np.random.default_rng(11)
    for n_labels in rng.integers(2, 30, size=200).tolist():
        names = tuple(f"label {number:02}" for number in range(n_labels))
        n_answers, right = int(rng.integers(1, 40)), rng.random()
        gold = [names[int(n)] for n in rng.integers(n_labels, size=n_answers)]
        said: list[str | None] = list(gold)
        for place in np.flatnonzero(rng.random(n_answers) > right).tolist():
            said[place] = None if rng.random() < 0.2 else names[int(rng.integers(n_labels))]
        answers = [
            ScoredAnswer(parsed=a, target=t, score=float(a == t), labels=names)
            for a, t in zip(said, gold, strict=True)
        ]
        written = ["(unparsed)" if a is None else a for a in said]
        occur = sorted({*gold, *said} - {None})
        f1 = f1_score(gold, written, average="macro", labels=occur, zero_division=0)
        assert value_of(macro_f1, answers) == pytest.approx(f1, abs=1e-12)
        assert value_of(accuracy, answers) == pytest.approx(accuracy_score(gold, written))


@pytest.fixture(scope="module")
def bemba(shared_data: Path) -> list[str]:
    with gzip.open(shared_data / "flores200/devtest.jsonl.gz", "rt", encoding="utf-8") as stream:
        return [json.loads(line)["sentence_bem_Latn"] for line in stream]


def test_one_right_translation_and_two_of_garbage_make_51_5_and_not_100(bemba: list[str]) -> None:
    """ManyICLBench gives sacrebleu each target as a set of references of its own, and so compares
    the first translation alone, with all of them.
    """
    import sacrebleu

    gold = [bemba[place] for place in (1, 0, 10)]
    said = [gold[0], "x y z", "x y z"]
    theirs = sacrebleu.corpus_chrf(said, [[target] for target in gold], word_order=2).score
    assert theirs == pytest.approx(100.0)
    value, _ = corpus_value(said, gold)
    assert value == pytest.approx(sacrebleu_corpus(said, gold), abs=1e-9)
    assert round(100 * value, 1) == 51.5


NUMBER_DRESSES = ("{}", "The final answer is {}.", "So.\n#### {}", "\\boxed{{{}}}", "It is **{}**.")


def test_numbers_of_200_answers_are_those_of_python_s_fractions() -> None:
    """A pattern such as ManyICLBench's, which takes whole digits, loses signs, commas, decimals."""
    rng = random.Random(5)
    n_lost = 0
    for _ in range(300):
        size = 10 ** rng.randint(0, 7)
        gold, other = (round(rng.uniform(-size, size), rng.choice([0, 1, 2])) for _ in "ab")
        target, said = f"{gold:.10g}", f"{rng.choice([gold, other]):,.2f}"
        answer = rng.choice(NUMBER_DRESSES).format(said)
        expected = Fraction(said.replace(",", "")) == Fraction(target)
        assert number_match(answer, example(target)).value == expected, (answer, target)
        theirs = re.findall(r"\d+", answer)[-1] == target
        n_lost += theirs != expected
    assert n_lost > 50


def test_nearness_of_200_numbers_is_one_less_the_relative_error() -> None:
    rng = random.Random(6)
    for _ in range(200):
        target, said = rng.uniform(-50, 50), rng.uniform(-50, 50)
        score = number_close(f" {said:.4f}\n", example(f"{target:.4f}"))
        error = abs(float(f"{said:.4f}") - float(f"{target:.4f}")) / abs(float(f"{target:.4f}"))
        assert score.value == pytest.approx(max(0.0, 1 - error), abs=1e-9)


@pytest.fixture(scope="module")
def sorted_words(shared_data: Path) -> list[str]:
    lines = (shared_data / "bbh/tasks/word_sorting.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line)["target"] for line in lines if line]


def test_200_lists_are_right_in_every_form_and_wrong_with_one_word_changed(
    sorted_words: list[str],
) -> None:
    rng = random.Random(8)
    lists = [target.split() for target in sorted_words if len(set(target.split())) > 2]
    assert len(lists) >= 200
    for words in lists:
        target, place = " ".join(words), rng.randrange(len(words) - 1)
        numbered = "\n".join(f"{n}. {word}" for n, word in enumerate(words, start=1))
        forms = [", ".join(words).upper() + ".", f'"{target}"', f"{target}\n\nInput: next"]
        for form in forms:
            assert exact_match(form, example(target)).value == 1.0, form
        for form in (", ".join(words[:-1]) + f" and {words[-1]}", numbered, f"**{target}**"):
            assert final_match(f"Sorted.\nThe final answer is {form}", example(target)).value == 1
        swapped = [*words[:place], words[place + 1], words[place], *words[place + 2 :]]
        for wrong in (swapped, words[1:], [*words, words[0]], [f"{words[0]}x", *words[1:]]):
            if wrong == words:
                continue
            for scorer in (exact_match, final_match):
                score = scorer(" ".join(wrong), example(target))
                assert (score.value, score.parsed is None) == (0.0, False), wrong


def forms_of(gold: str) -> list[tuple[str, bool]]:
    """Return ways to write an answer of MATH, and answers that look like it, with whether they are
    equal.
    """
    fraction = re.fullmatch(r"(-?)\\frac\{(\d+)\}\{(\d+)\}", gold)
    if fraction:
        sign, a, b = fraction.groups()
        forms = [(rf"{sign}\dfrac{{{a}}}{{{b}}}", True), (f"{sign}{a}/{b}", True)]
        forms += [
            (rf"\frac{{{sign}{a}}}{{{b}}}", True),
            (rf"{sign} \tfrac{{ {a} }}{{ {b} }}", True),
        ]
        forms += [(rf"{sign}\frac{{{2 * int(a)}}}{{{2 * int(b)}}}", True)]
        forms += [(decimal(Fraction(int(f"{sign}{a}"), int(b))))]
        forms += [(rf"{sign}\frac{{{b}}}{{{a}}}", a == b), (f"{sign}{a}", b == "1")]
        return [*forms, (rf"{sign}\frac{{{a}}}{{{int(b) + 1}}}", False)]
    if re.fullmatch(r"-?\d+", gold):
        number = int(gold)
        forms = [(f"{number:,}", True), (f"{number}.0", True), (rf"{number}\text{{ cm}}", True)]
        forms += [(rf"\frac{{{3 * number}}}{{3}}", True), (rf"{number}^\circ", True)]
        forms += [(rf"\${number}", True), (rf"x = {number}", True)]
        forms += [(rf"{number}\%", True)] if number > 0 else []
        return [
            *forms,
            (f"{number + 1}", False),
            (f"{number}.5", False),
            (f"{number}0", not number),
        ]
    point = [part.strip() for part in re.sub(r"\\left|\\right|[()]", "", gold).split(",")]
    inner = ", ".join(point)
    backwards = ", ".join(point[::-1])
    forms = [(rf"\left({inner}\right)", True), (f"( {inner} )", True), (f"({backwards})", False)]
    forms += [(f"({inner}, 0)", False), (f"({', '.join([*point[:-1], '17'])})", False)]
    return forms


def decimal(number: Fraction) -> tuple[str, bool]:
    """Return the number with at most four decimals, and whether that is the number itself."""
    text = f"{float(number):.4f}"
    return text, Fraction(text) == number


def pairs_of_math(shared_data: Path) -> list[tuple[str, str, bool]]:
    lines = (shared_data / "math500/test.jsonl").read_text(encoding="utf-8").split("\n")
    golds = dict.fromkeys(json.loads(line)["answer"] for line in lines if line)
    kinds = (r"-?\\frac\{\d+\}\{\d+\}", r"-?\d+", r"\((?:-?\d+,)+-?\d+\)")
    pairs = []
    for kind, most in zip(kinds, (16, 14, 8), strict=True):
        for gold in [gold for gold in golds if re.fullmatch(kind, gold)][:most]:
            pairs += [(gold, form, is_equal) for form, is_equal in forms_of(gold)]
    for numbers in (("1", "2"), ("-3", "0", "5"), (r"\frac{1}{2}", "7")):
        gold, back = (rf"\{{{','.join(some)}\}}" for some in (numbers, numbers[::-1]))
        pairs += [(gold, back, True), (gold, back.replace(numbers[0], "9"), False)]
    return pairs


@pytest.mark.slow
@pytest.mark.parametrize("half", ["one half", "the other"])
def test_answers_of_math_are_equal_in_other_forms_and_not_to_their_neighbours(
    shared_data: Path, half: str
) -> None:
    """What is equal is known from how a form is made; math-verify itself is asked too."""
    from math_verify import parse, verify

    pairs = pairs_of_math(shared_data)
    assert len(pairs) >= 300
    for gold, form, is_equal in pairs[half == "the other" :: 2]:
        score = latex_match(f"So.\nThe final answer is ${form}$.", example(gold))
        assert score.value == is_equal, (gold, form, score)
        reference = verify(parse(f"${gold}$"), parse(f"${form}$"))
        assert reference == is_equal, (gold, form)
