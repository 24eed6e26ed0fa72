"""OpenAI's and Gemini's decisions: questions about one input, each answered with probabilities.

In: an input and 1 to 400 questions. Out: an answer to each; what `reply` says to the input followed
by the question gets 0.9, the others share the rest. Left out: images, tool calls, refusals of
single questions.
"""

from __future__ import annotations

import json
import re

from tests.servers.openai_wire import OpenAIWire, responses_usage, text_of
from tests.servers.wire import Block, Json, Made, Refused, Request, joined

SURE = 0.9
MODEL = "gpt-6-luna"


class DecisionsWire(OpenAIWire):
    """Decisions."""

    path = re.compile(r"/v1/decisions")
    messages_field = "input"

    def blocks(self, body: Json) -> list[Block]:
        given = body["input"]
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
        blocks = self.message_blocks(body, messages)
        asked = [
            Block(told(q), "question", message=at)
            for at, q in enumerate(body["questions"], len(messages))
        ]
        return blocks + asked

    def prompts(self, request: Request) -> list[str]:
        shared = [block for block in request.blocks if block.role != "question"]
        return [
            joined([*shared, Block(text_of(q["instructions"]), message=-1)])
            for q in request.body["questions"]
        ]

    def check(self, request: Request) -> None:
        questions = request.body["questions"]
        if request.model != MODEL:
            raise Refused("model", f"The model `{request.model}` is not supported; use {MODEL}.")
        if not 1 <= len(questions) <= 400:
            raise Refused(
                "invalid", f"Invalid 'questions': expected 1 to 400, got {len(questions)}."
            )
        for question in questions:
            values = [json.dumps(choice["value"]) for choice in question.get("choices", [])]
            if question["type"] == "choice" and not 2 <= len(set(values)) == len(values) <= 255:
                raise Refused("invalid", "Invalid 'choices': expected 2 to 255 different ones.")
        super().check(request)

    def limits(self, body: Json) -> tuple[int, list[str]]:
        return 2**31, []

    def thinks(self, body: Json) -> bool:
        return False

    def answer(self, made: Made, body: Json) -> Json:
        pairs = zip(body["questions"], made.said, strict=True)
        answers = [
            {**decide(question, text), "name": question.get("name")}
            for question, (text, _) in pairs
        ]
        return {"model": body["model"], "answers": answers, "usage": responses_usage(made)}


class GoogleDecisionsWire(DecisionsWire):
    """Gemini's form of decisions: its questions have names."""

    name = "google"

    def blocks(self, body: Json) -> list[Block]:
        questions = [
            Block(q["instructions"], "question", message=at)
            for at, q in enumerate(body["questions"].values(), 1)
        ]
        return [Block(text_of(body["input"])), *questions]

    def prompts(self, request: Request) -> list[str]:
        shared, *questions = request.blocks
        return [joined([shared, block]) for block in questions]

    def check(self, request: Request) -> None:
        """Refuse nothing."""

    def answer(self, made: Made, body: Json) -> Json:
        answers = {}
        for (name, question), (text, _) in zip(body["questions"].items(), made.said, strict=True):
            options = list(question["criteria"])
            shares = dict(zip(options, probabilities(options, text.strip()), strict=True))
            best = max(shares, key=shares.__getitem__)
            answers[name] = {
                "type": "choice",
                "choice": best,
                "confidence": shares[best],
                "probabilities": shares,
            }
        usage = {
            "total_input_tokens": made.n_prompt,
            "total_cached_tokens": made.n_cached,
            "total_output_tokens": 0,
        }
        return {"answers": answers, "usage": {**usage, "total_tokens": made.n_prompt}}

    def error(self, fault: str, message: str | None = None) -> Json:
        return {"error": {"code": 400, "message": message or fault, "status": "UNAVAILABLE"}}


def told(question: Json) -> str:
    """Return what the model reads of a question."""
    options = [str(c["value"]) for c in question.get("choices", [])] + [
        c["label"] for c in question.get("levels", [])
    ]
    return " ".join([text_of(question["instructions"]), *options])


def decide(question: Json, text: str) -> Json:
    """Return the answer to a question, from what was said to it."""
    text = text.strip()
    if question["type"] == "predicate":
        return {
            "type": "predicate",
            "probability": SURE if text.lower() in {"yes", "true"} else 1 - SURE,
        }
    if question["type"] == "choice":
        values = [choice["value"] for choice in question["choices"]]
        shares = probabilities([str(value) for value in values], text)
        best = max(range(len(values)), key=shares.__getitem__)
        listed = [
            {"value": value, "probability": share}
            for value, share in zip(values, shares, strict=True)
        ]
        return {
            "type": "choice",
            "choice": values[best],
            "confidence": shares[best],
            "probabilities": listed,
        }
    labels = [level["label"] for level in question["levels"]]
    shares = probabilities(labels, text)
    levels = [
        {"label": label, "value": at, "probability": shares[at]} for at, label in enumerate(labels)
    ]
    score = sum(at * share for at, share in enumerate(shares))
    return {"type": "score", "score": score, "confidence": max(shares), "probabilities": levels}


def probabilities(options: list[str], text: str) -> list[float]:
    """Return 0.9 for the option that was said, and an equal share of the rest for each other."""
    if text not in options:
        return [1 / len(options)] * len(options)
    return [SURE if option == text else (1 - SURE) / (len(options) - 1) for option in options]
