r"""The text of a number in plain dress: one sign, one way to group digits, no LaTeX, no words.

In: a text that may hold numbers. Out: the same numbers as digits, so that one pattern reads them:
"minus seventy-two" is "-72", `\frac12` is "1/2", "2½" is "2 1/2", "1'000" is "1,000". Bold marks
stay, as they tell which of several numbers is the result.
"""

from __future__ import annotations

import re
import unicodedata
from math import gcd

from icl_harness.tasks.scoring.number_words import words_to_digits

NOT_RATIONAL = "∞"  # stands for what is no fraction of whole numbers: roots, pi, functions
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT = re.compile("(?<=[0-9)])[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_VULGAR = re.compile("(\\d?)\\s?([¼½¾⅐-⅞])")
_HYPHENS = dict.fromkeys(map(ord, "\u2010\u2011\u2212\ufe63\uff0d\u207b\u02d7"), "-")
_BREAKABLE = "\u2012\u2013\u2014\u2015\ufe58"  # dashes: signs, or between words or numbers
_DASH_SIGN = re.compile(
    r"(^|\b(?:is|are|be|was|equals|of|to|at|gives|than|or|and|about)"
    rf"|(?<=[A-Za-z])(?=\s[{_BREAKABLE}]\S)|[^\w\s)\]}}%°])(\s*)[{_BREAKABLE}]\s?"
    r"(?=[$€£¥₹]?\s?\.?\d)",
    re.IGNORECASE,
)
_MINUS_WORD = re.compile(
    r"(?:\bnegative|(?:^|(?<=[=:(*$])|(?<=\b(?:is|or|be|of|to)\s)|(?<=\b(?:are|and|was)\s)"
    r"|(?<=\babout\s)|(?<=\bexactly\s)|(?<=\bapproximately\s))"
    r"(?P<dress>\W{0,3})\bminus)\s+(?=[$€£¥₹]?\s?\.?\d)",
    re.IGNORECASE,
)
_GROUPED = re.compile(
    "(?<=\\d)(?:[\u00a0\u202f\u2009\u2007'’_٬]|\\{,\\}|,?\\\\[,;:! ])(?=\\d{3}(?!\\d))"
)
_FRACTION = re.compile(
    r"(\d?)\s*\\[dtc]?frac\s*(?:\{\s*([-+]?[\d.,]+)\s*\}|(\d))\s*(?:\{\s*([-+]?\d+)\s*\}|(\d))"
)
_FONT = re.compile(
    r"\\(?:text|math)[a-z]{0,10}(?![a-z])|\\(?:mbox|hbox|left|right|bf|quad|qquad)\b"
)
_CURRENCY = "(?:Rs|INR|USD|EUR|GBP|CAD|AUD|NZD|SGD|HKD|JPY|CNY|RMB|CHF|SEK|NOK|DKK|KRW|ZAR|BRL|MXN)"
_SYMBOLS = {
    r"\\(?:times|cdot|ast)\b": "*",
    r"\\div\b": "÷",
    r"\\(?:approx|simeq|sim|cong)\b": "≈",
    r"\\(?:geq?|geqslant|gt)\b": ">=",
    r"\\(?:leq?|leqslant|lt)\b": "<=",
    r"\\neq?\b": "≠",
    r"\\(?:rightarrow|implies|Rightarrow|to)\b|=>|->|⇒|→|⟹": "=",
    r"\^\s*\{?\s*(?:\\circ|∘)\s*\}?": "°",
    r"\\(?:ne|d|t|c)?(?:frac|sqrt|pi|infty|log|ln|sin|cos|tan|binom|overline|sum|int|pm)\b|[√π±]":
        NOT_RATIONAL,
    r"\\\\|\\[()\[\]!,;: ]|~(?=\d)": " ",
    r"\\([$%#&_{}])": r"\1",
    r"\^\s*\{\s*([-+]?\d+)\s*\}": r"^\1",
    r"(?<=\d)\*\*(?=\d)": "^",
    r"[{}`]|__": " ",
    r"\b(?:US|AU|CA|HK|NZ|[ACRS])(?=\$)": "",
    rf"(?<!\w){_CURRENCY}\.?\s?(?=-?\d)": "$",
    r"\$+": "$",
    r"-\s?\(\s?(?=[\d.,]+\s?\))": "(-",
}  # fmt: skip
_REPLACED = [(re.compile(pattern), by) for pattern, by in _SYMBOLS.items()]
_EAST_ASIAN = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_DRESSED_SIGN = re.compile(r"(?:\\(?:text|math)[a-z]{0,10}\s?)?\{\s?([-\u2010-\u2015\u2212])\s?\}")
_STRUCK = re.compile(
    r"~~[^~\n]{0,200}~~|<(s|del|strike)>[^<\n]{0,200}</\1>|\\cancel\{[^{}]{0,200}\}"
)
_TAG = re.compile(r"</?(?:b|i|u|em|strong|code|p|br|span|div|sup|sub|mark)\s?/?>", re.IGNORECASE)
# 1.234,50 and 1.234.567 and 1 000,50; one comma alone is not read: 3,5 may be two numbers
_EUROPEAN = re.compile(
    r"(?<![\d.,])(?:(\d{1,3}(?:\.\d{3})+),(\d{1,2})|(\d{1,3}(?:\.\d{3}){2,})|(\d{1,3}(?:\ \d{3})+)"
    r",(\d{1,2}))(?![\d]|[.,]\d)"
)
_MONEY_COMMA = re.compile(
    r"(?<![\d.,])(\d+),(\d\d)(?=\s?(?:[€£$]|euros?\b|EUR\b))|(?<=[€£])(\s?\d+),(\d\d)(?![\d,])"
)
# "18 / 20", "a score of 18/20": a score, or a calculation not worked out, while 3 / 4 is
# a number.
_QUOTIENT = re.compile(
    r"(?P<score>\b(?:scored?|grade|rating|marks?)\b[^.\d\n]{0,20})?"
    r"(?<![\d.,/])(?P<above>\d{1,9})(?P<over>\s?/\s?)(?P<below>\d{1,9})(?![\d/]|[.,]\d)",
    re.IGNORECASE,
)


def plain_numbers(text: str) -> str:
    """Return the text with its numbers in plain digits."""
    text = _STRUCK.sub(" ", _TAG.sub(" ", text))
    text = _DRESSED_SIGN.sub(r"\1", text)
    text = text if text.isascii() else _plain_characters(text)
    text = _GROUPED.sub(",", text)
    if "\\" in text:
        text = _FONT.sub(" ", text)
        text = _FRACTION.sub(_as_fraction, text)
    for pattern, by in _REPLACED:
        text = pattern.sub(by, text)
    text = _QUOTIENT.sub(_as_quotient, text)
    text = _EUROPEAN.sub(_as_decimal, text)
    text = _MONEY_COMMA.sub(lambda m: f"{m[1] or m[3]}.{m[2] or m[4]}", text)
    text = words_to_digits(re.sub(r"\s+", " ", text))  # long runs of spaces would be slow below
    return _MINUS_WORD.sub(lambda m: f"{m['dress'] or ''} -", text)


def _plain_characters(text: str) -> str:
    for scale, exponent in (("万|萬", "e4"), ("亿|億", "e8")):
        text = re.sub(rf"(?<=\d)\s?(?:{scale})(?!\d)", exponent, text)
    text = re.sub(rf"(?<=[{_EAST_ASIAN}])(?=[-$€¥£]?\d)|(?<=\d)(?=[{_EAST_ASIAN}])", " ", text)
    text = _VULGAR.sub(_as_vulgar, text)
    text = _SUPERSCRIPT.sub(lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text)
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹]", "", text).translate(_HYPHENS)  # cm², footnotes
    text = _GROUPED.sub(",", text)  # before no-break spaces become plain ones
    text = unicodedata.normalize("NFKC", text).replace("\u2044", "/")
    text = re.sub("[\u200b\u200c\u200d\u2060\ufeff\u00ad]", "", text)
    text = re.sub(rf"(?<=\d)[{_BREAKABLE}](?=\d)", "–", text)
    return re.sub(f"[{_BREAKABLE}]", "–", _DASH_SIGN.sub(r"\1 -", text))


def _as_vulgar(match: re.Match[str]) -> str:
    fraction = unicodedata.normalize("NFKC", match[2]).replace("\u2044", "/")
    return f"{match[1]} {fraction}"


def _as_fraction(match: re.Match[str]) -> str:
    above, below = match[2] or match[3], match[4] or match[5]
    is_negative = above.startswith("-") != below.startswith("-")
    sign = "-" if is_negative else ""
    return f"{match[1]} {sign}{above.lstrip('+-')}/{below.lstrip('+-')} "


def _as_quotient(match: re.Match[str]) -> str:
    """Return a quotient as a calculation where it is no fraction."""
    above, below = int(match["above"]), int(match["below"])
    is_spaced = match["over"] == " / "
    if not match["score"] and not (is_spaced and gcd(above, below) > 1):
        return match[0]
    return f"{match['score'] or ''}{above} ÷ {below}"


def _as_decimal(match: re.Match[str]) -> str:
    whole = match[1] or match[3] or match[4]
    decimals = match[2] or match[5]
    return re.sub(r"[. ]", "", whole) + (f".{decimals}" if decimals else "")
