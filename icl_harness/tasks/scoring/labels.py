"""Labels: is the answer this one of a fixed set?

An answer is read as a person would read it: what dresses a label does not matter (case, markup,
what joins its words), nor what is said about it, as long as one label alone is meant. What marks a
label as the answer ("The answer is X", "X because …") counts before what mentions it; a label that
is denied is not meant; two labels of which none is marked are no answer. docs/answers.md lists the
forms.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from icl_harness.examples import Example
from icl_harness.tasks.scoring.base import UNPARSED, Score, first_line, spoken
from icl_harness.tasks.scoring.cues import Cue
from icl_harness.tasks.scoring.denials import Denial, negated_label
from icl_harness.tasks.scoring.dress import plain_dress
from icl_harness.tasks.scoring.judged import Judged, judge
from icl_harness.tasks.scoring.label_forms import (
    DIGITS,
    SAID_SIGN,
    Mention,
    label_forms,
    mentions,
    whole,
)

_HEDGE = re.compile(
    r"\b(?:or|maybe|perhaps|possibly|alternatively|could|might|may|either)\b|^\W*(?:and|but also|to"
    r"|vs\.?|versus|und|et)\b",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"[.!;\n](?:\s|$)|\b(?:because|since|as|given|due)\b|:| - "
    r"|\((?!\s?(?:or|could|maybe|might|may|possibly|perhaps)\b)",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"\b(?:wait|actually|correction|sorry|hmm|on second thoughts?|scratch that|mistaken|in fact"
    r"|re-?consider\w*|re-?evaluat\w*|final)\b",
    re.IGNORECASE,
)
_ENUMERATED_NUMBER = re.compile(r"^\s*\d{1,2}[.)]\s+(?=[-+]?\d+\W*$)")
LOWEST_TOP_GRADE = 3  # of a scale in which "4/5" is a grade and no list
# What a model goes on with once its answer is given: the next problem.
NEXT_PROBLEM = re.compile(
    r"^\W{0,4}(?:(?:next )?(?:question|problem|input|sentence|message|text|review|passage|premise"
    r"|query|example|task|tweet|q)\W{0,3}\d{0,3}\W{0,3}:|-{3,}\s*$|user:|human:)",
    re.IGNORECASE,
)
_RUN_ON = re.compile(
    r"\s#{2,3} ?\w+:?\s|\s(?:Question|Problem|Input|Sentence|Message|Review|Premise|Q):\s"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """The label of a line (None without one), how clearly it is marked, whether the line says
    anything about labels at all, and whether it is nothing but the label.
    """

    label: str | None
    cue: Cue = Cue.NONE
    is_about_labels: bool = True
    is_whole: bool = False


def label_match(answer: str, example: Example) -> Score:
    """Compare the label of an answer with the target; the choices are the example's (its target
    alone, where it has none).
    """
    found = read_label(answer, example.choices or (example.target,))
    return UNPARSED if found is None else Score(found, float(found == example.target))


def read_label(answer: str, labels: Sequence[str]) -> str | None:
    """Return the label of the first line that is not blank.

    Where that line only leads to it ("The label is:") the next one counts, and where it says less
    than a later one that is marked ("Sentiment: positive"), up to the next problem, that one.
    """
    answer = spoken(answer)
    first = first_line(answer)
    if first in labels:
        return first
    lines = [line.strip() for line in plain_dress(answer).split("\n")]
    lines = [line for line in lines if re.search(r"\S", line)]
    if not lines:
        return None
    reading = read_line(lines[0], labels)
    if reading.label is not None and reading.cue >= Cue.OPENS and not _is_listing(lines, labels):
        return reading.label
    leads_on = lines[0].endswith(":") or not re.search(r"\w", lines[0])
    for line in lines[1:]:
        if NEXT_PROBLEM.match(line):
            break
        later = read_line(line, labels)
        is_marked = later.cue >= Cue.HEADED and "->" not in line
        if later.label is not None and (leads_on or is_marked):
            return later.label
        leads_on = not later.is_about_labels and (line.endswith(":") or not re.search(r"\w", line))
    return reading.label


def _is_listing(lines: Sequence[str], labels: Sequence[str]) -> bool:
    """Return whether the first lines go through the options: "A: no", "B: yes"."""
    found = []
    for line in lines[:2]:
        letter = re.match(r"\W{0,3}(\w)\W{0,2}[:.)]\s*\w", line)
        found.append(letter and whole(letter[1], labels))
    return len(found) > 1 and None not in found and found[0] != found[1]


def read_line(line: str, labels: Sequence[str]) -> Reading:
    """Read one line in plain dress."""
    forms = label_forms(tuple(labels))
    if forms.has_numbers:
        line = _plain_numbers(line, labels, forms.highest)
    found = _symbol(line, labels) or whole(line, labels)
    if found is not None:
        return Reading(found, Cue.MARKED, is_whole=True)
    line = _before_next_problem(line, labels)
    judged = judge(line, labels)
    if not judged:
        return Reading(None, is_about_labels=False)
    return _decide(line, judged, labels)


def _plain_numbers(line: str, labels: Sequence[str], highest: str) -> str:
    """Write signs as signs, and leave out "/5" and "out of 5" behind a grade from 1 to 5."""
    if not any("negative" in label or "minus" in label for label in labels):
        line = SAID_SIGN.sub(lambda said: f"-{DIGITS.get(said[1].lower(), said[1])}", line)
    line = _ENUMERATED_NUMBER.sub("", line)
    if not _is_scale(labels, highest):
        return line
    return re.sub(rf"(?<=\d)\s?(?:/|out of)\s?{re.escape(highest)}\b(?![.,]\d)", "", line)


def _is_scale(labels: Sequence[str], highest: str) -> bool:
    """Return whether the labels are grades: all whole numbers from 1 (or 0) up to 3 or more."""
    if not highest.isdigit() or int(highest) < LOWEST_TOP_GRADE:
        return False
    return len(labels) >= int(highest) and all(label.isdigit() for label in labels)


def _symbol(line: str, labels: Sequence[str]) -> str | None:
    """Return the label that a line is letter for letter, behind a cue and within quotes or not."""
    said = re.sub(r"^\W*[A-Za-z]+(?: is)?\s?[:=]\s*", "", line).strip(" \"'`")
    for form in (line, said, said.rstrip(".").strip(" \"'()[]")):
        if form in labels:
            return form
    return None


def _before_next_problem(line: str, labels: Sequence[str]) -> str:
    """Cut where a line without line ends goes on to the next problem."""
    if not _RUN_ON.search(line):
        return line
    found = mentions(line, labels)
    run_on = _RUN_ON.search(line, found[0].end) if found else None
    return line[: run_on.start()] if run_on else line


def _decide(line: str, judged: list[Judged], labels: Sequence[str]) -> Reading:
    meant = [item for item in judged if item.is_meant]
    for cue in (Cue.MARKED, Cue.HEADED):
        marked = [item for item in meant if item.cue is cue]
        if marked:
            return Reading(_last_of(line, marked), cue)
    if _echoes(line, judged, labels):
        return Reading(None, Cue.OPENS)
    opening = meant[0] if meant and meant[0].cue is Cue.OPENS else None
    if opening and judged[0] is opening and not _hedged(line, judged):
        concluded = {item.mention.label for item in meant if item.cue is Cue.CONCLUDED}
        if not concluded or re.match(r"[^\w\s]|$", line[opening.mention.end :]):
            return Reading(opening.mention.label, Cue.OPENS)
    for cue in (Cue.CONCLUDED, Cue.OPENS):
        found = {item.mention.label for item in meant if item.cue is cue}
        if cue is Cue.CONCLUDED and len(found) == 1:
            return Reading(found.pop(), cue)
    return _mentioned(line, judged, labels)


def _echoes(line: str, judged: list[Judged], labels: Sequence[str]) -> bool:
    """Return whether a line lists the options in their order: "A) yes B) no"."""
    listed = [
        item.mention.label
        for item in judged
        if item.mention.is_short
        and not item.denial
        and re.match(r"[)\].:]", line[item.mention.end :])
    ]
    return len(listed) > 1 and listed == list(labels[: len(listed)])


def _last_of(line: str, marked: list[Judged]) -> str | None:
    """Of several marked labels the last one is meant where the model corrects itself."""
    last = marked[-1].mention
    if all(item.mention.label == last.label for item in marked):
        return last.label
    between = line[marked[0].mention.end : last.start]
    return last.label if _CORRECTION.search(between) else None


def _hedged(line: str, judged: list[Judged]) -> bool:
    """Return whether the sentence that begins with a label goes on to offer another one."""
    first = judged[0].mention
    for item in judged[1:]:
        if item.mention.label == first.label or item.denial:
            continue
        between = line[first.end : item.mention.start]
        if _REASON.search(between):
            return False
        if _HEDGE.search(between):
            return True
    return False


def _mentioned(line: str, judged: list[Judged], labels: Sequence[str]) -> Reading:
    """Read a line none of whose labels is marked: one is meant if it is the only one."""
    meant = [item for item in judged if item.denial is Denial.NONE]
    if any(item.is_open for item in judged):
        return Reading(None, max(item.cue for item in judged))
    found = {item.mention.label for item in meant}
    denied = {item.mention.label for item in judged if item.denial}
    if len(found) > 1:
        found = {item.mention.label for item in meant if _is_spelt_out(line, item.mention)}
    if len(found) == 1:
        (label,) = found
        clear = [item for item in meant if item.mention.label == label and _is_evidence(line, item)]
        if not clear or label in denied:
            return Reading(None)
        return Reading(label, max(item.cue for item in clear))
    if meant:
        return Reading(None)
    opposite = _opposite(judged, labels)
    return Reading(opposite, judged[-1].cue if opposite else Cue.NONE)


def _is_evidence(line: str, item: Judged) -> bool:
    """A letter that merely stands somewhere is no answer, the only number of a line is one."""
    if not item.mention.is_short or item.cue is not Cue.NONE:
        return True
    is_number = item.mention.label[-1].isdigit()
    return is_number and len(re.findall(r"\d+", line)) == 1


def _is_spelt_out(line: str, mention: Mention) -> bool:
    """Whether a label stands as it is written, in a way that prose is not: "card_arrival"."""
    return line[mention.start : mention.end] == mention.label and "_" in mention.label


def _opposite(judged: list[Judged], labels: Sequence[str]) -> str | None:
    """Return the label that is, by its name, the negation of the only one that is denied."""
    denied = {item.mention.label for item in judged}
    if len(denied) != 1 or judged[0].denial is not Denial.DIRECT:
        return None
    (label,) = denied
    words: dict[str, tuple[str, ...]] = {}
    for form, found in label_forms(tuple(labels)).by_words.items():
        words |= dict.fromkeys(found, form)
    if label not in words:
        return None
    others = {form: name for name, form in words.items() if name != label}
    return negated_label(words[label], others)
