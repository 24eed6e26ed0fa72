"""Prompt paths in both formats: one tree, whose turns and cuts are where a provider needs them."""

import pytest

from icl_harness.errors import TemplateError
from icl_harness.examples import Example
from icl_harness.prompts.modes import PromptPath, gold_shots
from icl_harness.prompts.template import Template
from icl_harness.prompts.tree import Prompt, pieces

TEMPLATE = """\
{% block preamble %}Even or odd?
{% endblock %}
{% block shot %}{{ input }} ->{% if target is not none %} {{ target }}{% endif %}
{% endblock %}
{% block format %}Answer {{ labels | join(" or ") }}.
{% for e in examples %}{{ e.input }} -> {{ e.target }}
{% endfor %}{% endblock %}
{% block query %}{{ input }} ->{% endblock %}
"""
LABELS = ("even", "odd")
EXAMPLES = [
    Example(id=str(i), input=f"n {i}", target=LABELS[i % 2], choices=LABELS) for i in range(9)
]


def path(mode="supervised", *, source=TEMPLATE, **options) -> PromptPath:
    template = Template(source, "toy.jinja")
    return PromptPath(template, mode, gold_shots(EXAMPLES[:6], mode), {"labels": LABELS}, **options)


def edges(node):
    return [(edge.role, edge.segment) for edge in node.path]


def test_a_labelled_shot_is_a_turn_of_the_users_and_one_of_the_assistants() -> None:
    node = path(format="chat").node(2)
    assert edges(node) == [
        ("system", "Even or odd?\n"),
        ("user", "n 0 ->"),
        ("assistant", "even"),
        ("user", "n 1 ->"),
        ("assistant", "odd"),
    ]
    assert [shot.id for shot in node.shots] == ["0", "1"]
    assert node.n_shots == 2


def test_unlabelled_shots_their_format_block_and_the_query_are_one_turn_of_the_users() -> None:
    prompts = path("unsupervised", format="chat", worked=EXAMPLES[7:8])
    prompt = Prompt(prompts.node(2), prompts.query(EXAMPLES[8]))
    assert prompt.text == (
        "[system]\nEven or odd?\n\n\n"
        "[user]\nn 0 ->\nn 1 ->\nAnswer even or odd.\nn 7 -> odd\nn 8 ->"
    )
    assert [piece.role for piece in pieces(prompt.node)] == ["system", "user"]


def test_a_smaller_count_is_a_part_of_the_same_path_in_either_format() -> None:
    for form in ("text", "chat"):
        prompts = path(format=form)
        assert prompts.node(5).path[: len(prompts.node(3).path)] == prompts.node(3).path


def test_a_chat_is_another_prompt_than_the_text_of_the_same_shots() -> None:
    assert path(format="chat").node(2).hash != path().node(2).hash
    assert path(format="chat").query(EXAMPLES[8]).text == path().query(EXAMPLES[8]).text


def test_a_choice_continues_a_text_with_its_space_and_begins_a_turn_without() -> None:
    assert path().query(EXAMPLES[8], weighed=True).continuations == (" even", " odd")
    chat = path(format="chat").query(EXAMPLES[8], weighed=True)
    assert chat.continuations == ("even", "odd")


def test_choices_are_rendered_only_where_they_are_weighed() -> None:
    assert path().query(EXAMPLES[8]).continuations == ()


def test_a_template_whose_shot_does_not_begin_as_its_query_cannot_be_a_chat() -> None:
    other = TEMPLATE.replace(
        "{% block query %}{{ input }} ->", "{% block query %}And {{ input }} ->"
    )
    assert path(source=other).node(1).text == "Even or odd?\nn 0 -> even\n"
    with pytest.raises(
        TemplateError, match=r"template toy\.jinja: its shot block .* or use --format text"
    ):
        path(source=other, format="chat").node(1)


@pytest.mark.parametrize("form", ["text", "chat"])
def test_cuts_stand_where_the_shot_counts_of_the_grid_end(form) -> None:
    node = path(format=form, cuts=(0, 2, 5)).node(5)
    assert [(edge.n_shots, edge.shot is not None) for edge in node.path if edge.cut] == [
        (0, False),
        (2, True),
        (5, True),
    ]
    assert [piece.cut for piece in pieces(path(cuts=(0, 2, 5)).node(5))] == [True, True, True]


def test_before_and_behind_the_format_block_are_cuts() -> None:
    prompts = path("unsupervised", cuts=(0, 2, 5))
    texts = [(piece.text, piece.cut) for piece in pieces(prompts.node(2))]
    assert texts == [
        ("Even or odd?\n", True),
        ("n 0 ->\nn 1 ->\n", True),
        ("Answer even or odd.\n", True),
    ]
    assert not prompts.node(3).cut


def test_a_count_beyond_the_shots_there_are_cuts_behind_the_last() -> None:
    prompts = path(cuts=(2, 400))
    assert prompts.node(6).cut
