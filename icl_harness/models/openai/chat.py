"""OpenAI, and every server that speaks its chat completions: `openai/NAME`, `--base-url URL`.

To a model that is not OpenAI's own nothing is sent but what every such server knows: no cache key,
no content in parts. What a server gives as `reasoning_content` is no part of the answer; one
without a parser for its model's reasoning leaves it in the text, as <think>…</think>, and so does
this file.

The prefix is JSON once, and sent as such through the SDK's client. Newer models of OpenAI are given
a cache breakpoint at the end of the shots; older ones and other servers cache by themselves. Left
out: streams, tools, images.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from icl_harness.models.api.batch_api import BatchApi
from icl_harness.models.api.body import Body, Json, Turn
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import CALLED_A_TOOL, NO_CONTENT, ONLY_THOUGHT, Reply
from icl_harness.models.api.model import stops
from icl_harness.models.base import Sampling
from icl_harness.models.openai.compatible import MOST_STOPS, OpenAIArgs, OpenAICompatible
from icl_harness.models.openai.wire import (
    CUT_OFF,
    WITHHELD,
    content_text,
    post,
    read_usage,
    refuse_errors,
)
from icl_harness.prompts.tree import Query

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion, ChatCompletionMessage


def _silence(message: ChatCompletionMessage) -> str:
    """Return why a message without content holds no answer."""
    if message.tool_calls:
        return CALLED_A_TOOL
    named = ("reasoning_content", "reasoning")
    if any(getattr(message, name, None) for name in named):  # beside the SDK's own fields
        return ONLY_THOUGHT
    return NO_CONTENT


class OpenAIModel(OpenAICompatible[Body, "ChatCompletion"]):
    """`openai/NAME`. With a base URL, any OpenAI-compatible server; a key is then sent only if
    there is one.
    """

    args_class = OpenAIArgs
    args: OpenAIArgs
    path = "/chat/completions"

    def request(self, prefix: Prefix, sampling: Sampling) -> Body:
        """Return the body of a prefix."""
        return Body(prefix.pieces, partial(self._params, prefix, sampling), self.messages)

    async def send(self, request: Body, query: Query) -> ChatCompletion:
        """Send one request."""
        from openai.types.chat import ChatCompletion

        filled = request.fill(query, **self.own_params(query))
        return await post(self.connection.client(), self.path, filled, ChatCompletion)

    def read(self, response: ChatCompletion) -> Reply:
        """Return the text of the first choice. Raises `Fault` where an error came instead."""
        refuse_errors(response)
        choice, usage = response.choices[0], read_usage(response.usage)
        if choice.message.refusal or choice.finish_reason in WITHHELD:
            why = choice.message.refusal or choice.finish_reason
            return Reply(text=None, usage=usage, refused=why)
        is_cut = choice.finish_reason in CUT_OFF
        text = content_text(choice.message.content)
        if text is None and not is_cut:
            return Reply(text="", usage=usage, silent=_silence(choice.message))
        return Reply(text=text or "", usage=usage, cut_off=is_cut)

    def own_params(self, query: Query) -> dict[str, Json]:
        """Return the parameters that are a query's own."""
        return {} if self.reasons() else {"seed": query.seed}

    def batch_api(self) -> BatchApi[Body, ChatCompletion]:
        """Return the batches of this model."""
        from openai.types.chat import ChatCompletion

        return self.batches_of(ChatCompletion)

    def _params(self, prefix: Prefix, sampling: Sampling, turns: list[Turn]) -> dict[str, Json]:
        """Return a request's parameters, its messages last."""
        limit = "max_completion_tokens" if self.is_own else "max_tokens"
        params: dict[str, Json] = {"model": self.name, limit: self.limit(sampling)}
        if effort := self.args.reasoning_effort:
            params["reasoning_effort"] = effort
        if self.send_temperature:
            params["temperature"] = sampling.temperature
        if not self.reasons() and (stop := stops(sampling, MOST_STOPS)):
            params["stop"] = stop
        marks = prefix.breakpoints if self.charges_writes else frozenset[int]()
        return {**params, **self.cache_params(prefix), "messages": self.messages(turns, marks)}
