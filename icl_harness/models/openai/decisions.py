"""OpenAI's decisions, `openai/gpt-6-luna --scoring decisions`. Shapes: the openai SDK,
types/decision.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from icl_harness.models.api.body import Filled, sliced, to_json, to_members
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.decisions import Decisions
from icl_harness.models.api.faults import Reply
from icl_harness.models.base import Sampling
from icl_harness.models.openai.responses import read_usage
from icl_harness.prompts.tree import Query

if TYPE_CHECKING:
    from icl_harness.models.openai.chat import OpenAIModel


PARTS = {"assistant": "output_text"}


class OpenAIDecisions(Decisions):
    """POST /decisions: the input is JSON once, the questions are those of one request."""

    model: OpenAIModel
    path = "/decisions"

    def _request(self, prefix: Prefix, sampling: Sampling) -> Any:
        messages = [
            {
                "role": role,
                "content": [
                    {"type": PARTS.get(role, "input_text"), "text": piece.text} for piece in turn
                ],
            }
            for role, turn in groupby(prefix.pieces, key=lambda piece: piece.role)
        ]
        params = {"model": self.model.name, "prompt_cache_key": prefix.key, "input": messages or ""}
        return sliced(to_json(params)[:-1])

    async def _ask(self, client: Any, request: Any, members: Sequence[Query]) -> Any:
        from openai.types import Decision

        questions = [
            {
                "type": "choice",
                "name": str(number),
                "instructions": member.text,
                "choices": [{"value": choice} for choice in member.choices],
            }
            for number, member in enumerate(members, 1)
        ]
        filled = Filled((*request, to_members({"questions": questions}) + b"}"))
        return await self.model.post(client, self.path, filled, Decision)

    def _told(self, response: Any, n: int) -> Reply:
        told = [
            None
            if answer.type == "refusal"
            else {share.value: share.probability for share in answer.probabilities}
            for answer in response.answers
        ]
        return Reply(text="", usage=read_usage(response.usage), told=tuple(told))
