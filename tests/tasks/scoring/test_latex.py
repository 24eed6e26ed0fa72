"""Mathematical answers: equal where math-verify says so, in whatever form they are written."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from icl_harness import latex_match
from icl_harness.examples import Example

MATH500 = Path(__file__).parents[3].parent / "shared" / "data" / "math500" / "test.jsonl"
SAME = [
    (r"\frac{1}{2}", ".5"), (r"\frac{1}{2}", r"\boxed{\dfrac12}"), (r"\frac{1}{2}", r"\frac{2}{4}"),
    ("0.5", r"The final answer is $\frac{1}{2}$."), (r"\{1,2\}", r"\boxed{\{2,1\}}"),
    ("x^2+1", r"$1+x^2$"), ("[1,2)", r"\boxed{[1,2)}"), (r"2\sqrt{3}", r"\boxed{\sqrt{12}}"),
    ("Evelyn", r"\boxed{\text{Evelyn}}"), ("10080", r"\boxed{10,080}"), ("5", r"\boxed{x=5}"),
    ("90", r"\boxed{90^\circ}"), ("50", r"\boxed{50\%}"), ("3", "#### 3"), ("C", "(C)"),
    (r"\left(3, \frac{\pi}{2}\right)", r"So the answer is $(3, \pi/2)$."),
    ("5", r"\boxed{\boxed{5}}"),
    ("5", "\\boxed{5}.\n\nProblem: 2 + 2\nSolution: \\boxed{4}"),
    ("5", "<think>4</think>\\boxed{5"),
    ("x+y+z=0", r"\boxed{z + y + x = 0}"), ("x+y=7", r"\boxed{y=7-x}"), ("f(x)=2x", "2x"),
    ("y=2x+3", "2x+3"), ("2x+3", "y=2x+3"), ("x_1=5", "5"), ("7", "x+y=7"),
    ("7", r"\boxed{7}. Our answer is correct."), ("7", "The final answer is:\n\\[\n7\n\\]"),
]  # fmt: skip
OTHER = [
    ("(1,2)", r"\boxed{(2,1)}"), ("[1,2)", r"\boxed{(1,2)}"), (r"\pi", r"\boxed{3.14}"),
    (r"\frac{1}{3}", r"\boxed{0.333}"), ("5", r"\boxed{-5}"), ("5", r"\boxed{5}, no: \boxed{6}"),
    (r"\{1,2\}", r"\boxed{\{1\}}"), (r"2\sqrt{3}", r"\boxed{2\sqrt{2}}"),
    ("x+y+z=0", "0"), ("x+y=7", r"\boxed{7}"), (r"a - b = \frac12", "The answer is 0.5."),
    ("x+y=7", "x+y=8"), ("5x-7y+4=0", "0"), ("xy=12", "12"),
]  # fmt: skip
NONE = ["", "<think>3", r"\boxed{3} or \boxed{4}", r"\boxed{3 \text{ or } 4}", r"\boxed{}", "x\ny",
        "The final answer is $3$ or $4$.", "I don't think the answer is 3."]  # fmt: skip


def example(target: str) -> Example:
    return Example(id="q", input="?", target=target)


@pytest.mark.parametrize(("target", "answer"), SAME)
def test_an_equal_expression_is_right(target: str, answer: str) -> None:
    assert latex_match(answer, example(target)).value == 1.0


@pytest.mark.parametrize(("target", "answer"), OTHER)
def test_another_expression_is_wrong(target: str, answer: str) -> None:
    score = latex_match(answer, example(target))
    assert score.parsed is not None
    assert score.value == 0.0


@pytest.mark.parametrize("answer", NONE)
def test_no_expression_or_two_are_unparsed(answer: str) -> None:
    assert latex_match(answer, example("3")).parsed is None


def test_expressions_are_compared_off_the_main_thread_too() -> None:
    values = []
    thread = threading.Thread(
        target=lambda: values.append(latex_match(r"\boxed{\frac{77}{154}}", example("0.5")).value)
    )
    thread.start()
    thread.join()
    assert values == [1.0]


@pytest.mark.slow
def test_the_published_solutions_of_math_500_are_right() -> None:
    if not MATH500.exists():
        pytest.skip(f"MATH-500 is absent: {MATH500} does not exist")
    rows = [json.loads(line) for line in MATH500.read_text("utf-8").splitlines()]
    wrong = []
    for row in rows:
        for answer in (row["solution"], f"The final answer is ${row['answer']}$."):
            if latex_match(answer, example(row["answer"])).value != 1.0:
                wrong.append((row["answer"], answer[-60:]))
    assert not wrong
