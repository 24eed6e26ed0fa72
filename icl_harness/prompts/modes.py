"""Modes: what a shot shows, and the path of prompts that follows from it.

supervised: gold answers, with gold rationales where the task has them. reinforced: the model's own
rationales, from a bank. unsupervised: inputs alone, then a fixed block that gives the output format
(Agarwal et al. 2024, section 3). In the chat format the preamble is the system's, a shot with an
answer is a turn of the user's and one of the assistant's, and all the rest is the user's; the tree
is the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, get_args

from icl_harness.draws import stable_seed
from icl_harness.errors import TemplateError
from icl_harness.examples import Example
from icl_harness.prompts.template import Template
from icl_harness.prompts.tree import Node, Query, Shot

Mode = Literal["supervised", "reinforced", "unsupervised"]
MODES: tuple[Mode, ...] = get_args(Mode)
Format = Literal["text", "chat"]


def gold_shots(examples: Sequence[Example], mode: Mode) -> list[Shot]:
    """Return the shots of supervised mode (gold answers and rationales) or of unsupervised mode
    (inputs alone).
    """
    if mode == "unsupervised":
        return [Shot(id=e.id, input=e.input, target=None) for e in examples]
    return [Shot(id=e.id, input=e.input, target=e.target, rationale=e.rationale) for e in examples]


class PromptPath:
    """The prompts of one (task, mode, variant, draw): a path of nodes, and the queries that may
    hang off any of them.

    `variables` are what every block of the template may use beside its own (labels and the task's
    fields). `worked` are the examples of the unsupervised format block; they stay the same as K
    grows. `cuts` are the shot counts of the grid: a provider's cache may be asked for there.
    """

    # Whether each query brings shots of its own: then `query(example, k)` is another for each K.
    selects = False

    def __init__(
        self,
        template: Template,
        mode: Mode,
        shots: Sequence[Shot],
        variables: Mapping[str, Any],
        worked: Sequence[Example] = (),
        *,
        format: Format = "text",
        cuts: Collection[int] = (),
    ) -> None:
        self.mode = mode
        self.shots = shots
        self._template = template
        self._variables = {"mode": mode, **variables}
        self._is_chat = format == "chat"
        self._cuts = {min(k, len(shots)) for k in cuts}  # a bank may hold fewer
        self._nodes = [
            Node(
                self._render("preamble"),
                mode=mode,
                role="system" if self._is_chat else "",
                cut=0 in self._cuts,
            )
        ]
        self._format = (
            self._render("format", examples=list(worked)) if mode == "unsupervised" else ""
        )

    def node(self, k: int) -> Node:
        """Return the prefix of K shots, format block included; nodes of smaller K are extended,
        never built again.
        """
        while len(self._nodes) <= k:
            self._nodes.append(
                self._extend(self._nodes[-1], self.shots[len(self._nodes) - 1], len(self._nodes))
            )
        node = self._nodes[k]
        return (
            node.child(self._format, role="user" if self._is_chat else "", cut=node.cut)
            if self._format
            else node
        )

    def _extend(self, node: Node, shot: Shot, k: int) -> Node:
        """Return the prefix that ends in the K-th shot: one edge more, in a chat one for each turn."""
        cut = k in self._cuts
        text = self._render("shot", input=shot.input, target=shot.target, rationale=shot.rationale)
        if not self._is_chat:
            return node.child(text, shot, cut=cut)
        if shot.target is None:
            return node.child(text, shot, role="user", cut=cut)
        query = self._render("query", input=shot.input)
        if not text.startswith(query):
            raise TemplateError(
                f"template {self._template.name}: its shot block does not begin as its query block does, so that a "
                "shot cannot be told as two turns of a chat. Let them begin alike, or use --format text."
            )
        return node.child(query, role="user").child(
            text[len(query) :].strip(), shot, role="assistant", cut=cut
        )

    def query(
        self,
        example: Example,
        k: int | None = None,
        *,
        seed: int = 0,
        sample: int = 0,
        weighed: bool = False,
    ) -> Query:
        """Return what is asked about `example` behind any node of this path.

        `k` is the shot count, which only the query of a selection variant needs: it brings its own
        shots. `weighed`: render the continuation that gives each choice as the answer, too.
        """
        text = self._render("query", input=example.input)
        continuations = [
            self._continuation(text, example.input, choice)
            for choice in (example.choices if weighed else ())
        ]
        return Query(
            id=example.id,
            text=text,
            input=example.input,
            choices=example.choices,
            continuations=tuple(continuations),
            sample=sample,
            seed=stable_seed("query", seed, example.id, sample),
        )

    def _render(self, block: str, **variables: Any) -> str:
        return self._template.render(block, **self._variables, **variables)

    def _continuation(self, query: str, input: str, choice: str) -> str:
        # A labelled shot is query, answer, separator: what stands between its query and its last
        # white space is what a model must write to give this choice; a turn of its own begins with
        # a word.
        variables = {**self._variables, "mode": "supervised"}
        shot = self._template.render(
            "shot", **variables, input=input, target=choice, rationale=None
        )
        written = shot[len(query) :].rstrip() if shot.startswith(query) else f" {choice}"
        return written.lstrip() if self._is_chat else written
