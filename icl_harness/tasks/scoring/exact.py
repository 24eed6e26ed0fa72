"""Free answers and options: is the answer the target, but for its dress?"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from icl_harness.examples import Example
from icl_harness.tasks.scoring.base import UNPARSED, Score, first_line, plain, spoken
from icl_harness.tasks.scoring.cues import Cue
from icl_harness.tasks.scoring.dress import plain_dress
from icl_harness.tasks.scoring.final_text import final_text, first_problem
from icl_harness.tasks.scoring.labels import NEXT_PROBLEM, Reading, read_line
from icl_harness.tasks.scoring.lists import (
    are_items,
    bracket_row,
    first_paragraph,
    is_refusal,
    list_words,
)
from icl_harness.tasks.scoring.number_forms import shown
from icl_harness.tasks.scoring.numbers import final_number, only_number
from icl_harness.tasks.scoring.options import option_of

MOST_CHARACTERS = 1000  # of a line that gives an option by its words
_OPTION = re.compile(r"\([A-Za-z]\)")
_HEADING = re.compile(
    r"\W{0,8}(?:(?:so|therefore|thus|the|my|final|correct|best)\W+){0,4}(?:answer|option|choice"
    r"|label|conclusion)[\s*_:#.`]{0,8}(?:is|are)?[\s*_:#.`]{0,8}",
    re.IGNORECASE,
)


def exact_match(answer: str, example: Example) -> Score:
    """Compare the answer's first line with the target: case, outer punctuation, commas and spacing
    do not matter.
    """
    return _compare(first_line(spoken(answer)), example)


def final_match(answer: str, example: Example) -> Score:
    """The same for an answer that may reason first: what its final answer names.

    Choices match as labels do: "(B)", "B", "b)", "(B) a robin" and, where the input lists the
    options, "a robin" are one answer. Targets that are numbers match as numbers: "8 fruits" is 8.
    Of several words how they are listed does not matter. Several lines without a final answer are
    not parsed, unless the first or the last of them is nothing but an answer.
    """
    choices = _choices(example)
    if choices:
        label = _read_choice(spoken(answer), choices, example.input)
        return UNPARSED if label is None else Score(label, float(label == example.target))
    gold = only_number(example.target)
    if gold is not None:
        number = final_number(answer)
        return UNPARSED if number is None else Score(shown(number), float(number == gold))
    return _free(spoken(answer), example)


def _choices(example: Example) -> Sequence[str]:
    """The example's choices; all letters where it has none but its target is one in parentheses."""
    if example.choices or not _OPTION.fullmatch(example.target):
        return example.choices
    is_upper = example.target.isupper()
    letters = string.ascii_uppercase if is_upper else string.ascii_lowercase
    return tuple(f"({letter})" for letter in letters)


def _read_choice(answer: str, choices: Sequence[str], text: str) -> str | None:
    """Return the choice that is marked last before the next problem; without a mark, the one that
    the only line, else the first or last line, is.
    """
    lines = [line.strip() for line in plain_dress(answer).split("\n")]
    lines = [line for line in lines if line]
    marked: Reading | None = None
    below_heading = False
    for i, line in enumerate(lines):
        if NEXT_PROBLEM.match(line) and marked:
            lines = lines[:i]
            break
        reading = _read(line, choices, text)
        is_answer = reading.cue is Cue.MARKED or (below_heading and reading.is_about_labels)
        if is_answer and len(lines) > 1:
            marked = reading
        below_heading = _HEADING.fullmatch(line) is not None
    if marked is not None:
        return marked.label
    return _unmarked_choice(lines, choices, text)


def _read(line: str, choices: Sequence[str], text: str) -> Reading:
    """Read a line by the choices, else by the words that the input gives for them. A final answer
    that is given in such words, or is a number that is no choice, counts before what else a line
    mentions.
    """
    reading = read_line(line, choices)
    if len(line) > MOST_CHARACTERS or reading.is_whole:
        return reading
    marked = final_text(line)
    said = line if marked is None else marked
    label = None
    if marked is not None or reading.label is None:
        label = option_of(said, text, choices)
    if label is not None:
        return Reading(label, Cue.MARKED, is_whole=marked is None)
    if marked is not None and _is_another_number(said, choices):
        return Reading(None, Cue.MARKED)
    return reading


def _is_another_number(said: str, choices: Sequence[str]) -> bool:
    """Return whether a final answer is a number and names no choice: "The final answer is 9."."""
    return only_number(said) is not None and read_line(said, choices).label is None


def _unmarked_choice(lines: Sequence[str], choices: Sequence[str], text: str) -> str | None:
    if not lines:
        return None
    if len(lines) == 1:
        return _read(lines[0], choices, text).label
    readings = [_read(line, choices, text) for line in (lines[0], lines[-1])]
    cues = [read_line(line, choices).cue for line in lines]
    is_listing = cues.count(Cue.OPENS) > 1
    found = set()
    if readings[0].is_whole or (
        not is_listing and _is_option(lines[0], readings[0], choices, text)
    ):
        found.add(readings[0].label)
    if _concludes(lines[-1], readings[1], Cue.OPENS in cues[:-1]):
        found.add(readings[1].label)
    return found.pop() if len(found) == 1 else None


def _is_option(line: str, reading: Reading, choices: Sequence[str], text: str) -> bool:
    """Return whether a line is a letter and its option's own words: "(B) a robin"."""
    words = re.match(r"\W{0,3}[A-Za-z]\W{1,3}(?P<words>\w.*)", line[:MOST_CHARACTERS])
    if reading.label is None or words is None:
        return False
    return option_of(words["words"], text, choices) == reading.label


def _concludes(line: str, reading: Reading, is_listing: bool) -> bool:
    """Return whether the last line of an answer without a mark is one: "Therefore, (C)."."""
    if reading.label is None or reading.is_whole:
        return reading.is_whole
    if reading.cue is Cue.OPENS:
        return not is_listing
    if reading.cue in (Cue.CONCLUDED, Cue.HEADED):
        return True
    said_last = plain(line).rstrip(")").endswith(reading.label.strip("()").casefold())
    return reading.cue is Cue.SAID and said_last


def _free(answer: str, example: Example) -> Score:
    """Compare words, or a row of brackets, that stand as the final answer."""
    n_words = len(example.target.split())
    marked = final_text(answer, is_list=n_words > 1)
    said = first_problem(answer) if marked is None else marked
    if not re.search(r"\w", example.target):
        return _compare_brackets(said, example.target, is_marked=marked is not None)
    if n_words > 1 and marked is None:
        said = _last_in_bold(said) or first_paragraph(said)
    if n_words > 1 and ("\n" not in said or are_items(said)):
        return _compare_lists(said, example)
    if "\n" in said:
        if marked is None:
            return UNPARSED
        said = first_line(said)
    return _compare(said, example)


def _last_in_bold(text: str) -> str | None:
    """Return several words that stand in bold as the last line of a text that reasons first."""
    before, _, last = text.rstrip(" \n.").rpartition("\n")
    bold = re.fullmatch(r"\s*\*\*([^*]+)\*\*", last)
    if bold is None or not before.strip() or are_items(text) or " " not in bold[1].strip():
        return None
    return bold[1]


def _compare_brackets(said: str, target: str, is_marked: bool) -> Score:
    lines = [line for line in said.split("\n") if line.strip()]
    rows = [bracket_row(line, is_marked) for line in lines]
    if len(rows) > 1 and all(len(row) == 1 for row in rows):  # one bracket a line
        rows = ["".join(rows)]
    if len(rows) > 1 and not is_marked:  # a line of its own: the last, else the first
        alone = [row for row in (rows[-1], rows[0]) if row]
        rows = [row for row, line in zip(rows, lines, strict=True) if not re.search(r"\w", line)]
        rows = [row for row in rows[-1:] if row in alone]
    row = next((row for row in rows if row), "")
    if not row:
        return UNPARSED
    return Score(" ".join(row), float(row == re.sub(r"[\s,]", "", target)))


def _compare_lists(said: str, example: Example) -> Score:
    """Compare several words, as they are or as a list."""
    as_said = _compare(" ".join(said.split()), example)
    if as_said.value == 1.0:
        return as_said
    words = list_words(said)
    is_hedged = re.search(r"\bor\b", words) and not re.search(r"\bor\b", example.target)
    wanted = _key(list_words(example.target))
    if not words or is_hedged or is_refusal(said, wanted.split()):
        return UNPARSED
    return Score(words, float(_key(words) == wanted))


def _compare(said: str, example: Example) -> Score:
    said = plain(said)
    return Score(said, float(_key(said) == _key(plain(example.target)))) if said else UNPARSED


def _key(text: str) -> str:
    """Numbers lose their thousands commas, lists their separators, brackets their spacing."""
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    if not re.search(r"\w", text):
        return re.sub(r"[\s,]", "", text)
    return " ".join(text.replace(",", " ").split())
