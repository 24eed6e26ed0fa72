"""The prompt tree: one text per edge, hashes that extend, templates that say what is wrong."""

import hashlib
import pickle
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_harness.errors import TemplateError
from icl_harness.prompts.template import Template
from icl_harness.prompts.tree import Node, Piece, Prompt, Query, Shot, pieces

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
    assert (again.text, again.hash, again.mode, again.shots) == (
        node.text,
        node.hash,
        node.mode,
        node.shots,
    )
    assert (again.n_bytes, again.n_shots, again.parent.hash) == (
        node.n_bytes,
        5000,
        node.parent.hash,
    )
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


def chat(*turns: tuple[str, str]) -> Node:
    (role, text), *rest = turns
    node = Node(text, role=role)
    for role, text in rest:
        node = node.child(text, role=role)
    return node


def test_a_chat_is_another_prompt_than_its_text_and_each_role_counts() -> None:
    hashes = {
        chat(("", "a"), ("", "b")).hash,
        *(chat(("system", "a"), (r, "b")).hash for r in ("user", "assistant")),
    }
    assert len(hashes) == 3


def test_a_chats_text_has_each_turn_under_its_role_and_the_query_is_the_users() -> None:
    node = chat(("system", "Be brief."), ("user", "a="), ("assistant", "1"))
    assert node.text == "[system]\nBe brief.\n\n[user]\na=\n\n[assistant]\n1"
    assert Prompt(node, Query(id="q", text="b=")).text == node.text + "\n\n[user]\nb="
    inputs = chat(("system", "Be brief."), ("user", "a\n"))
    assert Prompt(inputs, Query(id="q", text="b=")).text == "[system]\nBe brief.\n\n[user]\na\nb="


def test_a_chat_goes_through_pickle_with_its_roles_and_cuts() -> None:
    node = (
        Node("p", role="system", cut=True)
        .child("q", role="user")
        .child("a", role="assistant", cut=True)
    )
    again = pickle.loads(pickle.dumps(node))
    assert again.hash == node.hash
    assert [(n.role, n.cut) for n in again.path] == [
        ("system", True),
        ("user", False),
        ("assistant", True),
    ]


edges = st.lists(
    st.tuples(
        st.sampled_from(["user", "assistant"]), st.text(alphabet="ab \n", max_size=12),
        st.booleans()
    ),
    max_size=10,
)  # fmt: skip


def path_of(found: list[tuple[str, str, bool]]) -> Node:
    node = Node("", role="system")
    for role, text, cut in found:
        node = node.child(text, role=role, cut=cut)
    return node


@given(edges, st.integers(1, 15))
def test_pieces_are_the_turns_of_a_prefix_without_those_that_are_blank(found, most) -> None:
    told = [(role, text) for role, text, _ in found if text]
    turns = [
        (role, "".join(text for _, text in parts))
        for role, parts in groupby(told, key=lambda edge: edge[0])
    ]
    # A turn that is left out may leave two of a role side by side.
    whole = [turn for turn in turns if turn[1].strip()]
    made = pieces(path_of(found), most)
    assert "".join(piece.text for piece in made) == "".join(text for _, text in whole)
    roles = [role for role, _ in groupby(piece.role for piece in made)]
    assert roles == [role for role, _ in groupby(role for role, _ in whole)]


@given(edges, st.integers(1, 15))
def test_no_piece_is_blank_or_longer_than_allowed_but_for_white_space_around_it(
    found, most
) -> None:
    for piece in pieces(path_of(found), most):
        assert 0 < len(piece.text.strip()) <= most


@given(edges, st.integers(1, 15))
def test_a_prefix_up_to_a_cut_is_the_first_pieces_of_every_longer_one(found, most) -> None:
    whole = pieces(path_of(found), most)
    for i, (_, text, cut) in enumerate(found, 1):
        if cut and text.strip() and all(later.strip() for _, later, _ in found[i:]):
            before = pieces(path_of(found[:i]), most)
            assert before == whole[: len(before)]
            assert before[-1].cut


@given(st.lists(st.text(alphabet="ab", min_size=1, max_size=9), max_size=12))
def test_a_piece_ends_where_an_edge_ends_while_no_edge_is_too_long(segments) -> None:
    node = grow(["p", *segments])
    ends = {sum(map(len, ["p", *segments][:i])) for i in range(len(segments) + 2)}
    at = 0
    made = pieces(node, 9)
    for piece in made:
        at += len(piece.text)
        assert at in ends
    assert all(len(a.text) + len(b.text) > 9 for a, b in pairwise(made)), (
        "no more pieces than are needed"
    )


def test_pieces_are_split_at_cuts_at_turns_and_inside_an_edge_that_is_too_long() -> None:
    text = (
        Node("pre")
        .child("one", cut=True)
        .child("two")
        .child("three", cut=True)
        .child("twenty letters of it")
    )
    assert pieces(text, 9) == [
        Piece("user", "preone", True),
        Piece("user", "twothree", True),
        Piece("user", "twenty le", False),
        Piece("user", "tters of ", False),
        Piece("user", "it", False),
    ]
    turns = (
        Node("s", role="system", cut=True)
        .child("a", role="user")
        .child("b", role="assistant", cut=True)
    )
    assert pieces(turns) == [
        Piece("system", "s", True),
        Piece("user", "a", False),
        Piece("assistant", "b", True),
    ]


def test_white_space_goes_to_the_next_piece_of_its_turn_or_else_to_the_last() -> None:
    node = Node("p", cut=True).child("\n", cut=True).child("x")
    assert pieces(node) == [Piece("user", "p", True), Piece("user", "\nx", False)]
    assert pieces(Node("p", cut=True).child("\n")) == [Piece("user", "p\n", True)]
    assert pieces(Node(" ", role="system").child("a", role="user")) == [Piece("user", "a", False)]
    assert pieces(Node("")) == []


def test_a_template_renders_its_blocks_and_keeps_their_newlines() -> None:
    assert Template(GOOD, "good").render("shot", input="a", target="1") == "a=1\n"


def test_an_undefined_variable_is_named_with_template_block_and_what_there_is() -> None:
    with pytest.raises(
        TemplateError, match=r"template good, block shot: 'target' is undefined. It may use input"
    ):
        Template(GOOD, "good").render("shot", input="a")


def test_a_missing_block_is_named() -> None:
    with pytest.raises(
        TemplateError, match="lacks the block 'query'; it needs preamble, shot, format, query"
    ):
        Template(GOOD.replace("block query", "block other"), "bad")


def test_a_syntax_error_is_told_with_its_line() -> None:
    with pytest.raises(TemplateError, match="template bad, line 2: "):
        Template("\n{% block %}", "bad")
