"""Prompts are paths in a tree: preamble → shot 1 → … → shot K → format block → query.

In: a template family and shots. Out: nodes. A node knows the text of its own edge only, and a hash
of everything up to it that was computed by extending its parent's; `text` is joined when asked for
and not kept. So a draw of 4000 shots holds 4000 edges, however many shot counts and queries share
them. In the chat format an edge is a turn's, of a role; a query is always the user's. `pieces`
gives a prefix as the texts that a provider is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """One example in a prompt. `target` is None in an unsupervised prompt."""

    id: str
    input: str
    target: str | None
    rationale: str | None = None


class Node:
    """A prefix: all that a model has read before a query. Immutable; extend it with `child`."""

    __slots__ = (
        "_hasher",
        "cut",
        "filler",
        "hash",
        "mode",
        "n_bytes",
        "n_shots",
        "parent",
        "role",
        "segment",
        "shot",
    )

    def __init__(
        self,
        segment: str,
        parent: Node | None = None,
        shot: Shot | None = None,
        *,
        mode: str = "",
        role: str = "",
        cut: bool = False,
        filler: bool = False,
    ) -> None:
        self.parent = parent
        # the role of this edge in the chat format: system, user, assistant; empty in text
        self.role = role
        self.cut = cut  # a shot count of the grid ends here; no part of the text or the hash
        self.mode: str = (
            parent.mode if parent else mode
        )  # how the shots came about; no part of the text or the hash
        self.segment = segment  # the text of this edge
        self.shot = shot
        self.filler = filler  # it stands in the place of a shot, and counts as its room
        takes_room = shot is not None or filler
        self.n_shots: int = (parent.n_shots if parent else 0) + takes_room
        self._hasher: hashlib._Hash = parent._hasher.copy() if parent else hashlib.sha256()
        data = segment.encode()
        self.n_bytes: int = (parent.n_bytes if parent else 0) + len(data)
        if role:  # no length begins with this byte
            self._hasher.update(b"\xff" + role.encode() + b"\0")
        # The length goes in first, so that two ways of cutting one text are two nodes.
        self._hasher.update(len(data).to_bytes(8, "big") + data)
        self.hash: str = self._hasher.hexdigest()

    def child(
        self,
        segment: str,
        shot: Shot | None = None,
        *,
        role: str = "",
        cut: bool = False,
        filler: bool = False,
    ) -> Node:
        """Return the node that follows this one by `segment`."""
        return Node(segment, self, shot, role=role, cut=cut, filler=filler)

    @property
    def path(self) -> list[Node]:
        """Return the nodes from the root to this one."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes

    @property
    def text(self) -> str:
        """Return the whole prefix, turns under headings. O(length) at every call: ask once per
        node, not per query.
        """
        return join_turns((node.role, node.segment) for node in self.path)

    @property
    def shots(self) -> list[Shot]:
        """Return the shots in the order in which they are read."""
        return [node.shot for node in self.path if node.shot is not None]

    def __reduce__(self) -> tuple[Any, ...]:
        # The edges in a row: hashers cannot be pickled, and parents of parents would go too deep.
        return _grow, (
            self.mode,
            [(node.segment, node.shot, node.role, node.cut, node.filler) for node in self.path],
        )

    def __repr__(self) -> str:
        return f"Node({self.n_shots} shots, {self.n_bytes} bytes, {self.hash[:12]})"


def _grow(mode: str, edges: Sequence[tuple[str, Shot | None, str, bool, bool]]) -> Node:
    node: Node | None = None
    for segment, shot, role, cut, filler in edges:
        node = Node(segment, node, shot, mode=mode, role=role, cut=cut, filler=filler)
    assert node is not None
    return node


def join_turns(edges: Iterable[tuple[str, str]]) -> str:
    """Return the text of (role, text) edges: joined as they are, or each turn of a chat under a
    line with its role.
    """
    parts: list[str] = []
    now = ""
    for role, text in edges:
        if role != now and text:
            parts.append(f"{chr(10) * 2 if parts else ''}[{role}]\n")
            now = role
        parts.append(text)
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prefix as a provider is sent it: a whole turn or some of one. `cut`: a node with
    a cut ends it.
    """

    role: str
    text: str
    cut: bool


def pieces(node: Node, most: int = 1_000_000) -> list[Piece]:
    """Return a prefix as texts of at most `most` characters, split where edges end: at every change
    of role and after every cut, and inside an edge only if it is longer by itself. O(length): ask
    once per node.

    Providers refuse blank parts, so white space alone is joined to the next piece of its turn, or
    to the last (at the turn's end, and where a cut so stays in its place); a turn that holds
    nothing else is left out.
    """
    made: list[Piece] = []
    turn = 0  # where the pieces of this turn begin
    role, texts, length, blank = "user", list[str](), 0, True  # the piece in the making
    for new_role, text, cut in _parts(node, most):
        if new_role != role:
            _close(made, turn, role, "".join(texts), False)
            turn, role, texts, length, blank = len(made), new_role, [], 0, True
        elif length + len(text) > most and not blank:
            made.append(Piece(role, "".join(texts), False))
            texts, length, blank = [], 0, True
        texts.append(text)
        length += len(text)
        blank = blank and not text.strip()
        if cut and (not blank or (len(made) > turn and not made[-1].cut)):
            _close(made, turn, role, "".join(texts), True)
            texts, length, blank = [], 0, True
    _close(made, turn, role, "".join(texts), node.cut)
    return made


def _parts(node: Node, most: int) -> Iterator[tuple[str, str, bool]]:
    """Yield (role, text, cut) of the edges that are not empty, those that are too long in several
    parts.
    """
    for edge in node.path:
        text = edge.segment
        for start in range(0, len(text), most):
            last = start + most >= len(text)
            yield (
                edge.role or "user",
                text[start : start + most] if most < len(text) else text,
                edge.cut and last,
            )


def _close(made: list[Piece], turn: int, role: str, text: str, cut: bool) -> None:
    """Add a piece to a turn whose pieces begin at `turn`; white space alone goes to the piece
    before it.
    """
    if text.strip():
        made.append(Piece(role, text, cut))
    elif text and len(made) > turn:
        made[-1] = Piece(role, made[-1].text + text, made[-1].cut or cut)


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """A text below a node: a shot, a step of an episode. `role` is its role in a chat."""

    text: str
    shot: Shot | None = None
    role: str = ""


@dataclass(frozen=True, kw_only=True)
class Query:
    """What follows the shared prefix: this query's own edges, if it has any, then its text.

    One request: `sample` counts the requests of the same query, `seed` is that request's own.
    """

    id: str
    text: str
    own: tuple[Edge, ...] = ()  # retrieved shots, steps: between the shared node and `text`
    input: str = ""  # the bare problem, for learners that do not read text
    choices: tuple[str, ...] = ()
    continuations: tuple[str, ...] = ()  # the text that would give each choice as the answer
    # Where a choice begins another one: what follows an answer in the shots. Its first token is
    # weighed too, as "10" would never be likelier than "1".
    ending: str = ""
    gold: str = ""  # the text that would give the gold answer, where its likelihood is wanted
    # texts without this query's content, behind which its choices are weighed, too
    bare: tuple[str, ...] = ()
    sample: int = 0
    seed: int = 0

    @property
    def tail(self) -> str:
        """Return all that follows the shared node where there are no turns of a chat."""
        return "".join([*(edge.text for edge in self.own), self.text])

    @property
    def own_shots(self) -> list[Shot]:
        """Return the shots that only this query is shown."""
        return [edge.shot for edge in self.own if edge.shot is not None]


@dataclass(frozen=True)
class Prompt:
    """A shared node plus a query with its own edges."""

    node: Node
    query: Query

    @cached_property
    def leaf(self) -> Node:
        """Return the prefix with the query's own edges: all that is read before its text."""
        leaf = self.node
        for edge in self.query.own:
            leaf = leaf.child(edge.text, edge.shot, role=edge.role)
        return leaf

    @property
    def text(self) -> str:
        """Return the whole prompt as a model reads it, turns under headings."""
        turns = [(node.role, node.segment) for node in self.leaf.path]
        return join_turns([*turns, (self._role, self.query.text)])

    @cached_property
    def hash(self) -> str:
        """Return the SHA-256 of leaf and query; the shared prefix is not read again."""
        return self.leaf.child(self.query.text, role=self._role).hash

    @property
    def _role(self) -> str:
        return "user" if self.node.role else ""
