"""Gemini's decisions, `google/gemini-decision-1 --scoring decisions`. Shapes: google-genai,
decisions.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from icl_harness.models.api.account import Account
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.client import Connection
from icl_harness.models.api.decisions import Decided, Decisions, question
from icl_harness.models.api.faults import Fault
from icl_harness.models.base import Sampling, Usage
from icl_harness.models.google.wire import GoogleClient
from icl_harness.prompts.tree import Query


class GoogleDecisions(Decisions[str, Any]):
    """`client.aio.decisions.create`, whose response has a type private to the SDK. The endpoint
    knows no turns: those of a chat stand under headings.
    """

    def __init__(self, account: Account, connection: Connection[GoogleClient]) -> None:
        self.account = account
        self._connection = connection

    def request(self, prefix: Prefix, sampling: Sampling) -> str:
        """Return the input."""
        return prefix.node.text

    async def ask(self, request: str, members: Sequence[Query]) -> Any:
        """Ask once."""
        questions = {str(n): _question(member) for n, member in enumerate(members, 1)}
        decisions: Any = self._connection.client().aio.decisions
        try:
            return await decisions.create(
                model=self.account.name, input=request, questions=questions
            )
        except Exception as error:  # their classes are private to the SDK  # noqa: BLE001
            raise _fault(error) from None

    def decided(self, response: Any, n: int) -> Decided:
        """Return the probabilities of each question."""
        usage = _usage(response.usage)
        if not response.answers:
            feedback = response.prompt_feedback
            blocked = feedback and feedback.block_reason
            if not blocked:
                raise Fault(
                    "malformed body: neither an answer nor a reason for having none", lost=True
                )
            return Decided(text=None, usage=usage, refused=f"prompt blocked, {blocked}")
        answers = [response.answers.get(str(number)) for number in range(1, n + 1)]
        decisions = tuple(answer and answer.probabilities for answer in answers)
        return Decided(text="", usage=usage, decisions=decisions)


def _question(query: Query) -> dict[str, object]:
    return {
        "type": "choice",
        "instructions": question(query),
        "criteria": dict.fromkeys(query.choices, ""),
    }


def _fault(error: Any) -> Fault:
    if isinstance(error, Fault):
        return error
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and status >= 400:
        return Fault.from_body(status, error.body, str(error), error.response.headers)
    return Fault.from_exception(error)


def _usage(used: Any) -> Usage:
    if not used:
        return Usage()
    return Usage(
        prompt_tokens=used.total_input_tokens,
        cached_tokens=used.total_cached_tokens or 0,
        completion_tokens=(used.total_output_tokens or 0) + (used.total_thought_tokens or 0),
        reasoning_tokens=used.total_thought_tokens,
    )
