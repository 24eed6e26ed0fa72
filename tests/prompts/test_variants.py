"""Variants: what their texts mean, in which form they are written, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import operators
from icl_harness.prompts.variants import check_variant, parse_variant
from icl_harness.tasks.scoring import label_match
from icl_harness.tasks.task import Task

TASK = Task(
    generate=lambda *_: ([Example(id="a", input="x", target="p")], []),
    prompts="classify",
    scorer=label_match,
    labels=("p", "q"),
    label_maps={"flipped": {"p": "q", "q": "p"}},
    name="mine",
)
FREE = Task(generate=lambda *_: ([], []), prompts="solve", scorer=label_match, name="free")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("default", "default"),
        (" sorted ", "sorted"),
        ("noise=.20", "noise=0.2"),
        ("noise=1.0", "noise=1"),
        ("noise=0", "noise=0"),
        ("order=007", "order=7"),
        ("nearest=tfidf", "nearest=TFIDF"),
        ("default+sorted", "sorted"),
        ("noise=0.2+flipped", "flipped+noise=0.2"),
        ("nearest=TFIDF+bank+noise=0.5+flipped", "flipped+noise=0.5+bank+nearest=TFIDF"),
        ("order=3+sorted", "order=3+sorted"),
        ("sorted+order=3", "sorted+order=3"),
        ("sorted+bank", "bank+sorted"),
        ("nearest=bm25", "nearest=BM25"),
        ("farthest=Tfidf+flipped", "flipped+farthest=TFIDF"),
        ("redraw+noise=.5", "noise=0.5+redraw"),
        ("hybrid=080+bank", "bank+hybrid=80"),
        ("drop-nearest=.10", "drop-nearest=0.1"),
        ("drop-farthest=.25+noise=1", "noise=1+drop-farthest=0.25"),
    ],
)
def test_a_variant_has_one_form_in_which_it_is_written(text: str, canonical: str) -> None:
    assert str(parse_variant(text)) == canonical
    assert parse_variant(canonical) == parse_variant(text)


@given(st.lists(st.sampled_from(["flipped", "noise=0.5", "bank", "nearest=TFIDF"]), unique=True))
def test_the_form_does_not_depend_on_the_order_of_operators_that_commute(parts: list[str]) -> None:
    assert parse_variant("+".join(parts) or "default") == parse_variant(
        "+".join(parts[::-1]) or "default"
    )


WRONG = {
    "": "nothing stands on one side of a \\+",
    "sorted+": "nothing stands on one side of a \\+",
    "noise": "noise takes a number from 0 to 1, as in noise=0.2; none is given",
    "noise=": "as in noise=0.2; '' is not one",
    "noise=1.5": "as in noise=0.2; '1.5' is not one",
    "noise=nan": "'nan' is not one",
    "noise=half": "'half' is not one",
    "order=-1": "order takes a whole number of 0 or more, as in order=1; '-1' is not one",
    "order=1.0": "'1.0' is not one",
    "sorted=3": "sorted takes no argument. Write sorted alone",
    "nearest=BM52": "nearest takes one of TFIDF, BM25, as in nearest=TFIDF; 'BM52' is not one",
    "nois=0.2": "there is no operator 'nois'. Nearest: noise.* Known: balanced, bank, ",
    "farthest": "farthest takes one of TFIDF, BM25, as in farthest=TFIDF; none is given",
    "redraw=3": "redraw takes no argument. Write redraw alone",
    "hybrid=0.5": "hybrid takes a whole number of 0 or more, as in hybrid=8; '0.5' is not one",
    "drop-nearest=1": "drop-nearest takes a number from 0 to below 1, as in .*; '1' is not one",
    "drop-farthest=10%": "drop-farthest takes .*; '10%' is not one",
    "drop_nearest=0.1": "there is no operator 'drop_nearest'. Nearest: drop-nearest",
    "redraw+nearest=BM25": "redraw and nearest both select the shots. Name one",
    "hybrid=8+drop-nearest=0.1": "hybrid and drop-nearest both select the shots. Name one",
    "sorted+redraw": "redraw orders the shots itself, so sorted would do nothing",
    "sorted+sorted": "names sorted twice. Name each operator once",
    "noise=0.1+noise=0.2": "names noise twice",
    "flipped+abstract": "'flipped' and 'abstract' are no operators, and of a task's own labels",
    "flipped+sortd": "a variant takes one. Nearest: sorted.",
    "sorted+nearest=TFIDF": "nearest orders the shots itself, so sorted would do nothing",
    "order=1+nearest=TFIDF": "nearest orders the shots itself, so order would do nothing",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_variant_is_one_line_with_the_rule(text: str) -> None:
    with pytest.raises(SpecError, match=WRONG[text]) as caught:
        parse_variant(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"variant {text!r}")


def test_labels_that_a_task_does_not_have_are_named_with_the_nearest() -> None:
    message = "task mine has no variant 'fliped'; it has default, flipped, .*Nearest: flipped"
    with pytest.raises(SpecError, match=message):
        check_variant(parse_variant("fliped+noise=0.2"), TASK, ["supervised"])
    with pytest.raises(SpecError, match=r"has no variant 'ordr'; .* Nearest: order, "):
        check_variant(parse_variant("ordr"), TASK, ["supervised"])


def test_an_operator_of_labels_is_refused_where_a_task_has_none() -> None:
    check_variant(parse_variant("sorted"), TASK, ["supervised"])
    with pytest.raises(SpecError, match="task free has no fixed labels, which sorted needs"):
        check_variant(parse_variant("sorted"), FREE, ["supervised"])


@pytest.mark.parametrize("mode", ["reinforced", "unsupervised"])
def test_noise_is_refused_where_no_gold_labels_are_shown(mode) -> None:
    check_variant(parse_variant("noise=0.2"), TASK, ["supervised"])
    with pytest.raises(SpecError, match=f"noise would do nothing in {mode} mode, .*--modes super"):
        check_variant(parse_variant("noise=0.2"), TASK, ["supervised", mode])


def test_a_task_may_not_call_its_labels_as_an_operator_is_called() -> None:
    task = Task(
        generate=lambda *_: ([], []),
        prompts="x",
        scorer=label_match,
        variants=("noise",),
        name="mine",
    )
    with pytest.raises(SpecError, match=r"labels of its own 'noise'.* Rename them"):
        check_variant(parse_variant("default"), task, ["supervised"])


def test_every_operator_says_in_a_line_what_it_does() -> None:
    for name, operator in operators().items():
        assert operator.doc.endswith("."), name
        assert len(operator.doc) < 90, name
        if name != "ids":  # is written with what identifies its file's contents
            assert str(parse_variant(operator.usage)) == operator.usage
