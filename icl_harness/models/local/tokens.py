"""Token ids of the prompt tree, computed once per edge.

In: nodes and query texts. Out: ids; those of prefix and query together are what the tokenizer gives
for their text. A text appended at a boundary may change the tokens before it (merges, whitespace,
combining characters). So a window of the last tokens is tokenised again with what follows, and
spliced where it agrees with what stood there before, over several tokens in a row. A window begins
where the tokenizer's own splitter begins a word: a rule such as "digits by threes" would be out of
step elsewhere. Where the two never agree, or where the tokenizer has no offsets, the whole text is
tokenised. Left out: tokens that a tokenizer appends at the end of a text (as BERT's [SEP]): a
prompt goes on.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_harness.prompts.tree import Node

WINDOW = 48  # the least tokens before a boundary that are tokenised again with what follows it
MOST_EDGES = 1 << 16
FEW = 256  # fewer texts than this are not worth waking the tokenizer's threads for
AGREE = 8  # tokens in a row that must be the same, ids and places, before a splice is trusted

Ids = NDArray[np.int32]
Token = tuple[
    int, int, int, bool
]  # id, first and last+1 character in the whole text, whether a window may begin here


@dataclass(frozen=True, slots=True)
class Branch:
    """A text that follows a node: the node's first `n_shared` ids, then `own`."""

    n_shared: int
    own: list[int]

    def __len__(self) -> int:
        return self.n_shared + len(self.own)

    def opened(self, ids: Ids) -> Branch:
        """Return the branch with at least one id of its own: the last of the node's `ids` that it
        keeps, if need be.
        """
        return (
            self
            if self.own or not self.n_shared
            else Branch(self.n_shared - 1, [int(ids[self.n_shared - 1])])
        )


@dataclass(frozen=True, slots=True)
class Twig:
    """Tokens that follow the first `n_shared` of a path: each of `own` comes after its parent,
    another of `own`.

    A parent of -1 is the path. Query and choices make a tree; a query alone is a chain.
    """

    n_shared: int
    own: Sequence[int]
    parents: tuple[int, ...]

    @classmethod
    def chain(cls, branch: Branch) -> Twig:
        """Return a branch as a twig without forks."""
        return cls(branch.n_shared, branch.own, tuple(range(-1, len(branch.own) - 1)))

    def line(self, token: int) -> list[int]:
        """Return the places in `own` of what stands between the path and `token`, a place itself,
        and of that.
        """
        found = []
        while token >= 0:
            found.append(token)
            token = self.parents[token]
        return found[::-1]

    @property
    def is_chain(self) -> bool:
        """Whether every token follows the one before it."""
        return self.n_stem == len(self.own)

    @property
    def n_stem(self) -> int:
        """Return how many tokens stand before the first fork: a chain, each followed by the next
        and by nothing else.
        """
        n = next((i for i, p in enumerate(self.parents) if p != i - 1), len(self.own))
        return min([n, *(parent + 1 for parent in self.parents[n:])])


@dataclass(frozen=True, slots=True)
class _Edge:
    """What a node adds: its ids are the parent's first `n_kept` ids, then `own`; `n` in all.

    The window: `tail` is the text from character `start` on, `tail_ids` are its tokens and `spans`
    what else a `Token` has, flat.
    """

    parent: _Edge | None
    n_kept: int
    own: array[int]
    n: int
    start: int = 0
    tail: str = ""
    tail_ids: list[int] = field(default_factory=list)
    spans: array[int] = field(default_factory=lambda: array("i"))

    @property
    def ids(self) -> Ids:
        """Return all ids from the root on, shape (n,)."""
        pieces: list[array[int]] = []
        edge: _Edge | None = self
        wanted = self.n
        while edge is not None and wanted:
            if wanted > edge.n_kept:
                pieces.append(edge.own[: wanted - edge.n_kept])
                wanted = edge.n_kept
            edge = edge.parent
        return (
            np.array([], np.int32) if not pieces else np.concatenate(pieces[::-1], dtype=np.int32)
        )

    @property
    def tokens(self) -> list[Token]:
        return list(
            zip(
                self.tail_ids,
                self.spans[0::3],
                self.spans[1::3],
                map(bool, self.spans[2::3]),
                strict=True,
            )
        )


class TokenTree:
    """The ids of every node that was asked for. Memory: the unique tokens of the paths asked for
    last, and a window per node.

    The tokenizer's own specials stand before every text, unless they are `spelt_out` in it (as in a
    chat template's).
    """

    def __init__(self, tokenizer: Any, *, spelt_out: bool = False) -> None:
        self._tokenizer = tokenizer
        self._fast: Any = (
            tokenizer.backend_tokenizer if getattr(tokenizer, "is_fast", False) else None
        )
        if self._fast is not None:
            self._fast.no_truncation()
            self._fast.no_padding()
            self._splits = (
                len(set(self._fast.encode("a b, 12 3\nc", add_special_tokens=False).word_ids)) > 1
            )
        self.head = [] if spelt_out else self._find_head()
        self._root = _Edge(None, 0, array("i", self.head), len(self.head))
        self._edges: dict[str, _Edge] = {}

    def count(self, node: Node) -> int:
        """Return the tokens of the node's text, specials at its head included."""
        return self._edge(node).n

    def ids(self, node: Node) -> Ids:
        """Return the ids of the node's whole text, shape (count,). O(length): ask once per node."""
        return self._edge(node).ids

    def branches(
        self, node: Node, texts: Sequence[str], own: str = "", endings: Sequence[str] = ()
    ) -> list[Branch]:
        """Return, for each text, the branch whose ids are those of the node's text followed by it.

        `own` stands before each of the texts, and is tokenised once. `endings`: what follows each
        text, where its end is to be told: its ids then go on to the first that reaches beyond it.
        """
        if own:
            leaf = node.child(own)
            found = self.branches(leaf, texts, endings=endings)
            return [self._from_parent(leaf, branch) for branch in found]
        pairs = list(zip(texts, endings or [""] * len(texts), strict=True))
        if self._fast is None:
            ids = self._edge(node).ids
            return [_diverge(ids, self._whole(node.text + text, ending)) for text, ending in pairs]
        return self._fast_branches(node, pairs)

    def _fast_branches(self, node: Node, pairs: Sequence[tuple[str, str]]) -> list[Branch]:
        """Return the branches of (text, what follows it)."""
        edge = self._edge(node)
        n = len(edge.tail_ids)
        end = edge.spans[-2] - edge.start if n else 0  # of the last token, in the window
        found: list[Branch] = []
        whole = [edge.tail + text + ending for text, ending in pairs]
        for (text, ending), encoded in zip(pairs, self._encode(whole), strict=True):
            ids = encoded.ids
            if ending:
                ids = ids[: _reaching(encoded.offsets, len(edge.tail + text))]
            # The usual case: nothing before the boundary changed, and nothing slipped (in a long
            # row of spaces, say).
            if ids[:n] == edge.tail_ids and (not n or encoded.token_to_chars(n - 1)[1] == end):
                found.append(Branch(edge.n, ids[n:]))
                continue
            tokens = self._tokens(encoded, edge.start)[: len(ids)]
            splice = _splice(edge.tokens, tokens, exact=self._is_all(edge))
            if splice is None:
                found.append(_diverge(edge.ids, self._whole(node.text + text, ending)))
            else:
                found.append(Branch(edge.n - n + splice[0], ids[splice[1] :]))
        return found

    def _from_parent(self, leaf: Node, branch: Branch) -> Branch:
        """Return a branch of `leaf` as one of the node before it."""
        edge = self._edge(leaf)
        if branch.n_shared <= edge.n_kept:
            return branch
        before = edge.own[: branch.n_shared - edge.n_kept]
        return Branch(edge.n_kept, [*before, *branch.own])

    def _edge(self, node: Node) -> _Edge:
        todo: list[Node] = []
        at: Node | None = node
        while at is not None and at.hash not in self._edges:
            todo.append(at)
            at = at.parent
        edge = self._root if at is None else self._edges[at.hash]
        if len(self._edges) > MOST_EDGES:
            self._edges.clear()  # of earlier draws, mostly; an edge keeps those before it
        for new in reversed(todo):
            edge = self._edges[new.hash] = self._extend(edge, new)
        return edge

    def _extend(self, parent: _Edge, node: Node) -> _Edge:
        """Tokenise one edge: the parent's window and the node's segment, or the whole text where
        that is not exact.
        """
        if self._fast is None:
            branch = _diverge(parent.ids, self._whole(node.text))
            return _Edge(parent, branch.n_shared, array("i", branch.own), len(branch))
        start, text, old = parent.start, parent.tail + node.segment, parent.tokens
        new = self._tokens(self._encode([text])[0], start)
        splice = _splice(old, new, exact=self._is_all(parent))
        if splice is None:
            start, text = 0, node.text
            new = self._tokens(self._encode([text])[0], 0)
            branch = _diverge(
                parent.ids, np.array([*self.head, *(token[0] for token in new)], np.int32)
            )
            window = new
        else:
            kept, fresh = splice
            branch = Branch(parent.n - len(old) + kept, [token[0] for token in new[fresh:]])
            window = old[:kept] + new[fresh:]
        first = next((i for i in range(len(window) - WINDOW, 0, -1) if window[i][3]), 0)
        cut = min(window[first][1], window[first - 1][2]) if first else start
        spans = array("i", itertools.chain.from_iterable(token[1:] for token in window[first:]))
        tail_ids = [token[0] for token in window[first:]]
        own = array("i", branch.own)
        return _Edge(
            parent, branch.n_shared, own, len(branch), cut, text[cut - start :], tail_ids, spans
        )

    def _is_all(self, edge: _Edge) -> bool:
        """Whether the window holds all tokens, so that what follows it is tokenised with the whole
        text.
        """
        return len(edge.tail_ids) == edge.n - len(self.head)

    def _encode(self, texts: list[str]) -> list[Any]:
        if len(texts) < FEW:
            return [self._fast.encode(text, add_special_tokens=False) for text in texts]
        encoded: list[Any] = self._fast.encode_batch(texts, add_special_tokens=False)
        return encoded

    def _tokens(self, encoded: Any, start: int) -> list[Token]:
        """Return the tokens of a text that begins at character `start` of the whole."""
        words: list[int | None] = encoded.word_ids
        begins = [
            word is None or word != last or not self._splits
            for last, word in itertools.pairwise([None, *words])
        ]
        spans = encoded.offsets
        return [
            (i, a + start, b + start, new)
            for i, (a, b), new in zip(encoded.ids, spans, begins, strict=True)
        ]

    def _whole(self, text: str, ending: str = "") -> Ids:
        if self._fast is not None:
            encoded = self._fast.encode(text + ending, add_special_tokens=False)
            ids = encoded.ids
            if ending:
                ids = ids[: _reaching(encoded.offsets, len(text))]
        else:
            ids = self._slow(text + ending)
            if ending:
                ids = self._slow_reaching(ids, self._slow(text))
        return np.array(self.head + ids, dtype=np.int32)

    def _slow(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _slow_reaching(self, ids: list[int], bare: list[int]) -> list[int]:
        """Return the first of `ids` whose text is longer than that of `bare`."""
        n, length = common(ids, bare), len(self._tokenizer.decode(bare))
        while n < len(ids) and len(self._tokenizer.decode(ids[:n])) <= length:
            n += 1
        return ids[:n]

    def _find_head(self) -> list[int]:
        """Return the specials that the tokenizer puts before a text (BOS, or none)."""
        bare = self._tokenizer("a", add_special_tokens=False)["input_ids"]
        full = self._tokenizer("a")["input_ids"]
        starts = range(len(full) - len(bare) + 1)
        at = next((i for i in starts if full[i : i + len(bare)] == bare), 0)
        return list(full[:at])


def _reaching(offsets: Sequence[tuple[int, int]], end: int) -> int:
    """Return how many tokens there are up to the first that reaches beyond a character, or all."""
    beyond = (i for i, (_, last) in enumerate(offsets, 1) if last > end)
    return next(beyond, len(offsets))


def _splice(old: list[Token], new: list[Token], *, exact: bool) -> tuple[int, int] | None:
    """Return how many of `old` to keep and from which of `new` to go on; None where the two are not
    to be trusted.

    `exact`: both begin where the text begins, so `new` is right as a whole and the agreement need
    not be long.
    """
    if exact:
        kept = common([token[0] for token in old], [token[0] for token in new])
        return kept, kept
    i = j = run = 0
    while i < len(new) and j < len(old):
        if new[i] == old[j]:
            i, j, run = i + 1, j + 1, run + 1
        elif run >= AGREE:
            break
        else:
            run = 0
            behind, ahead = old[j][1:] <= new[i][1:], new[i][1:] <= old[j][1:]
            i, j = i + ahead, j + behind
    # A parting far before the boundary comes from the missing left context, not from the text that
    # was added.
    if run < AGREE or len(old) - j > WINDOW // 2:
        return None
    more = common(
        [token[0] for token in old[j:]], [token[0] for token in new[i:]]
    )  # one id can stand for two texts
    return j + more, i + more


def _diverge(old: Ids, new: Ids) -> Branch:
    """Return `new` as a branch of `old`."""
    kept = common(old, new)
    return Branch(kept, new[kept:].tolist())


def common(a: Ids | Sequence[int], b: Ids | Sequence[int]) -> int:
    """Return how many ids the two have in common from the start."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(np.asarray(a[:n]) != np.asarray(b[:n]))
    return int(differ[0]) if len(differ) else n
