"""A chat's text against what the tokenizer's own template writes: the same ids, or a refusal in one
line.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_harness.errors import SpecError
from icl_harness.models.api.body import HOLE, turns
from icl_harness.models.local.chat import Chat, open_chat
from icl_harness.models.local.grouping import tail_branches
from icl_harness.models.local.tokens import TokenTree
from icl_harness.prompts.tree import Edge, Node, Query, pieces
from tests.models.local.chats import (
    CHANNELS,
    CUTTING,
    HEADERS,
    REFUSED,
    TEMPLATES,
    WITHOUT_SYSTEM,
    grown,
    ids_of,
    messages_of,
    tokenizer_of,
)
from tests.models.local.test_tokens import segments


@cache
def chat_of(kind: str, template: str) -> Chat:
    chat = open_chat(tokenizer_of(kind, template), one_turn=False)
    assert chat is not None
    return chat


def ids_in(tree: TokenTree, chat: Chat, node: Node, query: str) -> list[int]:
    return ids_with(tree, chat, node, Query(id="", text=query))


def ids_with(tree: TokenTree, chat: Chat, node: Node, query: Query) -> list[int]:
    [branch] = tail_branches(tree, chat.text(node), [chat.behind(node, query)])
    return tree.ids(chat.text(node))[: branch.n_shared].tolist() + branch.own


def queries(*texts: str) -> list[Query]:
    return [Query(id=text, text=text) for text in texts]


blanks = st.sampled_from(["", " ", "\n", "\n\n", " \t\n", "\u00a0"])
words = st.one_of(blanks, segments, st.tuples(blanks, segments, blanks).map("".join))
some_shots = st.lists(st.tuples(words, st.one_of(st.none(), words)), max_size=5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama3", "sp_bpe"])
@pytest.mark.parametrize("template", TEMPLATES)
@settings(max_examples=120, deadline=None, derandomize=True)
@given(preamble=words, shots=some_shots, query=words)
def test_ids_are_those_of_the_whole_chat_in_the_template(kind, template, preamble, shots, query):
    tokenizer, chat = (made(kind, TEMPLATES[template]) for made in (tokenizer_of, chat_of))
    tree, query = TokenTree(tokenizer, spelt_out=True), f"Q{query}"
    nodes = grown(preamble if template != "channels" else f"S{preamble}", shots)
    for node in nodes:
        chat.check(node, queries(query))
        assert ids_in(tree, chat, node, query) == ids_of(tokenizer, messages_of(node, query))
    for node, longer in pairwise(nodes):  # what stood before shots are added stands there still
        assert chat.text(longer).text.startswith(chat.text(node).text)
        assert chat.text(node) in chat.text(longer).path


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(preamble=words, shots=some_shots, query=words)
def test_own_edges_are_read_as_turns_of_the_same_chat(template, preamble, shots, query):
    """Wherever the shared node ends, the ids are those of the whole chat."""
    tokenizer, chat = (made("llama3", TEMPLATES[template]) for made in (tokenizer_of, chat_of))
    tree, query = TokenTree(tokenizer, spelt_out=True), f"Q{query}"
    nodes = grown(preamble if template != "channels" else f"S{preamble}", shots)
    wanted = ids_of(tokenizer, messages_of(nodes[-1], query))
    for shared in nodes:
        below = nodes[-1].path[len(shared.path) :]
        own = tuple(Edge(text=node.segment, role=node.role) for node in below)
        one = Query(id="q", text=query, own=own)
        chat.check(shared, [one])
        assert ids_with(tree, chat, shared, one) == wanted


def test_own_edges_that_a_template_cuts_are_refused() -> None:
    chat = chat_of("llama3", CUTTING)
    asked = Node("Label.").child("How was it?", role="user")
    own = (Edge(text="x</think>good", role="assistant"),)
    with pytest.raises(SpecError, match="changes the words of the prompt"):
        chat.check(asked, [Query(id="q", text="Q", own=own)])


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(preamble=words, shots=some_shots, query=words)
def test_an_api_is_sent_the_same_messages(preamble, shots, query):
    node = grown(preamble, shots)[-1]
    sent = [(role, "".join(text for _, text in texts)) for role, texts in turns(pieces(node))]
    assert sent[-1][1].endswith(HOLE)
    sent[-1] = (sent[-1][0], sent[-1][1].removesuffix(HOLE) + query)
    assert [(m["role"], m["content"]) for m in messages_of(node, query)] == sent


@pytest.mark.parametrize("why", REFUSED)
def test_a_template_whose_turns_do_not_stay_takes_no_chat(why):
    assert open_chat(tokenizer_of("llama3", REFUSED[why]), one_turn=False) is None


@pytest.mark.parametrize("template", WITHOUT_SYSTEM.values(), ids=WITHOUT_SYSTEM)
def test_without_a_role_for_the_system_its_words_begin_the_first_turn(template):
    tokenizer = tokenizer_of("llama3", template)
    chat = open_chat(tokenizer, one_turn=False)
    assert chat is not None
    node = grown("Label films.\n\n", [("a film", "good"), ("another", "bad")])[-1]
    chat.check(node, queries("Q", "R"))
    messages = messages_of(node, "Q")
    first = {"role": "user", "content": "Label films.\n\n" + messages[1]["content"]}
    wanted = tokenizer.apply_chat_template(
        [first, *messages[2:]], tokenize=False, add_generation_prompt=True
    )
    tail = chat.behind(node, Query(id="q", text="Q"))
    assert chat.text(node).text + tail.own + tail.text == wanted


def test_words_that_a_template_cuts_are_refused_and_never_read_otherwise():
    chat = chat_of("llama3", CUTTING)
    node = Node("Label.", role="system").child("a film", role="user")
    chat.check(node.child("it was good", role="assistant"), queries("Q", "R"))
    thought = node.child("<think>good?</think> good", role="assistant")
    for place, texts in ((thought, ["Q"]), (node, ["Q", "a</think>b"])):
        with pytest.raises(
            SpecError, match=r"changes the words of the prompt .* Use --format text\.$"
        ):
            chat.check(place, queries(*texts))


def test_words_that_a_template_refuses_are_refused_in_its_own_words():
    picky = HEADERS.replace(
        "bos_token }}",
        'bos_token }}{% if "X" in messages[-1].content %}{{ raise_exception("no X") }}{% endif %}',
    )
    chat, node = chat_of("llama3", picky), Node("Label.", role="system")
    chat.check(node, queries("Q"))
    with pytest.raises(
        SpecError, match=r"^the chat template refuses this prompt: no X\. Use --format text\.$"
    ):
        chat.check(node, queries("Q", "QX"))


def test_an_answer_that_is_cut_is_found_behind_a_question_that_was_checked():
    chat = chat_of("llama3", CUTTING)
    asked = Node("Label.", role="system").child("another film", role="user")
    chat.check(asked, queries("Q"))
    with pytest.raises(SpecError, match="changes the words of the prompt"):
        chat.check(asked.child("</think>good", role="assistant"), queries("Q"))


@pytest.mark.parametrize("at", [0, 7, 8, 30, 59])
@pytest.mark.parametrize("k", [0, 1, 8, 40])
def test_a_word_that_is_cut_is_found_wherever_it_stands_and_whatever_was_checked_before(at, k):
    chat = open_chat(tokenizer_of("llama3", CUTTING), one_turn=False)
    plain = grown("Label.", [(f"film {i}", "good") for i in range(60)])
    chat.check(plain[k], queries("Q"))
    thought = grown(
        "Label.", [(f"film {i}", "</think>good" if i == at else "good") for i in range(60)]
    )
    chat.check(thought[at], queries("Q"))
    with pytest.raises(SpecError, match="changes the words of the prompt"):
        chat.check(thought[-1], queries("Q"))
    chat.check(plain[-1], queries("Q"))


def test_a_chat_that_grows_is_checked_in_time_of_its_length():
    tokenizer = tokenizer_of("llama3", HEADERS)

    class Counting:
        n_turns = most = 0

        def get_chat_template(self):
            return tokenizer.chat_template

        def apply_chat_template(self, messages, **how):
            self.n_turns += len(messages)
            self.most = max(self.most, len(messages))
            return tokenizer.apply_chat_template(messages, **how)

    counting = Counting()
    chat = open_chat(counting, one_turn=False)
    shots = [
        (f"film {i}", None if i == 100 else "good") for i in range(256)
    ]  # at 100 turns fall out of step with edges
    before, nodes = counting.n_turns, grown("Label.", shots)
    for k in (0, 1, 4, 16, 64, 256):
        chat.check(nodes[k], queries(*(f"Q{i}" for i in range(20))))
    assert 2 * 256 < counting.n_turns - before < 3 * 256
    chat.check(nodes[-1], queries(*(f"Q{i}" for i in range(20))))
    chat.check(nodes[100], queries("Q3"))
    assert counting.n_turns - before < 3 * 256
    assert counting.most < 24  # some templates take the square of it


def test_a_chat_that_begins_where_no_template_lets_it_is_refused():
    with pytest.raises(
        SpecError, match=r"no place for a turn of the user's at the beginning.* Use --format text"
    ):
        chat_of("llama3", CHANNELS).behind(Node(" \n", role="system"), Query(id="", text="Q"))


def test_a_template_that_asks_for_the_date_is_told_the_same_one_always():
    dated = (
        '  {% if true %}\n{{ strftime_now("%d %b %Y") }}|{{ strftime_now("%Y-%m-%d") }}'
        "{% endif %}\n" + HEADERS
    )
    node = Node("Label.", role="system")
    chat = chat_of("llama3", dated)
    chat.check(node, queries("Q"))
    text = chat.text(node).text
    assert text == "26 Jul 2024|2024-07-26<|begin|><|header|>system<|header|>\n\nLabel."
