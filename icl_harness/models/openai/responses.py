"""OpenAI's responses: `openai/NAME --model-arg api=responses`.

The same models as through chat completions, and the same bytes for all queries of a node. The
provider keeps no request. The answer is the text of the final output messages,
without reasoning and commentary. Left out: stop strings and seeds, which this endpoint does not
have (an answer is cut afterwards); streams, tools.
"""

from __future__ import annotations

from bisect import bisect
from functools import partial
from typing import TYPE_CHECKING, Any

from icl_harness.models.api.batch_api import BatchApi
from icl_harness.models.api.body import Body, Json, Turn
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import NO_CONTENT, ONLY_THOUGHT, Fault, Miss, Reply
from icl_harness.models.base import Sampling
from icl_harness.models.openai.compatible import OpenAIArgs, OpenAICompatible
from icl_harness.models.openai.wire import post, read_response_usage
from icl_harness.prompts.tree import Query

if TYPE_CHECKING:
    from openai.types.responses import Response

FEWEST_TOKENS = 16  # that an answer must be allowed; 400 below it
ENDS = {"completed", "incomplete", None}  # what a response that holds an answer is
TEXTS = {"output_text", "text"}  # types of parts


class OpenAIResponsesModel(OpenAICompatible[Body, "Response"]):
    """`openai/NAME` by way of /responses."""

    args_class = OpenAIArgs
    args: OpenAIArgs
    path = "/responses"

    @property
    def diagnoses(self) -> bool:
        """Whether the provider says why a cache was not read: of models with breakpoints."""
        return self.charges_writes

    def request(self, prefix: Prefix, sampling: Sampling) -> Body:
        """Return the body of a prefix."""
        return Body(prefix.pieces, partial(self._params, prefix, sampling), self.messages)

    async def send(self, request: Body, query: Query) -> Response:
        """Send one request."""
        from openai.types.responses import Response

        return await post(self.connection.client(), self.path, request.fill(query), Response)

    def read(self, response: Response) -> Reply:
        """Return the text of the final messages. Raises `Fault` where an error came instead."""
        output = response.output or []
        _refuse_errors(response, bool(output))
        if "output" not in response.model_fields_set:
            raise Fault("malformed body: it has no output", lost=True)
        usage = read_response_usage(response.usage)
        messages = [item for item in output if item.type == "message"]
        final = [item for item in messages if getattr(item, "phase", None) != "commentary"]
        texts, refusals = [], []
        for item in final:
            text, refusal = _said(item.content)
            texts.append(text)
            refusals.append(refusal)
        details = response.incomplete_details if response.status == "incomplete" else None
        why = details.reason if details else None
        if any(refusals) or why == "content_filter":
            return Reply(text=None, usage=usage, refused="".join(refusals) or "content_filter")
        is_cut = why == "max_output_tokens"
        if why and not is_cut:
            raise Fault(f"the server broke the answer off with an error ({why})", lost=True)
        if not final and not is_cut:
            return Reply(text="", usage=usage, silent=ONLY_THOUGHT if output else NO_CONTENT)
        return Reply(
            text="".join(texts),
            usage=usage,
            cut_off=is_cut,
            id=response.id or "",
            miss=_cache_miss(response),
        )

    def batch_api(self) -> BatchApi[Body, Response]:
        """Return the batches of this model."""
        from openai.types.responses import Response

        return self.batches_of(Response)

    def text_type(self, role: str) -> str:
        """Return the type of a text in a role's message."""
        return "output_text" if role == "assistant" else "input_text"

    def describe(self) -> dict[str, Any]:
        """Return the same as of chat completions, and which endpoint it is."""
        return {**super().describe(), "api": "responses"}

    def _params(self, prefix: Prefix, sampling: Sampling, turns: list[Turn]) -> dict[str, Json]:
        """Return a request's parameters, its messages last."""
        limit = max(self.limit(sampling), FEWEST_TOKENS)
        # One server streams unless a request says not to.
        params: dict[str, Json] = {
            "model": self.name,
            "max_output_tokens": limit,
            "store": False,
            "stream": False,
        }
        if effort := self.args.reasoning_effort:
            params["reasoning"] = {"effort": effort}
        if self.send_temperature:
            params["temperature"] = sampling.temperature
        marks = input_marks(prefix) if self.charges_writes else frozenset[int]()
        caching = self.cache_params(prefix)
        if prefix.baseline:
            options = {"mode": "explicit", "comparison_response_id": prefix.baseline}
            caching["prompt_cache_options"] = options
        return {**params, **caching, "input": self.messages(turns, marks)}


def input_marks(prefix: Prefix) -> frozenset[int]:
    """Return the breakpoints, each at the nearest piece of an input up to there: no output may end
    in one.
    """
    inputs = [i for i, piece in enumerate(prefix.pieces) if piece.role != "assistant"]
    if not inputs:
        return frozenset()
    marks = [i for i in prefix.breakpoints if inputs[0] <= i]
    return frozenset(inputs[bisect(inputs, i) - 1] for i in marks)


def _refuse_errors(response: Response, has_output: bool) -> None:
    """Raise `Fault` for a response that failed, was given up or is not done."""
    error, status = response.error, response.status
    if status == "failed" and error is not None:
        raise Fault(error.message, codes=frozenset([error.code]), lost=True)
    if error is not None and not has_output:
        raise Fault.in_answer(error if isinstance(error, dict) else vars(error))
    if status not in ENDS:
        raise Fault(f"the response is {status} and holds no answer", lost=True)


def _cache_miss(response: Response) -> Miss | None:
    """Return what differs from an earlier request, where the provider was asked and knows it."""
    found = getattr(response, "prompt_cache_diagnostics", None)
    if found is None:
        return None
    tokens = getattr(found, "cache_missed_tokens", None)
    reason = getattr(found, "reason", None) or found.type
    return Miss(str(reason), tokens if isinstance(tokens, int) else None)


def _said(content: object) -> tuple[str, str]:
    """Return the text of a message and what it refuses: servers give it as parts, as one text, or
    as none.
    """
    if content is None or isinstance(content, str):
        return content or "", ""
    if not isinstance(content, list):
        raise TypeError("a content that is neither a text nor parts")
    parts = [part if isinstance(part, dict) else vars(part) for part in content]
    texts = [part.get("text") or "" for part in parts if part.get("type") in TEXTS]
    refusals = [part.get("refusal") or "" for part in parts if part.get("type") == "refusal"]
    return "".join(texts), "".join(refusals)
