"""OpenAI's responses: `openai/NAME --model-arg api=responses`.

The same models as through chat completions, and the same bytes for all queries of a node. The
provider keeps nothing of what was asked. The answer is the text of the final output messages,
without reasoning and commentary. Left out: stop strings and seeds, which this endpoint does not
have (an answer is cut afterwards); streams, tools.
"""

from __future__ import annotations

from bisect import bisect
from typing import Any

from icl_harness.models.api.body import Body, turns
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import Fault, Reply
from icl_harness.models.base import Sampling, Usage
from icl_harness.models.openai.chat import OpenAIModel
from icl_harness.prompts.tree import Query

FEWEST_TOKENS = 16  # that an answer must be allowed; 400 below it


class OpenAIResponsesModel(OpenAIModel):
    """`openai/NAME` by way of /responses."""

    path = "/responses"
    text_type = "input_text"

    def _params(self, sampling: Sampling) -> dict[str, Any]:
        limit = max(self.limit(sampling), FEWEST_TOKENS)
        # One server streams unless it is told not to.
        params: dict[str, Any] = {
            "model": self.name,
            "max_output_tokens": limit,
            "store": False,
            "stream": False,
        }
        if effort := self.extras.get("reasoning_effort"):
            params["reasoning"] = {"effort": effort}
        if self.send_temperature:
            params["temperature"] = sampling.temperature
        return params

    def _request(self, prefix: Prefix, sampling: Sampling) -> Any:
        marks = input_marks(prefix) if self.charges_writes else set()
        messages = [
            {"role": role, "content": self._content(texts, marks)}
            for role, texts in turns(prefix.pieces)
        ]
        return Body({**self._params(sampling), **self._cache_params(prefix), "input": messages})

    async def _send(self, client: Any, request: Any, query: Query) -> Any:
        from openai.types.responses import Response

        return await self.post(client, self.path, request.fill(query.text), Response)

    def _read(self, response: Any) -> Reply:
        if response.status == "failed":
            error = response.error
            codes = frozenset([error.code]) if error else frozenset[str]()
            raise Fault(error.message if error else "the response failed", codes=codes)
        usage = read_usage(response.usage)
        messages = [item for item in response.output if item.type == "message"]
        final = [item for item in messages if getattr(item, "phase", None) != "commentary"]
        parts = [part for item in final for part in item.content]
        text = "".join(part.text for part in parts if part.type == "output_text")
        refusal = "".join(part.refusal for part in parts if part.type == "refusal")
        why = response.incomplete_details.reason if response.status == "incomplete" else None
        if refusal or why == "content_filter":
            return Reply(text=None, usage=usage, refused=refusal or "content_filter")
        return Reply(text=text, usage=usage, cut_off=why == "max_output_tokens")

    def describe(self) -> dict[str, Any]:
        """Return the same as of chat completions, and which endpoint it is."""
        return {**super().describe(), "api": "responses"}


def input_marks(prefix: Prefix) -> set[int]:
    """Return the breakpoints, each at the nearest piece of an input up to there: no output may end
    in one.
    """
    inputs = [i for i, piece in enumerate(prefix.pieces) if piece.role != "assistant"]
    return {inputs[bisect(inputs, i) - 1] for i in prefix.breakpoints if inputs and inputs[0] <= i}


def read_usage(used: Any) -> Usage:
    """Return the usage of a response or a decision."""
    if used is None:
        return Usage()
    read, thought = used.input_tokens_details, used.output_tokens_details
    return Usage(
        prompt_tokens=used.input_tokens,
        cached_tokens=read.cached_tokens if read else None,
        cache_write_tokens=getattr(read, "cache_write_tokens", None) if read else None,
        completion_tokens=used.output_tokens,  # reasoning is part of it
        reasoning_tokens=thought.reasoning_tokens if thought else None,
    )
