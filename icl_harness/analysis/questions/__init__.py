"""Questions about curves, each answered in one sentence with the table behind it.

In: the points of each task (joint.py). Out: answers. A question is a function in a file of its own,
and is listed here under the name by which `icl ask --about` knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icl_harness.analysis.joint import Joint
from icl_harness.analysis.questions.answers import Answer
from icl_harness.analysis.questions.crossing import crossing
from icl_harness.analysis.questions.efficiency import efficiency
from icl_harness.analysis.questions.laws import laws
from icl_harness.analysis.questions.pairs import check_against
from icl_harness.analysis.questions.passing import passing
from icl_harness.analysis.questions.peak import peak
from icl_harness.analysis.questions.trend import gain, trend
from icl_harness.analysis.questions.variance import variance
from icl_harness.analysis.questions.within import within
from icl_harness.errors import SpecError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.tasks.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class Options:
    """What questions take: the distance from the best, the value to reach, and the curve that
    others are held against.
    """

    within: float | None = None
    target: float | None = None
    against: str | None = None


Question = Callable[[Joint, Options], Iterator[Answer]]
QUESTIONS: Mapping[str, Question] = {
    "trend": lambda joint, options: trend(joint),
    "gain": lambda joint, options: gain(joint),
    "within": lambda joint, options: within(joint, within=options.within),
    "peak": lambda joint, options: peak(joint),
    "crossing": lambda joint, options: crossing(joint),
    "passing": lambda joint, options: passing(joint, against=options.against),
    "efficiency": lambda joint, options: efficiency(
        joint, target=options.target, against=options.against
    ),
    "laws": lambda joint, options: laws(joint),
}
# What the points of curves do not tell.
OF_RECORDS: Mapping[str, Callable[..., Iterator[Answer]]] = {
    "variance": variance,
}
NAMES = (*QUESTIONS, *OF_RECORDS)


def ask(
    joints: Iterable[Joint], about: Sequence[str] = (), options: Options | None = None
) -> list[Answer]:
    """Return the answers to the questions of these names, or to all. Raises `SpecError` for
    options that do not fit.
    """
    options = options or Options()
    found = list(joints)
    check_against(found, options.against)
    answers: list[Answer] = []
    for joint in found:
        for name in dict.fromkeys(about or QUESTIONS):
            if name in QUESTIONS:
                answers += QUESTIONS[name](joint, options)
    return answers


def ask_of_records(
    records: pd.DataFrame, metrics: Mapping[str, Metric], about: Sequence[str] = ()
) -> list[Answer]:
    """Return the answers to those of the questions that are about single answers."""
    answers: list[Answer] = []
    for name in dict.fromkeys(about or OF_RECORDS):
        if name in OF_RECORDS:
            answers += OF_RECORDS[name](records, metrics)
    return answers


def asked(about: str | Sequence[str] | None) -> list[str]:
    """Return the names of questions in a text such as "trend,peak", or in a list; none for all.
    Raises `SpecError` for one that is not known.
    """
    if about is None:
        return []
    names = about.split(",") if isinstance(about, str) else about
    found = [name.strip() for name in names]
    for name in found:
        if name not in NAMES:
            raise SpecError(
                f"--about {name or about!r}: no such question.{nearest(name, NAMES)} There are "
                f"{', '.join(NAMES)}."
            )
    return found
