"""Free answers: is the answer the target, letter for letter but for its dress?"""

from __future__ import annotations

import re

from icl_harness.examples import Example
from icl_harness.tasks.scoring.base import UNPARSED, Score, final_answer, first_line, plain
from icl_harness.tasks.scoring.labels import find_label
from icl_harness.tasks.scoring.numbers import lone_number, only_number, parse_number, shown

_OPTION = re.compile(r"\([a-z]\)")


def exact_match(answer: str, example: Example) -> Score:
    """Compare the answer's first line with the target: case, outer punctuation, commas and spacing
    do not matter.
    """
    return _compare(first_line(answer), example)


def final_match(answer: str, example: Example) -> Score:
    """The same for an answer that may reason first: what follows its last "final answer is" (or its
    only line).

    Options match by their letter: "(B)", "B", "b)" and "(B) a robin" are one answer. Other choices,
    such as yes and no, match as labels do, and targets that are numbers as numbers: "8 fruits" is
    8. Several lines without a final answer are not parsed, nor is one that holds several numbers.
    """
    marked = final_answer(answer)
    said = answer.strip() if marked is None else marked
    if "\n" in said:
        return UNPARSED
    target = plain(example.target)
    if _OPTION.fullmatch(target):
        option = re.match(r"(?:option\s+)?\(?([a-z])(?:\)|[.:]|$)", plain(said))
        return (
            Score(f"({option[1].upper()})", float(f"({option[1]})" == target))
            if option
            else UNPARSED
        )
    if example.choices:
        label = find_label(said, example.choices)
        return UNPARSED if label is None else Score(label, float(label == example.target))
    gold = only_number(example.target)
    if gold is not None:
        number = lone_number(said) if marked is None else parse_number(said)
        return UNPARSED if number is None else Score(shown(number), float(number == gold))
    return _compare(said, example)


def _compare(said: str, example: Example) -> Score:
    said = plain(said)
    return Score(said, float(_key(said) == _key(plain(example.target)))) if said else UNPARSED


def _key(text: str) -> str:
    """Numbers lose their thousands commas, lists their separators, brackets their spacing."""
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    if not re.search(r"\w", text):
        return re.sub(r"[\s,]", "", text)
    return " ".join(text.replace(",", " ").split())
