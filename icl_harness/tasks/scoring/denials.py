"""Denials: does a text say that what it mentions is not so?

In: what stands before and after a mention. Out: `Denial.NONE`, `DIRECT` where the mention itself is
denied ("not toxic", "isn't really toxic", "I don't think it is toxic", "far from toxic"), `LOOSE`
where it is denied in other ways ("toxic is wrong", "there is no sign of toxic speech", "rather than
toxic"). A denial reaches to the end of its clause: "It does not say much, so positive" denies
nothing. Left out: irony, and denials that stand a sentence away from what they deny.
"""

from __future__ import annotations

import re
from enum import IntEnum

from icl_harness.tasks.scoring.wording import any_of

REACH = 160  # characters before a mention, and
COMPARISON = 80  # the same for "more … than"
AFTER = 80  # behind it, in which a denial is looked for


class Denial(IntEnum):
    """How clearly a mention is denied."""

    NONE = 0
    LOOSE = 1
    DIRECT = 2


_NEGATED_VERB = any_of(
    r"""\w+n't, aint, arent, cant, couldnt, didnt, doesnt, dont, hadnt, hasnt, havent, isnt,
    mustnt, neednt, shouldnt, wasnt, werent, wont, wouldnt"""
)
_NOT_WORDS = any_of(
    """not, cannot, never, neither, nor, no longer, hardly, barely, scarcely, rarely, seldom,
    nowhere near, far from, anything but, by no means, in no way, less than, nicht,
    kein(?:e|er|en|es)?, weder, pas, niet, geen, nunca, não, нет, не, ikke, inte, nie"""
)
_NOT = re.compile(
    rf"\b(?:{_NOT_WORDS}|{_NEGATED_VERB})\b|不是|並非|并非|不|非|没有|沒有|没|未", re.IGNORECASE
)
_LOOSE_WORDS = any_of(
    """without, lack(?:s|ing)?, absence of, free (?:of|from), rather than, instead of, as opposed
    to, other than, opposite of, fail(?:s|ed)? to, rul(?:e|es|ed|ing) out, cross(?:es|ed|ing)?
    out, exclud(?:e|es|ed|ing), eliminat(?:e|es|ed|ing), reject(?:s|ed|ing)?,
    discard(?:s|ed|ing)?, unlike, except, unlikely(?: to be)?, nothing, none, wrong(?:ly)?,
    incorrect(?:ly)?, false that, doubtful"""
)
_NO_SIGN = any_of("signs?, indications?, evidence, hints?, traces?, mentions?, reasons?")
_LOOSELY_NOT = re.compile(
    rf"\b(?:{_LOOSE_WORDS}|no (?:\w+ )?{_NO_SIGN} (?:of|that|for|to))\b", re.IGNORECASE
)
# "no" denies the words right behind it: "no entailment", "no clear entailment", "no es positivo".
_NO = re.compile(
    r"\bno\s+(?!(?:it|this|that|the|he|she|they|we|i|there|you|or|and|but)\b)(?:[^\W\d_]+\s+){0,2}$",
    re.IGNORECASE,
)
_PREFIX = re.compile(r"\b(?:non|not|un|anti|in|dis)(?:-\s?|_)$|\bnon\s$", re.IGNORECASE)
_COMPARED = re.compile(r"\b(?:more|rather|less|other)\b[^.;]{0,60}\bthan\s+(?:\w+\s+){0,3}$", re.I)
# "not, in my view, negative"
_PARENTHESIS = re.compile(r"\b(?:not|n't|never|hardly),[^,.;]{1,40},\s*(?:an?\s|the\s)?$", re.I)
_NO_DENIAL = re.compile(
    r"\b"
    + any_of(
        r"""not (?:only|just|merely|simply|to mention|because|surprising(?:ly)?|un\w+),
        (?:no|without(?: a| any)?|not|beyond) (?:doubt|question|problem|wonder|matter),
        (?:can|could)(?:not|n't) (?:be more|deny|help but), nothing but, if not, why not,
        whether or not, none other than, (?:no|nothing) (?:other|less) than, does ?n[o']t
        matter"""
    )
    + r"\b",
    re.IGNORECASE,
)
_CONJUNCTION = any_of(
    """(?<!anything )(?<!nothing )but, so, therefore, thus, hence, because, since, although,
    though, while, whereas, however, instead(?! of), rather(?! than), yet, then, which, making,
    leaving, if"""
)
_CLAUSE_ENDS = re.compile(
    rf"[.!?;:](?=[\s\"')\]]|$)|\n|,| - |->|[()\[\]]|\b{_CONJUNCTION}\b|而是", re.IGNORECASE
)
# Verbs and words through which a denial reaches what follows: "I don't think it is positive".
_REACHES = re.compile(
    r"\b"
    + any_of(
        r"""think, believe, say, call, consider, see, feel, find, suppose, suggest, imply, mean,
        indicate, show, appear, seem, look, sound, count, qualify, tell, know, clear, sure,
        certain, true, correct, right, case, convinced, likely, possible, agree, claim, state,
        conclude, argue, assume, guess, expect, determine, describe\w*, classif\w+, label\w*,
        categor\w+, regard\w*, as, to, that"""
    )
    + r"\b",
    re.IGNORECASE,
)
_COPULA = re.compile(r"\b(?:is|are|was|were|makes|remains|becomes|it's|that's)\b", re.IGNORECASE)
# Words between a negation and what it denies that leave no doubt that it does.
_FILLER = any_of(
    """a, an, the, really, very, at all, all, at, particularly, especially, exactly, quite, so,
    necessarily, actually, truly, clearly, explicitly, strictly, logically, deductively, any,
    be, being, considered, deemed, called, classified, labell?ed, described, as, to, think,
    believe, say, call, consider, find, seem, appear, look, sound, it, this, that, is, it's,
    would, text, comment, statement, sentence, argument, tweet, message, review, premise,
    hypothesis, answer, label, class, in any way, remotely, overly, too, sure, true, clear,
    real, strong, direct, sein, est, é, es"""
)
_FILLERS = re.compile(rf"(?:[\s\"'(]|\b{_FILLER}\b)*", re.IGNORECASE)
_BE = any_of("is, are, was, were, seems?, must be, would be, can be, could be, being, as, looks?")
_BEING = rf"(?:{_BE}\s+(?:\w+ly\s+|(?:also|both|all|too)\s+)?)"
_WRONG = any_of(
    """wrong, incorrect, false, out, ruled out, eliminated, excluded, implausible, unlikely,
    impossible, inappropriate, invalid, inaccurate, untrue, rejected, discarded, off the table"""
)
_DENIED_AFTER = re.compile(
    rf"[\s\"')\]}}]{{0,4}}(?:"
    rf"{_BEING}(?:(?:not|never)\b(?! only| just| because)|{_WRONG}\b)"
    rf"|(?:{_NEGATED_VERB}|cannot|(?:does|do|did|can|would|will) not|ist nicht)\b"
    r"|\?[\"')]?\s*(?:no|nope|not|wait|hmm|rather)\b"
    r"|[:(-]\s?(?:incorrect|wrong|ruled out|eliminated|not correct)\b)"
    r"|\s?(?:ではない|じゃない|ではありません|이 아|가 아|아님)",
    re.IGNORECASE,
)
_OR_NOT = re.compile(
    r"[\s\"')]{0,3}(?:,?\s*)or\s+(?:it'?s\s+|it is\s+|is\s+)?(?:not|none|neither)\b", re.IGNORECASE
)


def denial_before(before: str) -> Denial:
    """Return how what stands before a mention denies it."""
    before = before[-REACH:]
    if _PREFIX.search(before) or _PARENTHESIS.search(before):
        return Denial.DIRECT
    denial = _denial_in(last_clause(before))
    opened = before.rstrip(" ([{<\"'")
    if denial is Denial.NONE and opened and before[len(opened) :].strip():
        within = _denial_in(last_clause(opened) + " ")  # "not (A)", while "not a (b)" says b
        denial = within if within is Denial.DIRECT else Denial.NONE
    if denial is Denial.NONE and _COMPARED.search(opened[-COMPARISON:] + " "):
        return Denial.LOOSE
    return denial


def _denial_in(clause: str) -> Denial:
    clause = _NO_DENIAL.sub(" ", clause)
    if _NO.search(clause):
        return Denial.DIRECT
    negations = list(_NOT.finditer(clause))
    if negations:
        return _reach(clause[negations[-1].end() :], Denial.DIRECT)
    loose = list(_LOOSELY_NOT.finditer(clause))
    return _reach(clause[loose[-1].end() :], Denial.LOOSE) if loose else Denial.NONE


def _reach(between: str, denial: Denial) -> Denial:
    """Return how a negation denies what stands behind `between`."""
    if _FILLERS.fullmatch(between):
        return denial
    if _COPULA.search(between) and not _REACHES.search(between):
        return Denial.NONE  # "That profits did not grow is negative"
    return Denial.LOOSE


def last_clause(before: str) -> str:
    """Return the clause that the text breaks off in."""
    ends = list(_CLAUSE_ENDS.finditer(before))
    return before[ends[-1].end() :] if ends else before


def denied_after(after: str) -> bool:
    """Return whether what follows a mention denies it: "is wrong", "isn't it", "doesn't fit"."""
    return _DENIED_AFTER.match(after[:AFTER]) is not None


def left_open(after: str) -> bool:
    """Return whether what follows a mention takes it back: "toxic or not"."""
    return _OR_NOT.match(after[:AFTER]) is not None


_OPPOSITES = frozenset({"true", "false"})
_NEGATING = ("non", "not", "no", "un", "in", "im", "il", "ir", "dis")


def negated_label(label: tuple[str, ...], others: dict[tuple[str, ...], str]) -> str | None:
    """Return which other label is the negation of a label by its name: "non-toxic" of "toxic",
    "invalid" of "valid", and the other way round. Labels are given by their words.
    """
    name = "".join(label)
    for words, other in others.items():
        other_name = "".join(words)
        if {name, other_name} == _OPPOSITES:
            return other
        if other_name in [prefix + name for prefix in _NEGATING]:
            return other
        if name in [prefix + other_name for prefix in _NEGATING]:
            return other
    return None
