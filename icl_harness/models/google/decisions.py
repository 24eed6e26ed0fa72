"""Gemini's decisions, `google/gemini-decision-1 --scoring decisions`. Shapes: google-genai,
decisions.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.decisions import Decisions
from icl_harness.models.api.faults import Fault, Reply
from icl_harness.models.base import Sampling, Usage
from icl_harness.prompts.tree import Query

if TYPE_CHECKING:
    from icl_harness.models.google.gemini import GoogleModel


class GoogleDecisions(Decisions):
    """`client.aio.decisions.create`. The endpoint knows no turns: those of a chat stand under
    headings.
    """

    model: GoogleModel

    def _request(self, prefix: Prefix, sampling: Sampling) -> Any:
        return prefix.node.text

    async def _ask(self, client: Any, request: Any, members: Sequence[Query]) -> Any:
        questions = {
            str(number): {
                "type": "choice",
                "instructions": member.text,
                "criteria": dict.fromkeys(member.choices, ""),
            }
            for number, member in enumerate(members, 1)
        }
        try:
            return await client[0].aio.decisions.create(
                model=self.model.name, input=request, questions=questions
            )
        except Exception as error:  # their classes are private to the SDK  # noqa: BLE001
            said: Any = error
            status = getattr(said, "status_code", None)
            if isinstance(status, int) and status >= 400:
                raise Fault.from_body(status, said.body, str(said), said.response.headers) from None
            raise Fault.from_exception(error) from None

    def _told(self, response: Any, n: int) -> Reply:
        usage = _usage(response.usage) if response.usage else Usage()
        if not response.answers:
            blocked = response.prompt_feedback and response.prompt_feedback.block_reason
            if not blocked:
                raise Fault(
                    "malformed body: neither an answer nor a reason for having none", lost=True
                )
            return Reply(text=None, usage=usage, refused=f"prompt blocked, {blocked}")
        answers = [response.answers.get(str(number)) for number in range(1, n + 1)]
        return Reply(
            text="", usage=usage, told=tuple(answer and answer.probabilities for answer in answers)
        )


def _usage(used: Any) -> Usage:
    return Usage(
        prompt_tokens=used.total_input_tokens,
        cached_tokens=used.total_cached_tokens or 0,
        completion_tokens=(used.total_output_tokens or 0) + (used.total_thought_tokens or 0),
        reasoning_tokens=used.total_thought_tokens,
    )
