"""The prompt tree: one text per edge, hashes that extend, templates that say what is wrong."""

import hashlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_harness.errors import TemplateError
from icl_harness.prompts import Node, Prompt, Query, Shot, Template

texts = st.lists(st.text(max_size=20), min_size=1, max_size=8)

GOOD = "{% block preamble %}P{% endblock %}{% block shot %}{{ input }}={{ target }}\n{% endblock %}"
GOOD += "{% block format %}F{% endblock %}{% block query %}{{ input }}={% endblock %}"


def grow(segments: list[str]) -> Node:
    node = Node(segments[0])
    for segment in segments[1:]:
        node = node.child(segment)
    return node


@given(texts)
def test_a_nodes_text_is_its_edges_joined(segments: list[str]) -> None:
    node = grow(segments)
    assert node.text == "".join(segments)
    assert node.n_bytes == len(node.text.encode())
    assert [n.segment for n in node.path] == segments


@given(texts)
def test_a_nodes_hash_is_that_of_its_edges_with_their_lengths(segments: list[str]) -> None:
    data = b"".join(len(s.encode()).to_bytes(8, "big") + s.encode() for s in segments)
    assert grow(segments).hash == hashlib.sha256(data).hexdigest()


@given(texts, texts)
def test_other_edges_give_another_hash(one: list[str], other: list[str]) -> None:
    assert (grow(one).hash == grow(other).hash) == (one == other)


def test_a_node_of_5000_shots_goes_through_pickle_whole_and_goes_on() -> None:
    node = Node("preamble", mode="supervised")
    for i in range(5000):
        text = f"shot {i}: " + "word " * 20
        node = node.child(f"{text}-> x\n", Shot(id=str(i), input=text, target="x"))
    node = node.child("format")
    data = pickle.dumps(node)
    again = pickle.loads(data)
    assert len(data) < 3 * node.n_bytes, "each edge once"
    assert (again.text, again.hash, again.mode, again.shots) == (node.text, node.hash, node.mode, node.shots)
    assert (again.n_bytes, again.n_shots, again.parent.hash) == (node.n_bytes, 5000, node.parent.hash)
    assert again.child("more").hash == node.child("more").hash


def test_a_prompt_is_node_plus_query_and_its_hash_tells_both() -> None:
    node = Node("preamble\n").child("a=1\n", Shot(id="a", input="a", target="1"))
    prompt = Prompt(node, Query(id="q", text="b="))
    assert prompt.text == "preamble\na=1\nb="
    assert prompt.hash == node.child("b=").hash
    assert prompt.hash != Prompt(node, Query(id="q", text="c=")).hash


def test_shots_are_counted_and_kept_in_order() -> None:
    node = Node("p", mode="supervised")
    for i in range(3):
        node = node.child(str(i), Shot(id=f"s{i}", input=str(i), target="t"))
    node = node.child("format")
    assert node.n_shots == 3
    assert [s.id for s in node.shots] == ["s0", "s1", "s2"]
    assert node.mode == "supervised"


def test_a_template_renders_its_blocks_and_keeps_their_newlines() -> None:
    assert Template(GOOD, "good").render("shot", input="a", target="1") == "a=1\n"


def test_an_undefined_variable_is_named_with_template_block_and_what_there_is() -> None:
    with pytest.raises(TemplateError, match=r"template good, block shot: 'target' is undefined. It may use input"):
        Template(GOOD, "good").render("shot", input="a")


def test_a_missing_block_is_named() -> None:
    with pytest.raises(TemplateError, match="lacks the block 'query'; it needs preamble, shot, format, query"):
        Template(GOOD.replace("block query", "block other"), "bad")


def test_a_syntax_error_is_told_with_its_line() -> None:
    with pytest.raises(TemplateError, match="template bad, line 2: "):
        Template("\n{% block %}", "bad")
