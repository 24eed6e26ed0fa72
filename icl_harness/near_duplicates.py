"""Pool examples that are a query but for its spelling, or for the order of its options.

In: pool and queries, of which exact copies (examples.py) are dealt with. Out: pairs that a reader
should look at: they are reported and stay. Two texts are nearly the same where they differ in
letter case, punctuation and breaks between words ("on-line", "on line", "online"), or in the order
of options that are marked by letters, numbers or dashes. Each text is read once, so the time grows
with the number of rows, not of pairs. Left out: texts of other words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from string import ascii_letters
from typing import Any

from icl_harness.examples import Example, normalised

# a break between two words, or between a word and a number; not between two numbers
_BREAK = re.compile(r"(?<=[^\W\d]) (?=\w)|(?<=\d) (?=[^\W\d])")
_SECOND = re.compile(r"(?:^|\s)(?:[(\[]?[Bb2][).:\]]|-)\s")  # is found faster than all marks
_MARK = re.compile(r"(?:^|(?<=\s))(?:[(\[]?(\w{1,2})[).:\]]|-)\s+")
FEWEST_OPTIONS = 2
N_SHOWN = 3
MOST_TEXT = 60  # characters
FIRST_MARKS = ("A", "a", "1", "-")


def near_duplicates(pool: Sequence[Example], queries: Sequence[Example]) -> list[tuple[str, str]]:
    """Return (pool id, query id) of every pool example that nearly is a query. Exact copies are
    left out.
    """
    query_ids: dict[str, str] = {}
    exact = set()
    for query in queries:
        form = normalised(query.input)
        exact.add(form)
        for key in _keys(query.input, form):
            query_ids.setdefault(key, query.id)
    pairs = []
    for example in pool:
        form = normalised(example.input)
        if form not in exact:
            found = (query_ids.get(key) for key in _keys(example.input, form))
            pairs += [(example.id, id) for id in dict.fromkeys(found) if id is not None][:1]
    return pairs


def described(
    pool: Sequence[Example], queries: Sequence[Example], pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Return what a run says of near duplicates: how many there are, and the first with their
    texts.
    """
    inputs = {example.id: example.input for example in pool}
    asked = {example.id: example.input for example in queries}
    shown = [[*pair, inputs[pair[0]][:MOST_TEXT], asked[pair[1]][:MOST_TEXT]] for pair in pairs]
    return {"n": len(pairs), "examples": shown[:N_SHOWN]}


def _keys(text: str, form: str) -> Iterator[str]:
    """Yield what nearly equal texts have in common."""
    yield _BREAK.sub("", form)
    options = unordered(text)
    if options is not None:
        yield options


def unordered(text: str) -> str | None:
    """Return a question with its options in an order of their own; None where it has none."""
    if not _SECOND.search(text):
        return None
    marks = list(_MARK.finditer(text))
    starts = [place for place, mark in enumerate(marks) if _name(mark) in FIRST_MARKS]
    if not starts:
        return None
    marks = marks[starts[0] :]
    if len(marks) < FEWEST_OPTIONS or not _count_up([_name(mark) for mark in marks]):
        return None
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    options = [text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
    stem = _BREAK.sub("", normalised(text[: marks[0].start()]))
    return "\n".join([stem, *sorted(_BREAK.sub("", normalised(one)) for one in options)])


def _name(mark: re.Match[str]) -> str:
    return mark[1] or "-"


def _count_up(names: Sequence[str]) -> bool:
    """Return whether marks are A, B, C, …, or 1, 2, 3, …, or dashes alone."""
    if names[0] == "-":
        return set(names) == {"-"}
    if names[0] == "1":
        return list(names) == [str(n) for n in range(1, len(names) + 1)]
    first = ascii_letters.index(names[0])
    return "".join(names) == ascii_letters[first : first + len(names)]
