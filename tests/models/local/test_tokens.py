"""The ids of the tree against the tokenizer on the whole text."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_harness.models.local.tokens import WINDOW, Branch, TokenTree
from icl_harness.prompts.tree import Node
from tests.tiny_models import CORPUS, TOKENIZERS, build_tokenizer

cached_tokenizer = cache(build_tokenizer)

PIECES = [
    *(
        "a",
        "aa",
        "b",
        "é",
        "e\u0301",
        "\u0301",
        "🙂",
        "👩‍👩‍👧",
        "\ufe0f",
        "你好",
        "ﬁ",
        "\u00a0",
        "▁",
        "\u200b",
    ),
    *(
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "\r\n",
        " " * 70,
        "a" * 200,
        "ab" * 90,
        "1",
        "12",
        "345",
        "1" * 130,
        "00",
    ),
    *(
        "the",
        " the",
        "The quick brown",
        "Sentiment: ",
        "positive\n\n",
        "n't",
        "'",
        "'s",
        "...",
        "->",
        " ->",
        "_",
        "-" * 90,
    ),
    *("<|end|>", "<|en", "d|>", "<s>", "<", "/s>", "[EOS]", "[E", "OS]", "<0x0A>", "\x00", "Ａ"),
]
segments = st.one_of(
    st.sampled_from(PIECES),
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.text(max_size=30),
    st.sampled_from(CORPUS).flatmap(
        lambda text: st.integers(0, len(text)).map(lambda cut: text[:cut])
    ),
)


def whole(tokenizer, text: str) -> list[int]:
    return tokenizer(text)["input_ids"]


def ids_of(tree: TokenTree, node: Node, branch: Branch) -> list[int]:
    return tree.ids(node)[: branch.n_shared].tolist() + branch.own


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    path=st.lists(segments, min_size=1, max_size=14),
    queries=st.lists(segments, min_size=1, max_size=4),
)
def test_ids_are_those_of_the_whole_text(kind, path, queries):
    tokenizer = cached_tokenizer(kind)
    tree = TokenTree(tokenizer)
    node = Node(path[0])
    for segment in path[1:]:
        node = node.child(segment)
    for at in node.path:
        expected = whole(tokenizer, at.text)
        assert tree.ids(at).tolist() == expected
        assert tree.count(at) == len(expected)
    for query, branch in zip(queries, tree.branches(node, queries), strict=True):
        expected = whole(tokenizer, node.text + query)
        assert ids_of(tree, node, branch) == expected
        shared = branch.n_shared
        prefix = tree.ids(node).tolist()
        assert (
            shared in (len(prefix), len(expected)) or prefix[shared] != expected[shared]
        )  # the last common token


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_merge_across_the_boundary_ends_the_shared_part_at_the_last_common_token(kind):
    tokenizer = cached_tokenizer(kind)
    tree = TokenTree(tokenizer)
    node = Node(CORPUS[0] * 5 + "Sentiment: posit")
    [branch] = tree.branches(node, ["ive"])
    assert ids_of(tree, node, branch) == whole(tokenizer, node.text + "ive")
    assert tree.count(node) - 8 < branch.n_shared <= tree.count(node)


class CountingTokenizer:
    """A fast tokenizer whose back end counts the characters that it is given."""

    def __init__(self, tokenizer) -> None:
        self.is_fast, self.backend_tokenizer, self.n_chars = True, self, 0
        self._inner = tokenizer

    def __call__(self, text, **options):
        self.n_chars += len(text)
        return self._inner(text, **options)

    def encode(self, text, **options):
        return self.encode_batch([text], **options)[0]

    def encode_batch(self, texts, **options):
        self.n_chars += sum(map(len, texts))
        return self._inner.backend_tokenizer.encode_batch(texts, **options)

    def no_truncation(self) -> None: ...

    no_padding = no_truncation


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_long_path_is_tokenised_in_time_of_its_length(kind):
    tokenizer = CountingTokenizer(cached_tokenizer(kind))
    tree = TokenTree(tokenizer)
    shots = [
        "Review: a slow film 12.\nSentiment: negative\n\n",
        "Review: warm and funny!\nSentiment: positive\n\n",
    ]
    node = Node("Label the reviews.\n\n")
    for i in range(300):
        node = node.child(shots[i % 2])
        tree.count(node)
    tree.branches(node, ["Review: dull.\nSentiment:"] * 50)
    assert tree.ids(node).tolist() == whole(cached_tokenizer(kind), node.text)
    assert tokenizer.n_chars < 350 * (8 * WINDOW + 60)


def test_a_tokenizer_without_offsets_tokenises_the_whole_text():
    tokenizer = cached_tokenizer("sp_bpe")

    class Slow:
        is_fast = False

        def __call__(self, text, **options):
            return tokenizer(text, **options)

    tree = TokenTree(Slow())
    node = Node("Review: a w").child("arm film")
    [branch] = tree.branches(node, ["s and more"])
    assert tree.ids(node).tolist() == whole(tokenizer, node.text)
    assert ids_of(tree, node, branch) == whole(tokenizer, node.text + "s and more")


def test_an_empty_tree_holds_only_the_head():
    assert TokenTree(cached_tokenizer("sp_bpe")).ids(Node("")).tolist() == whole(
        cached_tokenizer("sp_bpe"), ""
    )
    empty = TokenTree(cached_tokenizer("byte_bpe")).ids(Node(""))
    assert empty.dtype == np.int32
    assert empty.size == 0
