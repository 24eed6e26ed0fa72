"""OpenAI's decisions, `openai/gpt-6-luna --scoring decisions`. Shapes: the openai SDK,
types/decision.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from icl_harness.models.api.account import Account
from icl_harness.models.api.body import Filled, Json, sliced, to_json, to_members
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.client import Connection
from icl_harness.models.api.decisions import Decided, Decisions, Probabilities, question
from icl_harness.models.base import Sampling
from icl_harness.models.openai.wire import post, read_response_usage
from icl_harness.prompts.tree import Query

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Decision
    from openai.types.decision import Answer as DecisionAnswer

PARTS = {"assistant": "output_text"}
PATH = "/decisions"


class OpenAIDecisions(Decisions[tuple[bytes, ...], "Decision"]):
    """POST /decisions: the input is JSON once, the questions are those of one request."""

    def __init__(self, account: Account, connection: Connection[AsyncOpenAI]) -> None:
        self.account = account
        self._connection = connection

    def request(self, prefix: Prefix, sampling: Sampling) -> tuple[bytes, ...]:
        """Return the JSON of the input, without its end."""
        messages: list[Json] = []
        for role, turn in groupby(prefix.pieces, key=lambda piece: piece.role):
            kind = PARTS.get(role, "input_text")
            parts: list[Json] = [{"type": kind, "text": piece.text} for piece in turn]
            messages.append({"role": role, "content": parts})
        params: dict[str, Json] = {
            "model": self.account.name,
            "prompt_cache_key": prefix.key,
            "input": messages or "",
        }
        return sliced(to_json(params)[:-1])

    async def ask(self, request: tuple[bytes, ...], members: Sequence[Query]) -> Decision:
        """Ask once."""
        from openai.types import Decision

        questions: list[Json] = [_question(n, member) for n, member in enumerate(members, 1)]
        filled = Filled((*request, to_members({"questions": questions}) + b"}"))
        return await post(self._connection.client(), PATH, filled, Decision)

    def decided(self, response: Decision, n: int) -> Decided:
        """Return the probabilities of each question."""
        decisions = tuple(_probabilities(answer) for answer in response.answers)
        return Decided(text="", usage=read_response_usage(response.usage), decisions=decisions)


def _question(number: int, query: Query) -> Json:
    return {
        "type": "choice",
        "name": str(number),
        "instructions": question(query),
        "choices": [{"value": choice} for choice in query.choices],
    }


def _probabilities(answer: DecisionAnswer) -> Probabilities | None:
    if answer.type == "refusal":
        return None
    if answer.type != "choice":
        raise TypeError(f"an answer of type {answer.type}")
    shares = [(share.value, share.probability) for share in answer.probabilities]
    return {value: share for value, share in shares if isinstance(value, str)}
