"""Numbers in answers: what is read, what is compared, what is not a number."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_harness.errors import DataError
from icl_harness.examples import Example
from icl_harness.tasks.scoring import number_match, parse_number
from icl_harness.tasks.scoring.number_forms import shown

READ = {
    "72": 72, "-5": -5, "+5": 5, "−5": -5, "- 5": -5, "$72": 72, "$-5": -5, "-$5": -5, "€ 3": 3,
    "£1,000": 1000,
    "1,234,567": 1234567, "12,34,567": 1234567, "1\u202f234": 1234, "1234.50": "1234.5",
    "1,234.50": "1234.5",
    ".5": "1/2", "0.25": "1/4", "5.": 5, "72 clips": 72, "72km": 72, "50%": 50, "50 %": 50,
    "3/4": "3/4", "-3/4": "-3/4", "1 1/2": "3/2", r"\frac{3}{4}": "3/4", r"1\frac{1}{2}": "3/2",
    r"-\dfrac{1}{2}": "-1/2",
    "1e3": 1000, "2.5E-1": "1/4", "2 million": 2000000, "1.5 thousand dollars": 1500, "x = 5": 5,
    "2+3=5": 5,
    "**72**": 72, r"\(72\)": 72, r"\$72": 72, "72.": 72, "about 72.": 72, "007": 7, "0": 0, "-0": 0,
    "1 000": 1000, "12 345 678": 12345678, "$1 000.50": "1000.5", "1 000 dollars": 1000, "0 000": 0,
    "1 100/200": "3/2", "64 dollars = 6400 cents": 64,
    "$64 = 6400 cents": 64,
    "2 m = 200 cm": 200, "50% = 0.5": 50, "2 * 32 = 64 dollars = 6400 cents": 64,
    "5 apples + 3 apples = 8 apples": 8,
    "3x = 15": 15, "7 friends = 7 * 10 = 70": 70, "72 = 6 * 12": 72, "72 (6 * 12)": 72,
    "Total for 3 days = 72": 72, "= -30": -30, r"5 \times -6 = -30": -30, "64 = 6400 cents": 6400,
}  # fmt: skip
UNREAD = [
    "", "3,5", "1,23", "5:30", "1.2.3", "12/0", "x2", "$", "-", "1" * 5000,
    "72, 73", "1 00", "1000 000", "10 000 5", "nan", "6 * 12", "48 + 24", "48 - 24", "2 x 36",
]  # fmt: skip


def example(target: str) -> Example:
    return Example(id="q", input="?", target=target)


@pytest.mark.parametrize(("text", "value"), READ.items())
def test_a_number_is_read_in_its_usual_dress(text: str, value: int | str) -> None:
    assert parse_number(text) == Fraction(value)


@pytest.mark.parametrize("text", UNREAD)
def test_what_is_no_number_or_an_unclear_one_is_not_read(text: str) -> None:
    assert parse_number(text) is None


@given(
    st.integers(-(10**15), 10**15),
    st.sampled_from(["", "$", "€", "£"]),
    st.booleans(),
    st.sampled_from(["", ".", " dollars", "%", " apples.", "\nI am sure.", "**", ".00"]),
)
def test_sign_commas_currency_and_what_follows_do_not_change_an_integer(
    n: int, currency: str, commas: bool, after: str
) -> None:
    digits = f"{abs(n):,}" if commas else str(abs(n))
    for sign in ("-", "−") if n < 0 else ("", "+"):
        assert parse_number(f"{sign}{currency}{digits}{after}") == n
        assert number_match(
            f"So it is 3.\nThe final answer is {sign}{currency}{digits}{after}", example(str(n))
        ).value


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9
    )
)
def test_decimals_are_exact(d: Decimal) -> None:
    assert parse_number(f"{d:f}") == Fraction(d)
    assert parse_number(f"{d:,f}") == Fraction(d)


@given(st.fractions())
def test_a_recorded_number_reads_back_as_itself(f: Fraction) -> None:
    assert parse_number(shown(f)) == f
    assert number_match(shown(f), example(shown(f))).value == 1.0


@given(st.integers(-999, 999), st.integers(1, 999))
def test_a_fraction_equals_its_decimal(a: int, b: int) -> None:
    quotient = Fraction(a, b)
    assert parse_number(f"{a}/{b}") == quotient
    if re.fullmatch(r"-?[\d.]+", shown(quotient)):
        assert Fraction(shown(quotient)) == quotient


@given(st.text())
def test_any_text_is_scored_without_an_error(text: str) -> None:
    score = number_match(text, example("7"))
    assert score.value in (0.0, 1.0)
    assert score.parsed is not None or score.value == 0.0
    if score.parsed is not None:
        assert parse_number(score.parsed) is not None


@given(st.text(alphabet="0123456789,.-/$ =eE\u202f", max_size=60))
def test_number_like_text_is_scored_without_an_error(text: str) -> None:
    found = parse_number(text)
    assert found is None or parse_number(shown(found)) == found


@pytest.mark.slow
@pytest.mark.timeout(
    60
)  # they take a second; what grows with the square of the length takes minutes
@pytest.mark.parametrize(
    "text",
    ["1" * 100_000, "1,000" * 20_000, "1 " * 50_000, "100 " * 50_000 + "1", "$" * 100_000,
     "final answer " * 10_000, "final answer\n" * 10_000, "# " * 50_000,
     "\\boxed{" * 10_000, "= 6 * 12 " * 10_000],
)  # fmt: skip
def test_long_text_takes_no_long_time(text: str) -> None:
    number_match(text * 4, example("7"))
    number_match(f"The final answer is {text * 4}", example("7"))


ANSWERS = {
    "The final answer is 72.": ("72", 1.0),
    " 48/2 = 24\n48+24 = 72\nThe final answer is 72.": ("72", 1.0),
    "The final answer is 70. No, wait.\nThe final answer is $72.00.": ("72", 1.0),
    "**Final answer:** 72": ("72", 1.0),
    "The final answer is: **72**": ("72", 1.0),
    "the FINAL ANSWER is 72 clips": ("72", 1.0),
    "Answer: 72": ("72", 1.0),
    "So the answer is 72.": ("72", 1.0),
    "Working.\n#### 72": ("72", 1.0),
    r"Thus \boxed{72}.": ("72", 1.0),
    r"Thus \boxed{\frac{144}{2}}.": ("72", 1.0),
    " 72": ("72", 1.0),
    "72.": ("72", 1.0),
    "$72": ("72", 1.0),
    "The final answer is 71.": ("71", 0.0),
    "The final answer is -72.": ("-72", 0.0),
    "The final answer is 7.2": ("7.2", 0.0),
    r"So \boxed{70}, no: the final answer is 72.": ("72", 1.0),
    "### Final Answer\n\n72": ("72", 1.0),
    "1 000": ("1000", 0.0),
    "The final answer is not 72.": (None, 0.0),
    "The final answer is unknown.": (None, 0.0),
    "The final answer is": (None, 0.0),
    "48/2 = 24 and 48 + 24 = 72": (
        None,
        0.0,
    ),  # an unfinished solution: its last number is no answer
    "seventy-two": ("72", 1.0),
    "": (None, 0.0),
}


@pytest.mark.parametrize(("answer", "scored"), ANSWERS.items())
def test_the_final_answer_is_found_or_the_answer_is_unparsed(
    answer: str, scored: tuple[str | None, float]
) -> None:
    score = number_match(answer, example("72"))
    assert (score.parsed, score.value) == scored


def test_a_target_that_is_no_number_is_the_data_s_fault() -> None:
    with pytest.raises(DataError, match=r"example q: the target 'many' is no number"):
        number_match("5", example("many"))


@pytest.mark.parametrize("digits", [999, 1001, 4299, 4301, 200_000])
def test_a_number_of_thousands_of_digits_is_read_or_not_parsed(digits: int) -> None:
    example = Example(id="a", input="x", target="5")
    score = number_match("The final answer is " + "9" * digits + " trillion", example)
    assert (score.parsed is None) == (digits + len(" trillion") > 1000)
    assert score.value == 0.0
