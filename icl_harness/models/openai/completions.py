"""Completions, of vLLM and other servers: `openai/NAME --base-url URL --model-arg api=completions`.

The model goes on from the prompt's bare text, without a chat's turns; or from its token ids, with
`--model-arg tokenizer=FOLDER-OR-HUB-ID`, which are computed once per edge of the tree. Choices are
weighed as echo.py does. Left out: chat, batches, streams.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate
from types import MappingProxyType
from typing import Any, ClassVar

from icl_harness.models.api.args import word
from icl_harness.models.api.backend import stops
from icl_harness.models.api.body import HOLE, Body, Filled, sliced, to_json, to_members
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import Reply
from icl_harness.models.api.tokenizer import load_tokens
from icl_harness.models.base import Answer, Sampling
from icl_harness.models.local.tokens import TokenTree
from icl_harness.models.openai.chat import MOST_STOPS, OpenAIModel, read_usage
from icl_harness.models.openai.echo import Echo, Next, weigh
from icl_harness.prompts.tree import Node, Query


class OpenAICompletionsModel(OpenAIModel):
    """`openai/NAME` by way of /completions. `tree`: where the prompt is sent as token ids."""

    chats = False
    path = "/completions"
    extra_args: ClassVar[Mapping[str, Callable[[str], Any]]] = MappingProxyType({"tokenizer": word})
    scorings: ClassVar[tuple[str, ...]] = ("generate", "choices", "choices-normalised")

    def __init__(self, name: str, *, id: str, **how: Any) -> None:
        super().__init__(name, id=id, **how)
        self.capabilities = replace(self.capabilities, chat=False, batch=False)
        named = self.extras.get("tokenizer")
        self.tree: TokenTree | None = load_tokens(named, id) if named else None
        if named:
            self.counts_by = "its tokenizer"

    def count_tokens(self, node: Node, query: str = "") -> int | None:
        """Return the exact tokens where the tokenizer is known."""
        return (
            super().count_tokens(node, query)
            if self.tree is None
            else self.exact_tokens(node, query)
        )

    def exact_tokens(self, node: Node, query: str = "") -> int | None:
        """Return the tokens by the tokenizer that was named, or by tiktoken."""
        if self.tree is None:
            return super().exact_tokens(node, query)
        return len(self.tree.branches(node, [query])[0]) if query else self.tree.count(node)

    def _params(self, sampling: Sampling) -> dict[str, Any]:
        params: dict[str, Any] = {"model": self.name, "max_tokens": self.limit(sampling)}
        if self.send_temperature:
            params["temperature"] = sampling.temperature
        if stop := stops(sampling, MOST_STOPS):
            params["stop"] = stop
        return params

    def _request(self, prefix: Prefix, sampling: Sampling) -> Any:
        return self.body(self._params(sampling), prefix.node)

    def body(self, params: Mapping[str, Any], node: Node) -> Body | IdsBody:
        """Return what the requests behind a node share."""
        if self.tree is None:
            return Body({**params, "prompt": node.text + HOLE})
        return IdsBody(params, self.tree, node)

    async def _send(self, client: Any, request: Any, query: Query) -> Any:
        from openai.types import Completion

        return await self.post(
            client, self.path, request.fill(query.text, seed=query.seed), Completion
        )

    def _read(self, response: Any) -> Reply:
        choice, usage = response.choices[0], read_usage(response.usage)
        if choice.finish_reason == "content_filter":
            return Reply(text=None, usage=usage, refused="content_filter")
        return Reply(text=choice.text, usage=usage, cut_off=choice.finish_reason == "length")

    @cached_property
    def _echo(self) -> Echo:
        return Echo(self)

    @cached_property
    def next(self) -> Next:
        """Return how likeliest next tokens are asked for."""
        return Next(self)

    def _weighed(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        return weigh(self._echo, node, queries, sampling)

    def describe(self) -> dict[str, Any]:
        """Return the same as of chat completions, and which endpoint it is."""
        return {**super().describe(), "api": "completions"}


class IdsBody:
    """A request's JSON whose prompt is token ids; those of the prefix are written once."""

    def __init__(self, params: Mapping[str, Any], tree: TokenTree, node: Node) -> None:
        self.tree, self.node = tree, node
        self.ids = tree.ids(node)
        parts = [b"%d," % token for token in self.ids.tolist()]
        self._ends = list(
            accumulate(map(len, parts), initial=0)
        )  # of the bytes of the first tokens
        self._prefix = b"".join(parts)
        self._whole = sliced(self._prefix)
        self._head = to_json(params)[:-1] + b',"prompt":['

    def fill(self, text: str, **own: Any) -> Filled:
        """Return the request of the node's text followed by `text`: the ids are those of the whole."""
        branch = self.tree.branches(self.node, [text])[0].opened(self.ids)
        whole = branch.n_shared == len(self.ids)
        prefix = self._whole if whole else sliced(self._prefix[: self._ends[branch.n_shared]])
        return Filled(
            (
                self._head,
                *prefix,
                b",".join(b"%d" % i for i in branch.own) + b"]" + to_members(own) + b"}",
            )
        )
