"""Answers that are several words or a row of brackets, however they are listed.

In: a text and the target. Out: the words or brackets that it lists. Not read: items that a sentence
is wound around ("first comes apple, which …").
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection

from icl_harness.tasks.scoring.base import plain

_ENUMERATOR = re.compile(
    r"[①-⑳]|(?:^|(?<=[\s,;|]))\(?\d{1,3}[.):](?=\s|$|[^\W\d])"
    r"|^\s*(?:[-*•]|\(?[A-Za-z]\)|\(?(?:[IVX]{1,5}|[ivx]{1,5})[.)]|\d{1,3}\s?[-–])\s",
    re.MULTILINE,
)
_LETTERED = re.compile(r"(?:^|(?<=[\s,;|]))\(?([A-Za-z])[.)](?=\s)")  # "a) x b) y"
_TAGS = re.compile(r"</?(?:[ou]l|li|p|br|b|i|em|strong|div|span)\s?/?>", re.IGNORECASE)
_SEPARATOR = re.compile(r"->|→|[,;|<>\n\t、，；]|(?<=\s)[-–—/&+](?=\s)")
_QUOTES = re.compile(r"[\[\](){}\"“”‘’`*_«»]|(?<!\w)'|'(?!\w)|\\(?:text|left|right)\b|\\ |\$")
_LEADS = re.compile(
    r"^(?:[^:\n]{0,120}?\b(?:order|list|sorted|words|alphabetically|follows|answer|sequence|is|are|排序[后後]?|排列|顺序|結果|结果)\b"
    r"[^:\n]{0,40}:|.{0,80}?\b(?:order|list|sorted|words|alphabetically)\b.{0,40}?\b(?:is|are)\b:?)\s",
    re.IGNORECASE,
)
_ASSENT = re.compile(r"^(?:sure|okay|certainly|of course)[!.,:]\s+", re.IGNORECASE)
_JSON_KEY = re.compile(r"[\"']\w+[\"']\s*:\s*(?=\[)")
_REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|as an ai|(?:can|could|do|am|was|is) ?not|unable|unclear|impossible"
    r"|unknown|not (?:sure|able|possible)|please|clarify|need more|no (?:answer|words?|list|idea)"
    r"|none|empty|nothing|n/a)\b|n['’]t\b|\?\s*$"
    r"|\b(?:lo siento|no puedo|no sé|désolée?|je ne (?:peux|sais)|ich kann|tut mir leid|mi dispiace"
    r"|não posso|desculpe|извините|не могу)\b|抱歉|无法|對不起|对不起|すみません|申し訳|죄송",
    re.IGNORECASE,
)
_BRACKETS = r"[\[\](){}<>]"
_ONLY_BRACKETS = re.compile(rf"{_BRACKETS}+")
_TWO_ROWS = re.compile(rf"{_BRACKETS}(?:or|/|vs\.?){_BRACKETS}")  # without their spaces


def list_words(text: str) -> str:
    """Return the words of a list, parted by single spaces: one a line, numbered, between commas,
    semicolons or arrows, in brackets or quotes, with "and" before the last.
    """
    text = _JSON_KEY.sub(" ", text.replace("：", ": "))
    lines = [line for line in text.split("\n") if not line.rstrip(" *_").endswith(":")]
    text = _LEADS.sub("", _ASSENT.sub("", "\n".join(lines)))
    text = _QUOTES.sub(" ", _without_enumerators(text))
    text = re.sub(r"^first(?:ly)?,? (?=.*[,;] then )", "", text, flags=re.IGNORECASE)
    text = re.sub(r"[,;]\s+then\s", ", ", text)
    text = re.sub(r"[,;]?\s(?:and|&amp;)\s(?=[^\s]+[\s.]*$)", ", ", text)
    if re.fullmatch(r"[^\s/]+(?:/[^\s/]+){2,}", text.strip(" .")):  # "b/c/a"
        text = text.replace("/", " ")
    text = _SEPARATOR.sub(" ", text)
    return plain(" ".join(text.split()))


def _without_enumerators(text: str) -> str:
    text = _TAGS.sub(" , ", text)
    letters = "".join(_LETTERED.findall(text)).lower()
    if len(letters) > 1 and string.ascii_lowercase.startswith(letters):
        text = _LETTERED.sub(" , ", text)
    return _ENUMERATOR.sub(" , ", text)


def is_refusal(text: str, wanted: Collection[str]) -> bool:
    """Return whether a text says that there is no answer, and none of the words `wanted`."""
    said = set(re.findall(r"\w+", text.casefold()))
    return said.isdisjoint(wanted) and _REFUSAL.search(text) is not None


def first_paragraph(text: str) -> str:
    """Return the first paragraph where what follows is a remark: "Hope this helps!"."""
    first, _, rest = text.partition("\n\n")
    leads_on = first.rstrip(" *_").endswith(":")
    is_remark = re.fullmatch(r"[A-Z][^\n]*[.!?:)]", rest.strip()) is not None
    return first if is_remark and not leads_on and len(first.split()) > 1 else text


def are_items(text: str) -> bool:
    """Return whether several lines are the items of a list: a few words each."""
    lines = [line for line in text.split("\n") if line.strip()]
    if lines and lines[0].rstrip(" *_").endswith(":"):
        lines = lines[1:]
    return bool(lines) and all(len(line.split()) <= 4 for line in lines)


def bracket_row(text: str, is_marked: bool) -> str:
    """Return the brackets of a text: all of it, or those that it begins or ends with; none where it
    offers two rows.
    """
    text = re.sub(r"\\(?:text|mathrm|texttt)\{(.*)\}", r"\1", text)
    text = re.sub(r"\([A-Za-z]\)", " ", text)  # an option's letter
    text = re.sub(r"\\(?:left|right)\b\s?|</\w{1,20}>|\\[dt]?quad|\$\$?|\\(?=[{}])", " ", text)
    text = re.sub(r"[\s,\"'“”‘’`*_]|\band\b", "", text).strip(".。")
    if _ONLY_BRACKETS.fullmatch(text):
        return text
    if _TWO_ROWS.search(text):
        return ""
    begins = re.match(rf"{_BRACKETS}+", text)
    if is_marked and begins:
        return begins[0]
    ends = re.search(rf"(?<!{_BRACKETS}){_BRACKETS}+$", text[-200:])
    return ends[0] if ends else ""
