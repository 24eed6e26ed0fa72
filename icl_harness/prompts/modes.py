"""Modes: what a shot shows, and the path of prompts that follows from it.

supervised: gold answers, with gold rationales where the task has them. reinforced: the model's own
answers, from a bank, as it wrote them. unsupervised: inputs alone, then a fixed block that gives
the output format (Agarwal et al. 2024, section 3). In the chat format the preamble is the system's,
a shot with an answer is a turn of the user's and one of the assistant's, and all the rest is the
user's; the tree is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from icl_harness.draws import stable_seed
from icl_harness.errors import TemplateError
from icl_harness.examples import Example
from icl_harness.prompts.filler import Filler
from icl_harness.prompts.template import ANSWER, Template
from icl_harness.prompts.tree import Edge, Node, Query, Shot

Mode = Literal["supervised", "reinforced", "unsupervised"]
MODES: tuple[Mode, ...] = get_args(Mode)
Format = Literal["text", "chat"]
MARK = "\ue000"  # stands for an input; in no text of a template
FIRST_WORD = re.compile(r"\s*\S+")


def gold_shots(examples: Sequence[Example], mode: Mode) -> list[Shot]:
    """Return the shots of examples as the data have them: with gold answers and rationales, in
    unsupervised mode inputs alone. Where reinforced mode has no bank yet, they stand in for it.
    """
    if mode == "unsupervised":
        return [Shot(id=e.id, input=e.input, target=None) for e in examples]
    if mode == "reinforced":
        return [
            Shot(id=e.id, input=e.input, target=e.target, rationale=e.rationale or e.target)
            for e in examples
        ]
    return [Shot(id=e.id, input=e.input, target=e.target, rationale=e.rationale) for e in examples]


def one_begins_another(texts: Sequence[str]) -> bool:
    """Return whether one of several texts is the beginning of another."""
    ordered = sorted(set(texts))  # a text and what it begins stand together
    return any(longer.startswith(text) for text, longer in pairwise(ordered))


@dataclass(frozen=True, kw_only=True)
class ShotSource:
    """The shots of a path in the order of its draw, of which the first K make a prompt.

    Unless `arrange` gives another list for each K, or `select` one for each query and K, of which
    the first `n_shared` are the first of `shots` for all queries.
    """

    shots: Sequence[Shot]
    arrange: Callable[[int], Sequence[Shot]] | None = None
    select: Callable[[Example, int], Sequence[Shot]] | None = None
    n_shared: int = 0


class PromptPath:
    """The prompts of one (task, mode, variant, draw): a path of nodes, and the queries that may
    hang off any of them.

    `shots` are nested unless they are a `ShotSource` that says otherwise. `variables` are what
    every block of the template may use beside its own (labels and the task's fields). `worked` are
    the examples of the unsupervised format block; they stay the same as K grows. `cuts` are the
    shot counts of the grid, where a provider may cache a prefix. Without `instruction` there is no
    preamble; `filler` makes what stands in the place of the shots. `apart`: what a shot asks and
    its answer are edges of their own in the text format, too.
    """

    def __init__(
        self,
        template: Template,
        mode: Mode,
        shots: Sequence[Shot] | ShotSource,
        variables: Mapping[str, Any],
        worked: Sequence[Example] = (),
        *,
        format: Format = "text",
        cuts: Collection[int] = (),
        instruction: bool = True,
        filler: Filler | None = None,
        apart: bool = False,
    ) -> None:
        self.mode = mode
        self._filler = filler
        self._source = shots if isinstance(shots, ShotSource) else ShotSource(shots=shots)
        self.shots = self._source.shots
        self._template = template
        self._variables = {"mode": mode, **variables}
        self._is_chat = format == "chat"
        self._apart = apart
        # a bank may hold fewer
        limit = self._source.n_shared if self.selects else len(self.shots)
        self.n_shared = min(limit, len(self.shots))
        self._cuts = {min(k, self.n_shared) for k in cuts}
        root = Node(
            self._render("preamble") if instruction else "",
            mode=mode,
            role="system" if self._is_chat else "",
            cut=0 in self._cuts,
        )
        self._nodes = [root]
        self._arranged = {0: root}
        self._selected: dict[str, list[Edge]] = {}  # by shot: many queries share some
        self._format = (
            self._render("format", examples=list(worked)) if mode == "unsupervised" else ""
        )

    @property
    def selects(self) -> bool:
        """Return whether each query brings shots of its own: then `node(k)` is the preamble and
        the shared shots alone, and `query(example, k)` another query for each K.
        """
        return self._source.select is not None

    def node(self, k: int) -> Node:
        """Return the prefix of K shots, format block included; nodes of smaller K are extended,
        never built again, where shots are nested.
        """
        if self.selects:
            return self._nested(min(k, self.n_shared))
        node = self._nested(k) if self._source.arrange is None else self._arrange(k)
        if not self._format:
            return node
        return node.child(self._format, role=self._user, cut=node.cut)

    def _nested(self, k: int) -> Node:
        while len(self._nodes) <= k:
            n = len(self._nodes)
            self._nodes.append(self._extend(self._nodes[-1], self.shots[n - 1], n))
        return self._nodes[k]

    def _arrange(self, k: int) -> Node:
        """Return the prefix of K shots whose order depends on K: its path begins at the root."""
        if k not in self._arranged:
            assert self._source.arrange is not None
            node = self._nodes[0]
            for n, shot in enumerate(self._source.arrange(k), start=1):
                node = self._extend(node, shot, k if n == k else -1)
            self._arranged[k] = node
        return self._arranged[k]

    def _extend(self, node: Node, shot: Shot, k: int) -> Node:
        """Return the prefix that ends in a shot; `k` is where a cut may stand."""
        *firsts, last = self._edges(shot)
        if self._filler is not None:
            text = "".join(edge.text for edge in (*firsts, last))
            text = self._filler(node.n_shots, text)
            return node.child(text, role=self._user, cut=k in self._cuts, filler=True)
        for edge in firsts:
            node = node.child(edge.text, edge.shot, role=edge.role)
        return node.child(last.text, last.shot, role=last.role, cut=k in self._cuts)

    def _edges(self, shot: Shot) -> list[Edge]:
        """Return the texts of a shot: one; where turns or answers stand apart, two."""
        is_own = self.mode == "reinforced"
        text = self._render(
            "shot",
            input=shot.input,
            target=shot.rationale if is_own else shot.target,
            rationale=None if is_own else shot.rationale,
        )
        if not (self._is_chat or self._apart) or shot.target is None:
            return [Edge(text=text, shot=shot, role=self._user)]
        query = self._render("query", input=shot.input)
        if not text.startswith(query):
            raise TemplateError(self._not_alike())
        answer = text[len(query) :]
        if not self._is_chat:
            return [Edge(text=query), Edge(text=answer, shot=shot)]
        answer = answer.strip()
        return [Edge(text=query, role="user"), Edge(text=answer, shot=shot, role="assistant")]

    def query(
        self,
        example: Example,
        k: int | None = None,
        *,
        seed: int = 0,
        sample: int = 0,
        weighed: bool = False,
        gold: bool = False,
    ) -> Query:
        """Return the query about `example`, which may follow any node of this path.

        `k` is the shot count, which only the query of a path that `selects` needs: it brings its
        own shots. `weighed`: render the continuation that gives each choice as the answer, too;
        `gold`: the one that gives the gold answer as a supervised shot does.
        """
        text = self._render("query", input=example.input)
        written: list[str] = []
        endings: list[str] = []
        for choice in example.choices if weighed else ():
            continuation, ending = self._continuation(text, example.input, choice)
            written.append(continuation)
            endings.append(ending)
        return Query(
            id=example.id,
            text=text,
            own=self._own_edges(example, k) if self.selects else (),
            input=example.input,
            choices=example.choices,
            continuations=tuple(written),
            ending=endings[0] if one_begins_another(written) else "",
            gold=self._gold(text, example) if gold else "",
            sample=sample,
            seed=stable_seed("query", seed, example.id, sample),
        )

    def gold_answer(self, example: Example) -> str:
        """Return the gold answer, with its rationale, as a model would write it to a query."""
        return self._gold(self.query_text(example.input), example).strip()

    def query_text(self, input: str) -> str:
        """Return the text of a query about `input`."""
        return self._render("query", input=input)

    def cue(self) -> str:
        """Return the cue of an answer: what a query holds behind its input. Raises `TemplateError`
        where that is nothing.
        """
        cue = self.query_text(MARK).rpartition(MARK)[2].lstrip()
        if not cue:
            raise TemplateError(
                f"template {self._template.name}: its query block ends in the input, so that there "
                "is no cue of an answer that --scoring choices-pmi could weigh choices behind. Let "
                'it end in one, as in "Answer:", or use --scoring choices-calibrated.'
            )
        return cue

    def _own_edges(self, example: Example, k: int | None) -> tuple[Edge, ...]:
        """Return the shots that are selected for a query, and the format block behind them."""
        assert self._source.select is not None
        assert k is not None, "a query that brings its own shots needs their number"
        edges: list[Edge] = []
        for shot in self._source.select(example, k)[self.n_shared :]:
            if shot.id not in self._selected:
                self._selected[shot.id] = self._edges(shot)
            edges += self._selected[shot.id]
        if self._format:
            edges.append(Edge(text=self._format, role=self._user))
        return tuple(edges)

    @property
    def _user(self) -> str:
        return "user" if self._is_chat else ""

    def _not_alike(self) -> str:
        """Return why a shot cannot be split."""
        into, remedy = "two messages of a chat", ", or use --format text"
        if not self._is_chat:
            into, remedy = "what is asked and the answer, which a model is fine-tuned on", ""
        return (
            f"template {self._template.name}: its shot block does not begin as its query block "
            f"does, so that a shot cannot be split into {into}. Let them begin alike{remedy}."
        )

    def _render(self, block: str, **variables: Any) -> str:
        return self._template.render(block, **self._variables, **variables)

    def _gold(self, query: str, example: Example) -> str:
        """Return the text that gives the gold answer, with its rationale where there is one."""
        return self._continuation(query, example.input, example.target, example.rationale)[0]

    def _continuation(
        self, query: str, input: str, choice: str, rationale: str | None = None
    ) -> tuple[str, str]:
        """Return what a model must write to give a choice as the answer, and what follows it."""
        # A labelled shot is query, answer, separator: the answer is what stands between its query
        # and its last white space; a turn of its own begins with a word. Another shot follows.
        variables = {**self._variables, "mode": "supervised"}
        given = {"input": input, "target": choice, "rationale": rationale}
        if self._template.has_answer:
            whole = self._template.render(ANSWER, **variables, **given)
            return (whole.lstrip() if self._is_chat else whole), ""
        shot = self._template.render("shot", **variables, **given)
        if not shot.startswith(query):
            shot = f"{query} {choice}\n"
        written = shot[len(query) :].rstrip()
        first_word = FIRST_WORD.match(query)
        ending = shot[len(query + written) :] + (first_word[0] if first_word else "\n")
        return (written.lstrip() if self._is_chat else written), ending
