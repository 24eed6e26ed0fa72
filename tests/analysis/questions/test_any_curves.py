"""Whatever the curves are, each question has a sentence for them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_harness.analysis.questions.crossing import crossing
from icl_harness.analysis.questions.efficiency import efficiency
from icl_harness.analysis.questions.laws import laws
from icl_harness.analysis.questions.passing import passing
from tests.analysis.questions.made_curves import made

QUESTIONS = (crossing, passing, efficiency, laws)
FREE, ERRORS, SHARE = (-np.inf, np.inf), (0.0, np.inf), (0.0, 1.0)
NAMES = ["m supervised", "n supervised", "baseline/knn supervised"]
values = st.sampled_from([0.0, 0.001, 0.25, 0.5, 0.75, 0.999, 1.0])


@st.composite
def joints(draw):
    n = draw(st.integers(1, 6))
    curves = st.lists(values, min_size=n, max_size=n).map(np.array)
    limits, metric = draw(
        st.sampled_from(
            [(SHARE, "accuracy"), (FREE, "gain"), (ERRORS, "gold_nll"), (ERRORS, "rmse")]
        )
    )
    first = draw(st.sampled_from([0, 1, 3]))
    shots = np.append(first, first + np.cumsum(2.0 ** np.arange(n)))[:n]
    return made(
        {name: draw(curves) for name in NAMES[: draw(st.integers(1, 3))]},
        se=draw(st.sampled_from([1e-4, 0.02, 0.3])),
        together=draw(st.sampled_from([0.0, 0.5, 0.999])),
        df=draw(st.sampled_from([1.0, 2.0, 200.0])),
        covers=draw(st.sampled_from(["queries and draws", "queries", ""])),
        shots=shots, limits=limits, metric=metric,
    )  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(joints())
def test_every_question_is_answered_in_a_sentence_without_a_word_that_is_none(joint):
    for question in QUESTIONS:
        answers = list(question(joint))
        assert answers
        for answer in answers:
            assert answer.sentence.startswith("made")
            assert answer.sentence.endswith((".", "--against."))
            assert not {"nan", "inf", "None"} & set(answer.sentence.replace("[", " ").split())
            for name in ("ci_low", "ci_high"):
                assert name not in answer.table or not answer.table[name].isna().any()


@pytest.mark.parametrize("question", [crossing, passing, efficiency])
def test_the_order_in_which_curves_stand_makes_no_difference_to_limits(question):
    rising, flat = np.linspace(0.2, 0.8, 8), np.full(8, 0.5)
    one = made({"m supervised": rising, "n supervised": flat})
    other = made({"n supervised": flat, "m supervised": rising})
    found = [next(question(joint, against="n")) for joint in (one, other)]
    assert found[0].sentence == found[1].sentence
