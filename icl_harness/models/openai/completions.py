"""Completions, of vLLM and other servers: `openai/NAME --base-url URL --model-arg api=completions`.

The model goes on from the prompt's bare text, without a chat's turns; or from its token ids, with
`--model-arg tokenizer=FOLDER-OR-HUB-ID`, which are computed once per edge of the tree. Choices are
weighed as echo.py does. Left out: chat, batches, streams.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from icl_harness.models.api.account import Account
from icl_harness.models.api.api_args import ApiArgs
from icl_harness.models.api.body import Filled, Json, TextBody
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import NO_CONTENT, Fault, Reply
from icl_harness.models.api.model import stops
from icl_harness.models.api.tokenizer import load_tokens
from icl_harness.models.base import Answer, GoldLikelihood, Sampling
from icl_harness.models.local.tokens import TokenTree
from icl_harness.models.model_args import word
from icl_harness.models.openai.compatible import LONGEST_STRING, MOST_STOPS, OpenAICompatible
from icl_harness.models.openai.echo import Completions, Echo, Next, weigh
from icl_harness.models.openai.ids_body import IdsBody
from icl_harness.models.openai.wire import (
    CUT_OFF,
    WITHHELD,
    content_text,
    post,
    read_usage,
    refuse_errors,
)
from icl_harness.prompts.tree import Node, Query

if TYPE_CHECKING:
    from openai.types import Completion


class CompletionsArgs(ApiArgs):
    """`tokenizer`: the model's, by folder or hub id."""

    tokenizer: str | None = word()


class OpenAICompletionsModel(OpenAICompatible["TextBody | IdsBody", "Completion"]):
    """`openai/NAME` by way of /completions. `tree`: where the prompt is sent as token ids."""

    chats = False
    path = "/completions"
    args_class = CompletionsArgs
    args: CompletionsArgs
    scorings = ("generate", "choices", "choices-normalised")
    gold_likelihood: GoldLikelihood = "weighed"
    tree: TokenTree | None

    def attach(self, account: Account) -> None:
        """Take an account, and begin anew what belongs to a run."""
        super().attach(account)
        self._weighing: tuple[Echo, Next] | None = None

    def configure(self, args: ApiArgs) -> None:
        """Take the user's options and open the tokenizer, where one is named."""
        super().configure(args)
        named = self.args.tokenizer
        self.tree = load_tokens(named, self.id) if named else None
        if named:
            self.counts_by = "its tokenizer"

    def count_tokens(self, node: Node, query: str = "") -> int | None:
        """Return the exact tokens where the tokenizer is known."""
        if self.tree is None:
            return super().count_tokens(node, query)
        return self.exact_tokens(node, query)

    def exact_tokens(self, node: Node, query: str = "") -> int | None:
        """Return the tokens by the tokenizer that was named, or by tiktoken."""
        if self.tree is None:
            return super().exact_tokens(node, query)
        return len(self.tree.branches(node, [query])[0]) if query else self.tree.count(node)

    def request(self, prefix: Prefix, sampling: Sampling) -> TextBody | IdsBody:
        """Return the body of a prefix."""
        params: dict[str, Json] = {"model": self.name, "max_tokens": self.limit(sampling)}
        if self.send_temperature:
            params["temperature"] = sampling.temperature
        if stop := stops(sampling, MOST_STOPS):
            params["stop"] = stop
        return self.body(params, prefix.node)

    def body(self, params: Mapping[str, Json], node: Node) -> TextBody | IdsBody:
        """Return what the requests behind a node share."""
        if self.tree is None:
            return TextBody(params, "prompt", node.text)
        return IdsBody(params, self.tree, node)

    async def send(self, request: TextBody | IdsBody, query: Query) -> Completion:
        """Send one request. Raises `Fault` for a prompt that OpenAI takes in no string."""
        if isinstance(request, TextBody) and self.is_own:
            n_chars = request.n_chars + len(query.tail)
            if n_chars > LONGEST_STRING:
                raise Fault(
                    f"a prompt of {n_chars:,} characters in one string, of which OpenAI takes "
                    f"{LONGEST_STRING:,}; without api=completions it goes in parts",
                    codes=frozenset(["string_above_max_length"]),
                )
        return await self.complete(request.fill(query, seed=query.seed))

    async def complete(self, filled: Filled) -> Completion:
        """Send a body."""
        from openai.types import Completion

        return await post(self.connection.client(), self.path, filled, Completion)

    def read(self, response: Completion) -> Reply:
        """Return the text of the first choice."""
        refuse_errors(response)
        choice, usage = response.choices[0], read_usage(response.usage)
        if choice.finish_reason in WITHHELD:
            return Reply(text=None, usage=usage, refused=choice.finish_reason)
        is_cut, text = choice.finish_reason in CUT_OFF, content_text(choice.text)
        if text is None and not is_cut:
            return Reply(text="", usage=usage, silent=NO_CONTENT)
        return Reply(text=text or "", usage=usage, cut_off=is_cut)

    def weigh(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield the likeliest choices, by the log-probabilities of prompts."""
        if self._weighing is None:
            served = Completions(
                account=self.account, tree=self.tree, body=self.body, complete=self.complete
            )
            self._weighing = Echo(served), Next(served)
        return weigh(*self._weighing, node, queries, sampling)

    def describe(self) -> dict[str, Any]:
        """Return the same as of chat completions, and which endpoint it is."""
        return {**super().describe(), "api": "completions"}
