"""Anthropic's messages, and what they refuse.

In: a request's body. Out: its blocks, the plan of its caches, its answer or error as the official
SDK reads them. Left out: tools, images, streams.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from tests.servers.accounts import Plan
from tests.servers.wire import Block, Json, Made, Refused, Request, Wire

MAX_MARKS = 4
MIN_BUDGET = 1024


class AnthropicWire(Wire):
    """Messages."""

    name = "anthropic"
    path = re.compile(r"/v1/messages")
    errors: ClassVar = {
        "overflow": ("invalid_request_error", "prompt is too long: 213462 tokens > 200000 maximum"),
        "invalid": ("invalid_request_error", "messages: bad."),
        "auth": ("authentication_error", "invalid x-api-key {key}"),
        "billing": ("billing_error", "Payment required."),
        "forbidden": ("permission_error", "Your API key may not use this resource."),
        "missing": ("not_found_error", "Not found."),
        "model": ("not_found_error", "model: nosuch"),
        "too large": ("request_too_large", "Request exceeds the maximum size"),
        "rate": ("rate_limit_error", "Rate limited."),
        "quota": (
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API.",
        ),
        "529": ("overloaded_error", "Overloaded"),
    }

    def blocks(self, body: Json) -> list[Block]:
        blocks = blocks_of(body.get("system") or [], "system", 0)
        for at, message in enumerate(body["messages"], 1):
            blocks += blocks_of(message["content"], message["role"], at)
        if control := body.get("cache_control"):  # of the whole request: at its last block
            blocks[-1].ttl = blocks[-1].ttl or control.get("ttl", "5m")
        return blocks

    def check(self, request: Request) -> None:
        body, blocks = request.body, request.blocks
        if not all(block.text.strip() for block in blocks):
            raise Refused(
                "invalid", "messages: text content blocks must contain non-whitespace text"
            )
        if not all(stop.strip() for stop in self.limits(body)[1]):
            raise Refused(
                "invalid", "stop_sequences: each stop sequence must contain non-whitespace"
            )
        marks = [block.ttl for block in blocks if block.ttl]
        if len(marks) > MAX_MARKS:
            raise Refused(
                "invalid",
                f"A maximum of {MAX_MARKS} blocks with cache_control may be provided. Found "
                f"{len(marks)}.",
            )
        if sorted(marks) != marks:  # 1h before 5m
            raise Refused(
                "invalid", "a ttl='1h' cache_control block must not come after a ttl='5m' one"
            )
        thinking = body.get("thinking") or {}
        if thinking.get("type") == "enabled":
            if not MIN_BUDGET <= thinking["budget_tokens"] < body["max_tokens"]:
                raise Refused(
                    "invalid", "thinking.budget_tokens: at least 1024, and less than max_tokens"
                )
            if body.get("temperature", 1) != 1:
                raise Refused(
                    "invalid", "`temperature` may only be set to 1 when thinking is enabled."
                )

    def too_long(self, n: int, window: int) -> str:
        return f"prompt is too long: {n} tokens > {window} maximum"

    def plan(self, request: Request) -> Plan:
        return self.server.ledger.anthropic(request.model, request.blocks)

    def limits(self, body: Json) -> tuple[int, list[str]]:
        return body.get("max_tokens", 2**31), body.get("stop_sequences") or []

    def answer(self, made: Made, body: Json) -> Json:
        finish = {"stop": "end_turn", "length": "max_tokens"}.get(made.finish, "refusal")
        usage = {
            "input_tokens": made.n_prompt - made.n_cached - sum(made.writes.values()),
            "cache_read_input_tokens": made.n_cached,
            "cache_creation_input_tokens": sum(made.writes.values()),
            "cache_creation": {
                f"ephemeral_{ttl}_input_tokens": made.writes.get(ttl, 0) for ttl in ("5m", "1h")
            },
            "output_tokens": made.n_text + made.n_reasoning,
            "output_tokens_details": {"thinking_tokens": made.n_reasoning},
            "service_tier": "standard",
        }
        content: list[Json] = [{"type": "text", "text": made.text}] if made.text else []
        if made.n_reasoning and (body.get("thinking") or {}).get("type") in {"enabled", "adaptive"}:
            content.insert(
                0,
                {
                    "type": "thinking",
                    "thinking": "Let me think: perhaps red.",
                    "signature": "c2lnbmVk",
                },
            )
        name = self.server.new_id("msg_")
        head = {
            "id": name,
            "type": "message",
            "role": "assistant",
            "model": body["model"],
        }
        return {
            **head,
            "content": content,
            "stop_reason": finish,
            "stop_sequence": None,
            "usage": usage,
            "diagnostics": self.diagnostics(made, body, name),
        }

    def diagnostics(self, made: Made, body: Json, name: str) -> Json | None:
        """Return what differs from an earlier request that asked; null where nothing does."""
        if "diagnostics" not in body:
            return None
        prints = self.server.fingerprints
        known = prints.get(body["diagnostics"]["previous_message_id"])
        if self.server.keep_bodies:
            prints[name] = body
        if body["diagnostics"]["previous_message_id"] is None:
            return None
        if known is None:
            return {"cache_miss_reason": {"type": "previous_message_not_found"}}
        for field in ("model", "system", "messages"):
            if known.get(field) != body.get(field):
                reason = {"type": f"{field}_changed", "cache_missed_input_tokens": made.n_prompt}
                return {"cache_miss_reason": reason}
        return None

    def error(self, fault: str, message: str | None = None) -> Json:
        kind, text = self.errors.get(fault, ("api_error", "Internal server error"))
        return {
            "type": "error",
            "error": {"type": kind, "message": message or text},
            "request_id": "req_1",
        }


def blocks_of(content: Any, role: str, message: int) -> list[Block]:
    """Return the blocks of a content: a string, or a list of text blocks."""
    if isinstance(content, str):
        return [Block(content, role, message=message)]
    found = []
    for block in content:
        control = block.get("cache_control")
        found.append(Block(block["text"], role, control and (control.get("ttl") or "5m"), message))
    return found
