"""Cues: how clearly does a text mark a mention as its answer?

In: what stands before and after a mention. Out: a `Cue`, from NONE (the words stand somewhere) to
MARKED ("The answer is X", "Label: X", "Option X is correct", in any of some twenty languages).
"""

from __future__ import annotations

import re
from enum import IntEnum

from icl_harness.tasks.scoring.wording import any_of

REACH = 120  # characters before a mention, and
AFTER = 90  # behind it, in which a cue is looked for


class Cue(IntEnum):
    """How clearly a mention is marked as the answer."""

    NONE = 0
    CLEAR = 1  # "(B)"
    SAID = 2  # "It is X"
    CONCLUDED = 3  # "so X", "I choose X"
    OPENS = 4  # the answer begins with it
    HEADED = 5  # "Anything: X"
    MARKED = 6  # "The answer is X", "Sentiment: X"


# What an answer may be called. Others that stand before a colon count too (see `_HEADING`).
_NAMES = any_of(
    r"""answers?, ans\.?, label, labell?ed, sentiment, intent(?:ion)?, class, category,
    classification, prediction, verdict, output, result, choice, option, decision,
    conclusion, response, type, topic, kind, emotion, rating, score, stance, polarity,
    relation(?:ship)?, judge?ment, tag, selection, classified, r[eé]ponse, respuesta,
    resposta, risposta, antwort, antwoord, ответ, svar(?:et)?, vastaus, odpowied[zź], odpověď,
    cevap, yanıt, jawaban(?:nya)?, [dđ]áp án, الإجابة, الجواب, उत्तर, απάντηση, răspuns, válasz"""
)
_IS = any_of(
    """is, are, was, be, being, as, est, es, é, è, ist, lautet, wäre, är, er, on, jest, je, это,
    adalah"""
)
_COPULA = rf"(?:(?<![^\W_]){_IS}(?![^\W_])|[:=]|->| -|là|هي|है)"
_ADVERB = any_of(
    r"""clearly, definitely, most likely, likely, probably, therefore, thus, hence, so, simply,
    mostly, overall, indeed, then, still, also, best described as, described as, classified as,
    considered, labell?ed(?: as)?, categori[sz]ed as, going to be, just, obviously, certainly,
    strongly, rather, slightly, somewhat, very, generally, predominantly, mainly, primarily,
    actually, in fact, that of, it is, it's, called, one of, either, not, \w+ly"""
)
_OPENING = r"[\s\"'(\[{<|~_#.$\\]{0,8}"
_TITLE = any_of(
    """an?, the, answer, label, option, class, category, letter, choice, number, statement,
    sentence, intent, opción, opção, opzione, die, der, la, el, le, l', lettre, letra,
    buchstabe, вариант"""
)
_FILL = rf"{_OPENING}(?:{_ADVERB}\s+){{0,3}}(?:{_TITLE}\s+){{0,3}}{_OPENING}$"
_MARKED = re.compile(
    rf"\b{_NAMES}\b[^.!?;:\n]{{0,60}}?{_COPULA}{_FILL}"
    rf"|\b(?:final|correct|right|best) (?:\w+ )?{_NAMES}[^\w.!?\n]{{0,4}}{_FILL}",
    re.IGNORECASE,
)
_HEADING = re.compile(
    rf"(?:^|[.!?;\n{{,]|\s-\s)\W{{0,3}}(?P<name>[^\W\d][^:=.!?;\n]{{0,40}}?)[\s\"']{{0,2}}[:=]{_FILL}"
)
# A mark does not reach beyond these: "The sentiment is positive, although the tone is negative".
_CONCESSION = re.compile(r"\b(?:although|though|whereas|while|despite|even if)\b", re.IGNORECASE)
# What stands behind these headings is about the answer, not the answer.
_ASIDE = re.compile(
    r"\b"
    + any_of(
        """explanation, reason(?:s|ing)?, rationale, justification, evidence, notes?, sentences?,
        text, reviews?, premise, hypothesis, questions?, inputs?, options, choices, labels,
        categories, classes, candidates, keywords?, words?, phrases?, aspects?, points?,
        alternatives?, examples?, messages?, passages?, statements?, comments?, tweets?,
        context, because, analysis, thoughts?, confidence, possibilities, considering, right,
        correct, wrong, from, among, between, of, include, are, following, either"""
    )
    + r"\s*$",
    re.IGNORECASE,
)
_EAST_ASIAN = re.compile(
    r"(?:答案|答え|回答|解答|正解|选项|選項|选择|選擇|应该是|應該是|应选|應選|故选|故選|选|選|정답|정답|답|उत्तर)"
    rf"\s*(?:应该|應該|应|應)?(?:是|为|為|は|은|는|[:,])?{_OPENING}$"
)
_CONCLUDING = any_of(
    r"""so, therefore, thus, hence, ergo, overall, consequently, accordingly, conclu\w+,
    chosen?, chose, choose, pick, picking, select, selecting, go(?:ing)? (?:with|for),
    opt(?:ing)? for, vote for, classif(?:y|ied|ies), labell?(?:ed|ing)?, categori[sz]ed?,
    predict(?:ed)?, guess, option, choice, letter, answer, say, but(?: rather)?, instead,
    finally, in summary, in short, leaving, leaves, mark(?:ed)?, assign(?:ed)?, rated?,
    falls? (?:under|into), belongs? to, donc, deshalb, luego, portanto, quindi, dunque,
    поэтому, corresponds? to, match(?:es)?, evaluates? to, equals?, yields, follows that,
    makes"""
)
# Words that may stand between what concludes and the conclusion: "so the answer must be".
_LINK = any_of(
    """it, it's, this, that, its, is, isn't, not, are, must, should, would, will, be, to, have, has,
    i, i'd, i'll, we, you, my, the, an?, go, going, with, for, as, in, under, into, text, sentence,
    review, statement, argument, message, question, comment, tweet, correct, best, right, final,
    overall, only, other, remaining, one, choose, pick, select, say, classify, label, answer,
    option"""
)
_CONCLUDED = re.compile(
    rf"\b{_CONCLUDING}\b(?!')[\s,:>-]{{1,3}}(?:{_LINK}\s+){{0,8}}{_FILL}"
    rf"|(?:因此|所以|故|而是|我选|我選){_OPENING}$",
    re.IGNORECASE,
)
_SAID = re.compile(
    rf"(?:\b(?:is|are|be|was|being|as|it's|that's|est|es|ist)\b|[:=]|->){_FILL}", re.IGNORECASE
)
_BEGINNING = any_of(
    """very, mostly, slightly, somewhat, strongly, clearly, definitely, probably, likely, most
    likely, overall, mainly, rather, quite, extremely, fairly, highly, mildly, moderately,
    generally, i think, it's, it is, this is, option, choice, letter, the, sure, okay, ok,
    certainly, well, hmm, opción, opção, opzione, letra, lettera, lettre, alternativa, la, looks,
    seems, answer, label, class, category"""
)
_OPENS = re.compile(rf"\W*(?:(?:\d{{1,2}}[.):]|{_BEGINNING})\W{{1,4}}){{0,4}}", re.IGNORECASE)
_BE = any_of(
    """is, are, was, seems?, appears, looks, must be, would be, should be, has to be, est, es,
    ist"""
)
_MOST = any_of(
    "the, clearly, definitely, therefore, thus, probably, likely, most, indeed, also, la"
)
_RIGHT = any_of(
    """correct, right, best, true, answer, accurate, appropriate, fitting, one, richtig, correcta,
    correcte"""
)
_RIGHT_AFTER = re.compile(
    rf"[^\w.!?;,\n]{{0,4}}(?:[^.!?;,\n]{{0,60}}?[^\w.!?;,\n]{{1,3}})?{_BE}\s+(?:{_MOST}\s+){{0,3}}"
    rf"{_RIGHT}\b(?!\s+(?:to|of)\b)|\s+is\s*[.!]?$|(?:是|为)?(?:正确|正確)|が正解",
    re.IGNORECASE,
)


def cue_of(before: str, after: str) -> Cue:
    """Return how clearly a mention is marked, by what stands before and after it."""
    opens = len(before) < REACH and _OPENS.fullmatch(before)
    before = _CONCESSION.split(before[-REACH:])[-1]
    if _MARKED.search(before) or _EAST_ASIAN.search(before):
        return Cue.MARKED
    heading = _HEADING.search(before)
    if heading and not _ASIDE.search(heading["name"]):
        return Cue.HEADED
    if opens:
        return Cue.OPENS
    if _RIGHT_AFTER.match(after[:AFTER]):
        return Cue.MARKED
    if _CONCLUDED.search(before):
        return Cue.CONCLUDED
    return Cue.SAID if _SAID.search(before) else Cue.NONE
