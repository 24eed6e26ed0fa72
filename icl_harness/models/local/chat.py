"""Prompts in the turns of a chat, as a model's own template writes them.

In: a tokenizer with a chat template, and nodes whose edges are turns. Out: nodes of plain text,
special tokens spelt out, and what stands behind them up to the answer; together they are what the
template writes of the whole chat.

A template is a program over a whole chat. It is taken apart into joints, what stands between the
words of one turn and of the next, by rendering chats of marked words. A joint is written once the
next turn begins, so that the text of a node begins the texts of all nodes behind it; so does its
trailing white space, where the template trims. A template whose earlier turns change as turns are
added (the system's words move to the last turn, say) cannot be taken apart. What it makes of words
beside trimming them is not seen beforehand: the template itself renders every edge and every query
once, and they are refused where they come out otherwise. Left out: tools, documents, thoughts.
A template that uses today's date gets DAY, so that a prompt is the same tomorrow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

from icl_harness.errors import ModelError, SpecError
from icl_harness.models.local.grouping import Tail
from icl_harness.models.local.weights import one_line
from icl_harness.prompts.tree import Edge, Node, Prompt, Query, pieces

Render = Callable[
    [Sequence[tuple[str, str]]], str
]  # (role, words) of the turns -> the chat, up to the answer
Pair = tuple[
    str, str
]  # roles of the turns before and after a joint; "" where the prompt begins and ends

# Llama 3 templates fall back on this date themselves.
DAY = {
    "%Y": "2024",
    "%y": "24",
    "%m": "07",
    "%B": "July",
    "%b": "Jul",
    "%d": "26",
    "%A": "Friday",
    "%a": "Fri",
}
STRIPS: tuple[str | None, ...] = (
    "",
    "\n",
    None,
)  # what templates strip off words: nothing, line ends, white space
LEFT, RIGHT = (
    "\n\n\t",
    " \n",
)  # stripped on either side in any of these ways, no two joints of them are alike
TURNS = [("user", *("assistant", "user") * n) for n in range(4)]
MOST_NODES = 1 << 16
AT_ONCE = 16  # edges that are checked in one chat


@dataclass(frozen=True, slots=True)
class Joint:
    """What stands between the words of two turns. The characters `before` are stripped off the end
    of the words before it, `after` off the start of those after it; None stands for all white
    space.
    """

    text: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a chat is behind an edge: in the turn of `role`, whose last white space `held` is not
    written yet.

    `edge` is the role of the last edges, and `blank` their text, as long as that is white space,
    which makes no turn.
    """

    role: str = ""
    held: str = ""
    edge: str = ""
    blank: str = ""


class Chat:
    """A chat template taken apart. `one_turn`: the whole prompt is one turn of the user's, whatever
    its edges are. `turn_end`: what follows the words of an answer.
    """

    def __init__(self, render: Render, joints: Mapping[Pair, Joint], *, one_turn: bool) -> None:
        self.turn_end = _turn_end(render)
        self._render = render
        self._joints = joints
        self._one_turn = one_turn
        self._holds = any(joint.before != "" for joint in joints.values())
        self._known: dict[str, tuple[Node, _Place]] = {}
        self._checked: set[str] = set()  # hashes of nodes, and queries
        self._remedy = (
            "Leave --model-arg chat_template=true out." if one_turn else "Use --format text."
        )

    def text(self, node: Node) -> Node:
        """Return the node of the text that stands before whatever follows `node`."""
        return self._at(node)[0]

    def behind(self, node: Node, query: Query, *, answered: bool = False) -> Tail:
        """Return what stands between the text of `node` and the answer to `query`: that of a shot,
        where `answered` (some templates begin the answers that they are given otherwise than those
        that they ask for).
        """
        own, at = self._own(self._at(node)[1], query.own)
        added, at = self._write(at, "user", (at.blank if self._one_turn else "") + query.text)
        joint = self._joint(at.role, "assistant" if answered and not self._one_turn else "")
        return Tail(own, added + at.held.rstrip(joint.before) + joint.text)

    def check(self, node: Node, queries: Sequence[Query]) -> None:
        """Have the template itself write every edge and every query once, own edges among them.
        Raises `SpecError` where it differs.
        """
        if not queries:
            return
        path = node.path
        for short in _short_chats(path, self._checked):
            self._compare(short, queries[0].text)
        self._checked.update(edge.hash for edge in path)
        for query in queries:
            own = Prompt(path[0], query).leaf.path
            for short in _short_chats(own, self._checked):
                self._compare(short, query.text)
            self._checked.update(edge.hash for edge in own)
            if query.text not in self._checked:
                self._compare(path[0], query.text)
                self._checked.add(query.text)

    def _own(self, at: _Place, edges: Sequence[Edge]) -> tuple[str, _Place]:
        """Return what a query's own edges add to the text, and where the chat is then."""
        texts: list[str] = []
        for edge in edges:
            text, at = self._add(at, "user" if self._one_turn else edge.role, edge.text)
            texts.append(text)
        return "".join(texts), at

    def _compare(self, node: Node, query: str) -> None:
        try:
            wanted = self._render(self._turns(node, query))
        except Exception as error:  # a template is the model's code, and may refuse what it reads
            raise SpecError(
                f"the chat template refuses this prompt: {one_line(error)} {self._remedy}"
            ) from error
        tail = self.behind(node, Query(id="", text=query))
        if wanted != self.text(node).text + tail.text:
            raise SpecError(
                "the chat template changes the words of the prompt (many cut what comes before "
                f"</think>), so that the model would not read these shots. {self._remedy}"
            )

    def _turns(self, node: Node, query: str) -> list[tuple[str, str]]:
        """Return the chat as APIs are sent it."""
        if self._one_turn:
            return [("user", node.text + query)]
        parts = [(piece.role, piece.text) for piece in pieces(node)] + [("user", query)]
        turns = groupby(parts, key=itemgetter(0))
        return [(role, "".join(map(itemgetter(1), turn))) for role, turn in turns]

    def _at(self, node: Node) -> tuple[Node, _Place]:
        todo: list[Node] = []
        edge: Node | None = node
        while edge is not None and edge.hash not in self._known:
            todo.append(edge)
            edge = edge.parent
        text, place = self._known[edge.hash] if edge is not None else (None, _Place())
        if len(self._known) > MOST_NODES:
            self._known.clear()  # of earlier draws, mostly
        for new in reversed(todo):
            added, place = self._add(place, "user" if self._one_turn else new.role, new.segment)
            text = Node(added) if text is None else text.child(added)
            self._known[new.hash] = text, place
        assert text is not None
        return text, place

    def _add(self, at: _Place, role: str, text: str) -> tuple[str, _Place]:
        """Return what an edge adds to the text, and where the chat is then."""
        if not text:
            return "", at
        goes_on = role == at.edge
        text = (at.blank if goes_on else "") + text
        if not text.strip() and not (goes_on and not at.blank):
            return "", replace(at, edge=role, blank=text)
        return self._write(at, role, text)

    def _write(self, at: _Place, role: str, text: str) -> tuple[str, _Place]:
        """Return what words add to the text, with the joint before them if they begin a turn."""
        opened = ""
        if role == at.role:
            text = at.held + text
        else:
            joint = self._joint(at.role, role)
            opened, text = at.held.rstrip(joint.before) + joint.text, text.lstrip(joint.after)
        kept = text.rstrip() if self._holds else text
        return opened + kept, _Place(role, held=text[len(kept) :], edge=role)

    def _joint(self, before: str, after: str) -> Joint:
        if (before, after) not in self._joints:
            where = f"after the {before}'s" if before else "at the beginning"
            turns = f"a turn of the {after}'s {where}"
            raise SpecError(
                f"the chat template has no place for {turns}, or none that stays. {self._remedy}"
            )
        return self._joints[before, after]


def _short_chats(path: Sequence[Node], known: Container[str]) -> Iterator[Node]:
    """Yield chats that begin as `path` does and go on with those of its edges whose hashes are not
    known, some in each: there are templates that look back over all turns at every turn.
    """
    root, *edges = path
    start = next((i for i, edge in enumerate(edges) if edge.hash not in known), len(edges))
    if (
        0 < start < len(edges) and edges[start].role == "assistant"
    ):  # an answer comes with what was asked
        start -= 1
    short, n = root, 0
    for edge in edges[start:]:
        if n >= AT_ONCE and edge.role != "assistant":
            yield short
            short, n = root, 0
        short, n = short.child(edge.segment, role=edge.role), n + 1
    if n:
        yield short


def open_chat(tokenizer: Any, *, one_turn: bool) -> Chat | None:
    """Return the chat template of a tokenizer; None where it has none that can be taken apart.

    Raises `ModelError` where not even `one_turn` can be asked for.
    """
    try:
        render = _renderer(tokenizer)
        if one_turn:
            return Chat(render, _joints(render, [("user",)]), one_turn=True)
        if not _has_system(render):
            render = _with_system_in_first_turn(render)
        return Chat(render, _all_joints(render), one_turn=False)
    except Exception as error:  # no template, or one that raises whatever it likes
        if not one_turn:
            return None
        raise ModelError(
            "--model-arg chat_template=true: this tokenizer has no template for one turn: "
            f"{one_line(error)} Leave it out, or name a model that chats."
        ) from error


def why_no_chat(tokenizer: Any) -> str:
    """Return why `open_chat` gives none for shots as turns."""
    if not getattr(tokenizer, "chat_template", None):
        return "has no chat template"
    try:
        render = _renderer(tokenizer)
        _all_joints(render if _has_system(render) else _with_system_in_first_turn(render))
    except Exception as error:  # noqa: BLE001  whatever a template raises
        why = one_line(error).rstrip(".")
        return f"has a chat template that shots cannot be put into as turns ({why})"
    return "has a chat template that takes no turns of shots"


def _has_system(render: Render) -> bool:
    """Return whether a template writes the words of the system."""
    with contextlib.suppress(Exception):  # many refuse them
        return "words of the system" in render([("system", "words of the system"), ("user", "x")])
    return False


def _with_system_in_first_turn(render: Render) -> Render:
    """Return what writes the system's words at the start of the user's first turn, for templates
    that have no role for them.
    """

    def joined(turns: Sequence[tuple[str, str]]) -> str:
        if len(turns) < 2 or turns[0][0] != "system":
            return render(turns)
        (_, words), (role, first), *rest = turns
        return render([(role, words + first), *rest])

    return joined


def _renderer(tokenizer: Any) -> Render:
    """Return what renders turns through the template of a tokenizer, on the same day always."""
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        day = "".join(f' | replace("{code}", "{word}")' for code, word in DAY.items())
        # The line end is part of the block, so that the template still begins at a line's start.
        template = (
            f"{{%- macro strftime_now(format) %}}{{{{ format{day} }}}}{{%- endmacro %}}\n{template}"
        )

    def render(turns: Sequence[tuple[str, str]]) -> str:
        said = [{"role": role, "content": words} for role, words in turns]
        text: str = tokenizer.apply_chat_template(
            said, chat_template=template, tokenize=False, add_generation_prompt=True
        )
        return text

    return render


def _all_joints(render: Render) -> dict[Pair, Joint]:
    """Return the joints of chats that begin with a turn of the system's, and of those without, if
    they may be.
    """
    joints = _joints(render, [("system", *turns) for turns in TURNS])
    with contextlib.suppress(Exception):  # some insist on the system's turn
        joints = _joints(render, TURNS, joints)
    return joints


def _turn_end(render: Render) -> str:
    """Return what follows the words of an answer that another turn follows; empty where the
    template writes none.
    """
    for roles in [("user", "assistant", "user"), ("system", "user", "assistant", "user")]:
        with contextlib.suppress(Exception):  # templates raise whatever they like
            return _between(render, roles)[-2]
    return ""


def _joints(
    render: Render, chats: Iterable[Sequence[str]], known: Mapping[Pair, Joint] | None = None
) -> dict[Pair, Joint]:
    """Return the joints between the roles of chats, and those `known`. Raises `ValueError` where
    they do not agree.
    """
    found = dict(known or {})
    for roles in chats:
        bare, padded = _between(render, roles), _between(render, roles, LEFT, RIGHT)
        for pair, text, wide in zip(pairwise(["", *roles, ""]), bare, padded, strict=True):
            joint = _joint_of(text, wide, RIGHT if pair[0] else "", LEFT if pair[1] else "")
            if found.setdefault(pair, joint) != joint:
                raise ValueError(
                    f"what stands between {pair[0]} and {pair[1]} is not always the same"
                )
    return found


def _joint_of(text: str, padded: str, left: str, right: str) -> Joint:
    """Return the joint that is `text` between bare words, and `padded` between white space `left`
    and `right`.
    """
    for before in STRIPS:
        for after in STRIPS:
            if left.rstrip(before) + text + right.lstrip(after) == padded:
                return Joint(text, before, after)
    raise ValueError("white space is neither kept nor stripped")


def _between(render: Render, roles: Sequence[str], left: str = "", right: str = "") -> list[str]:
    """Return what stands before, between and behind the words of a chat, each padded by `left` and
    `right`.
    """
    words = [f"words{i}said" for i in range(len(roles))]
    rest, found = (
        render([(role, left + word + right) for role, word in zip(roles, words, strict=True)]),
        [],
    )
    for word in words:
        before, seen, rest = rest.partition(word)
        if not seen or any(other in before for other in words):
            raise ValueError("the turns do not stand in their order, or not all of them")
        found.append(before)
    if any(word in rest for word in words):
        raise ValueError("a turn stands twice")
    return [*found, rest]
