"""The mentions of labels in a line, judged: is each meant?

In: a line in plain dress and the labels. Out: a `Judged` for each mention, with how clearly it is
marked and denied. What is denied of one label of a list is denied of all ("neither a nor b"), and
which one of a list is meant is open ("a or b").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from icl_harness.tasks.scoring.cues import Cue, cue_of
from icl_harness.tasks.scoring.denials import Denial, denial_before, denied_after, left_open
from icl_harness.tasks.scoring.label_forms import Mention, mentions
from icl_harness.tasks.scoring.short_labels import is_clear, is_label
from icl_harness.tasks.scoring.wording import any_of

# What stands between the members of a list: "a, b or c", "a/b", "either a or maybe b".
_LISTED = re.compile(
    r"(?:[\s,;/|&+\"'_()\[\].?<>{}-]|[:=]?\s?\d[\d.]{0,5}%?(?!\w)|和|或|或者"
    r"|\bor\s+(?:slightly|mildly|weakly|leaning|rather|borderline|more)\b|\b"
    + any_of(
        """or, and, nor, to, vs, versus, und, oder, ou, o, y, et, och, eller, either, both, maybe,
        perhaps, possibly, even, then, than, somewhat, partly, partially, half, option, choice,
        label, an?, the, it, is, not, also, but"""
    )
    + r"\b)*",
    re.IGNORECASE,
)
_OWN_WORDS = re.compile(r"[)\].:,*]{1,4} ?(?:both|neither|either)\b", re.I)  # "D) Both A and B"
_OR = re.compile(r"\b(?:or|nor|oder|ou)\b|/|或", re.IGNORECASE)
_BUT = re.compile(r"\bbut\b", re.IGNORECASE)
_AND_WORD = re.compile(r"\b(?:and|und|et)\b|&", re.IGNORECASE)
_AND = re.compile(r"\b(?:and|und|et|och)\b|[&+,]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Judged:
    """A mention, with how clearly it is marked as the answer, and denied."""

    mention: Mention
    cue: Cue
    denial: Denial
    is_open: bool = False  # "X or not", or one of a list

    @property
    def is_meant(self) -> bool:
        return self.denial is Denial.NONE and not self.is_open


def judge(line: str, labels: Sequence[str]) -> list[Judged]:
    """Return the mentions of a line, with how each is marked and denied."""
    judged: list[Judged] = []
    for mention in mentions(line, labels):
        before, after = line[: mention.start], line[mention.end :]
        if mention.is_short and not is_label(mention, before, after):
            continue
        if _is_a_determiner(mention, before, after):
            continue
        cue = cue_of(before, after)
        denial = denial_before(before)
        if denial is Denial.NONE and denied_after(after):
            denial = Denial.LOOSE
        if cue < Cue.CONCLUDED and mention.is_short and is_clear(before, after):
            cue = Cue.CONCLUDED if re.search(r"[.;!?]\W*$", before) else max(cue, Cue.CLEAR)
        judged.append(Judged(mention, cue, denial, left_open(after)))
    return _without_lists(line, judged)


def _is_a_determiner(mention: Mention, before: str, after: str) -> bool:
    """ "no" before a word is no answer, unless the answer begins with it: "there is no sign"."""
    if mention.label.lower() != "no" or not re.match(r"\s+(?!(?:or|and|nor)\b)\w", after):
        return False
    return bool(re.search(r"\w", before)) or bool(re.match(r"\s+(?:doubt|question)\b", after))


def _without_lists(line: str, judged: list[Judged]) -> list[Judged]:
    """Deny all of a list that is denied ("neither a nor b", "a and b are wrong"), and leave open
    which is meant in one of several labels ("a or b").
    """
    result: list[Judged] = []
    for run in _runs(line, judged):
        run = _denied_together(line, run)
        meant = {item.mention.label for item in run if item.is_meant}
        if len(meant) > 1:
            run = [replace(item, is_open=True) for item in run]
        result += run
    return result


def _runs(line: str, judged: list[Judged]) -> list[list[Judged]]:
    """Part the mentions into runs between which only separators stand."""
    runs: list[list[Judged]] = []
    for item in judged:
        if runs and _joined(line, runs[-1][-1], item):
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs


def _joined(line: str, left: Judged, right: Judged) -> bool:
    """Return whether only separators stand between two mentions; an aside in parentheses that says
    more than the second one joins none: "a (b would be wrong)".
    """
    between = _between(line, left, right)
    if left.mention.is_short and _OWN_WORDS.match(between):
        return False
    is_aside = between.rstrip().endswith("(") and re.match(r"\s\w", line[right.mention.end :])
    return _LISTED.fullmatch(between) is not None and not is_aside


def _between(line: str, left: Judged, right: Judged) -> str:
    return line[left.mention.end : right.mention.start][:200]


def _denied_together(line: str, run: list[Judged]) -> list[Judged]:
    for i in range(1, len(run)):  # "not a or b", "neither a, b nor c"
        denial = run[i - 1].denial
        behind = line[run[i - 1].mention.end : run[-1].mention.start][:400]
        joined = _OR.search(behind) or (denial is Denial.LOOSE and _AND_WORD.search(behind))
        if denial and not run[i].denial and joined and not _BUT.search(behind):
            run[i] = replace(run[i], denial=denial)
    for i in range(len(run) - 1, 0, -1):  # "a, b and c are wrong"
        between = _between(line, run[i - 1], run[i])
        after_denied = denied_after(line[run[i].mention.end :])
        if after_denied or (i + 1 < len(run) and run[i].denial and run[i + 1].denial):
            joined = _AND.search(between) or _OR.search(between)
            if run[i].denial and joined and not run[i - 1].denial and after_denied:
                run[i - 1] = replace(run[i - 1], denial=Denial.LOOSE)
    return run
