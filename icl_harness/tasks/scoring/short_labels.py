"""Labels of one letter or digit, and numbers: where is "A" a label, where a word?

In: such a mention, and what stands before and after it. Out: whether it may be a label at all, and
whether its dress alone shows that it is one.
"""

from __future__ import annotations

import re

from icl_harness.tasks.scoring.label_forms import Mention

# What makes a word or a name of a letter: "A-rated", "A's", "C++", "C#", "U.S.", "3%",
# "1/10", "±1".
_PART_AFTER = re.compile(r"['-]\w|[+#%]|\.\w\b(?!\))|\d|,\d{3}|\s?/\s?[-+]?\d")
_PART_BEFORE = re.compile(r"(?:[\w]['-]|\w\.|[#$€£&±]|\+/-|\d\s?/\s?)$")
_ENCLOSED = re.compile(r"[(\[{<\"']\s?$"), re.compile(r"\s?[)\]}>\"']")
_CALLED = re.compile(
    r"\b(?:option|choice|answer|letter|choose|chose|pick|select|statement|label|class|opci[oó]n|op[cç][aã]o|opzione|let(?:ra|tera|tre)|alternativa)\s*[\"'(\[:]*\s*$",
    re.IGNORECASE,
)
_ENDS = re.compile(r"\s*(?:$|[)\]}>.,:;!?|/\"'=]|- |-> |\n|\W{0,2}$)|[\u3040-\u9fff\uac00-\ud7af]")
# Words that follow a letter which is a name, while other words follow an article.
_VERB = re.compile(
    r"\s+(?:is|are|was|because|since|as|would|seems?|and|or|nor|but|fits|has|matches|not|can|cannot"
    r"|could|does|must|should|looks|appears|rather|instead|describes|states|says|best|isn't|doesn't|can't|vs)\b"
    r"|\s+[(\[<]",
    re.IGNORECASE,
)
_CUED = re.compile(
    r"(?:[:=]|->|[\u4e00-\u9fff]|\b(?:answer|option|choice|label|letter)\b[^.!?:]{0,30}?\bis)"
    r"\s*[\"'(\[{]*\s*$",
    re.IGNORECASE,
)


def is_label(mention: Mention, before: str, after: str) -> bool:
    """Return whether a letter may be meant as a label where it stands."""
    before, after = before[-40:], after[:40]
    letter_is_word = mention.label.strip("()[]. ").casefold() in ("a", "i", "o", "y", "u")
    if _PART_AFTER.match(after) or _PART_BEFORE.search(before):
        return False
    if not mention.exact:
        is_cued = _CUED.search(before) or _CALLED.search(before)
        begins = not before.strip() and re.match(r"[.:)]\s", after)
        return _is_enclosed(before, after) or bool(begins or (is_cued and _ENDS.match(after)))
    if not letter_is_word or _is_enclosed(before, after) or _CALLED.search(before):
        return True
    return bool(_ENDS.match(after) or _VERB.match(after))


def is_clear(before: str, after: str) -> bool:
    """Return whether a letter's dress shows that it is a label: "(B)", or a sentence of its own."""
    before, after = before[-40:], after[:40]
    alone = re.search(r"(?:^|[.;!?,])\s*$", before) and re.match(r"\s*(?:[.;!?]|$)", after)
    return _is_enclosed(before, after) or bool(alone)


def _is_enclosed(before: str, after: str) -> bool:
    opening, closing = _ENCLOSED
    if not closing.match(after):
        return False
    return bool(opening.search(before)) or bool(re.fullmatch(r"\s*", before))
