"""Gemini's generateContent and its cached contents, and what they refuse.

In: a request's body, with the rest of a prompt where it names a cached content. Out: its blocks,
the plan of its caches, its answer or error as the official SDKs read them. Left out: tools, images,
streams, implicit caching.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from tests.servers.accounts import Plan
from tests.servers.wire import STATUS, Block, Json, Made, Refused, Request, Wire

V1 = r"/v1(?:beta)?/"
QUOTAS = {
    fault: {"quotaId": f"GenerateRequestsPer{of}PerProjectPerModel", "quotaValue": "9"}
    for fault, of in (("rate", "Minute"), ("quota", "Day"))
}


@dataclass
class CachedContent:
    """A cached content; `expires` by the server's clock."""

    name: str
    model: str
    blocks: list[Block]
    n_tokens: int
    created: float
    expires: float
    display_name: str | None = None


def get(body: Json, name: str, default: Any = None) -> Any:
    """Return a field in either of its spellings, as Google reads them: maxOutputTokens or
    max_output_tokens.
    """
    if name in body:
        return body[name]
    return body.get(re.sub(r"[A-Z]", lambda match: "_" + match[0].lower(), name), default)


def contents_of(body: Json) -> list[Block]:
    """Return the blocks of a system instruction and contents."""
    system = get(body, "systemInstruction")
    contents = ([{**system, "role": "system"}] if system else []) + (get(body, "contents") or [])
    return [
        Block(part["text"], content.get("role", "user"), message=at)
        for at, content in enumerate(contents)
        for part in content["parts"]
    ]


class GeminiWire(Wire):
    """generateContent."""

    name = "google"
    path = re.compile(V1 + r"models/[^/]+:generateContent")
    errors: ClassVar = {
        "overflow": (
            "INVALID_ARGUMENT",
            "The input token count (9) exceeds the maximum number of tokens allowed (8).",
        ),
        "invalid": ("INVALID_ARGUMENT", "Request contains an invalid argument."),
        "too large": ("INVALID_ARGUMENT", "Request payload size exceeds the limit."),
        "auth": ("UNAUTHENTICATED", "Request had invalid credentials {key}."),
        "billing": ("FAILED_PRECONDITION", "Billing is not enabled."),
        "forbidden": ("PERMISSION_DENIED", "Permission denied."),
        "cache": ("PERMISSION_DENIED", "CachedContent not found (or permission denied)"),
        "missing": ("NOT_FOUND", "Requested entity was not found."),
        "model": ("NOT_FOUND", "models/nosuch is not found."),
        "rate": ("RESOURCE_EXHAUSTED", "You exceeded your current quota."),
        "quota": ("RESOURCE_EXHAUSTED", "You exceeded your current quota."),
        "503": ("UNAVAILABLE", "The model is overloaded."),
    }

    def key(self, headers: dict[str, str]) -> str | None:
        return headers.get("x-goog-api-key")

    def model(self, path: str, body: Json) -> str:
        return path.rpartition("models/")[2].partition(":")[0]

    def blocks(self, body: Json) -> list[Block]:
        blocks = contents_of(body)
        if not (name := get(body, "cachedContent")):
            return blocks
        cached = self.server.cached_content(name).blocks
        shift = cached[-1].message + 1
        # A content of the same role goes on where the cached one ends, so that the prompt reads as
        # if sent whole.
        shift -= blocks[0].role == cached[-1].role if blocks else 0
        return cached + [
            Block(block.text, block.role, None, block.message + shift) for block in blocks
        ]

    def check(self, request: Request) -> None:
        if len(self.limits(request.body)[1]) > 5:
            raise Refused("invalid", "At most 5 stop sequences.")
        if not get(request.body, "contents"):
            raise Refused("invalid", "* GenerateContentRequest.contents: contents is not specified")
        if name := get(request.body, "cachedContent"):
            model = self.server.cached_content(name).model
            if model != request.model:
                raise Refused(
                    "invalid",
                    f"Model used by GenerateContent request (models/{request.model}) and "
                    f"CachedContent (models/{model}) has to be the same.",
                )
            if get(request.body, "systemInstruction"):
                raise Refused(
                    "invalid",
                    "CachedContent can not be used with GenerateContent request setting "
                    "system_instruction, tools or tool_config.",
                )

    @staticmethod
    def too_long(n: int, window: int) -> str:
        return (
            f"The input token count ({n}) exceeds the maximum number of tokens allowed ({window})."
        )

    def plan(self, request: Request) -> Plan:
        name = get(request.body, "cachedContent")
        n_read = self.server.cached_content(name).n_tokens if name else 0
        return Plan(self.server.ledger.total(request.blocks), n_read)

    def limits(self, body: Json) -> tuple[int, list[str]]:
        config = get(body, "generationConfig") or {}
        return get(config, "maxOutputTokens") or 2**31, get(config, "stopSequences") or []

    def thinking(self, body: Json) -> Json:
        """Return the thinking configuration."""
        return get(get(body, "generationConfig") or {}, "thinkingConfig") or {}

    def thinks(self, body: Json) -> bool:
        return bool(get(self.thinking(body), "thinkingBudget", 1))

    def answer(self, made: Made, body: Json) -> Json:
        usage = {
            "promptTokenCount": made.n_prompt,
            "cachedContentTokenCount": made.n_cached,
            "candidatesTokenCount": made.n_text,
            "thoughtsTokenCount": made.n_reasoning,
            "totalTokenCount": made.n_prompt + made.n_text + made.n_reasoning,
        }
        if made.finish == "filtered":
            return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage}
        finish = {"stop": "STOP", "length": "MAX_TOKENS", "refused": "SAFETY"}[made.finish]
        parts: list[Json] = [{"text": made.text}] if made.text else []
        if made.n_reasoning and get(self.thinking(body), "includeThoughts"):
            parts.insert(0, {"text": "Let me think: perhaps red.", "thought": True})
        candidate = {
            "content": {"role": "model", "parts": parts},
            "finishReason": finish,
            "index": 0,
        }
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "loopback"}

    def error(self, fault: str, message: str | None = None) -> Json:
        status, text = self.errors.get(fault, ("INTERNAL", "Internal error."))
        told: Json = {"code": STATUS.get(fault, 400), "message": message or text, "status": status}
        if fault in QUOTAS:  # the message is the same
            violated = {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [QUOTAS[fault]],
            }
            told["details"] = [violated]
        return {"error": told}
