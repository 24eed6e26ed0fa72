"""OpenAI's forms: chat completions, responses, completions, and what they refuse. Decisions are in
decisions.py.

In: a request's body. Out: its blocks, the plan of its caches, its answer or error as the official
SDK reads them. Left out: tools, images, streams, stored responses, log-probabilities of chat.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, ClassVar

from tests.servers.accounts import Plan
from tests.servers.wire import Block, Json, Made, Refused, Request, Wire

REASONING = re.compile(r"o\d|gpt-[5-9]")
MIN_OUTPUT = 16  # of responses


def text_of(content: Any) -> str:
    """Return the text of a content: a string, or a list of parts."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


class OpenAIWire(Wire):
    """Chat completions."""

    name = "openai"
    path = re.compile(r"/v1/chat/completions")
    messages_field = "messages"
    unsupported: ClassVar[tuple[str, ...]] = (
        "temperature",
        "stop",
        "max_tokens",
    )  # by reasoning models
    errors: ClassVar = {
        "overflow": (
            "context_length_exceeded",
            "This model's maximum context length is 8192 tokens.",
        ),
        "invalid": ("invalid_value", "Invalid value."),
        "string": ("string_above_max_length", "String too long."),
        "auth": ("invalid_api_key", "Incorrect API key provided: {key}."),
        "billing": ("billing_not_active", "Your account is not active."),
        "forbidden": ("unsupported_country_region_territory", "Country not supported."),
        "missing": ("not_found", "There is no such object."),
        "model": ("model_not_found", "The model `nosuch` does not exist."),
        "too large": ("file_too_large", "The file is too large."),
        "rate": ("rate_limit_exceeded", "Rate limit reached."),
        "quota": ("insufficient_quota", "You exceeded your current quota."),
    }

    def blocks(self, body: Json) -> list[Block]:
        return self.message_blocks(body, body["messages"])

    def message_blocks(self, body: Json, messages: list[Json], first: int = 0) -> list[Block]:
        """Return a block for each part of each message."""
        ttl = (body.get("prompt_cache_options") or {}).get("ttl", "30m")
        blocks = []
        for at, message in enumerate(messages, first):
            content = message["content"]
            parts: list[Json] = [{"text": content}] if isinstance(content, str) else content
            for part in parts:
                mark = part.get("prompt_cache_breakpoint")
                blocks.append(
                    Block(part["text"], message["role"], mark and mark.get("ttl", ttl), at)
                )
        return blocks

    def check(self, request: Request) -> None:
        body = request.body
        for name in self.unsupported:
            if REASONING.match(request.model) and name in body:
                raise Refused(
                    "invalid", f"Unsupported parameter: {name!r} is not supported with this model."
                )
        if len(self.limits(body)[1]) > 4:
            raise Refused("invalid", "At most 4 stop sequences.")
        longest = max((len(part) for part in request.parts), default=0)
        if longest > self.server.max_string:
            where, limit = self.messages_field, self.server.max_string
            raise Refused(
                "string",
                f"Invalid '{where}[0].content': string too long. Expected a string with maximum "
                f"length {limit}, but got a string with length {longest} instead.",
            )
        marked = "prompt_cache_options" in body or any(block.ttl for block in request.blocks)
        if marked and not self.server.explicit_models.match(request.model):
            raise Refused("invalid", "Prompt cache breakpoints are not supported with this model.")

    def too_long(self, n: int, window: int) -> str:
        return (
            f"This model's maximum context length is {window} tokens. However, your messages "
            f"resulted in {n} tokens."
        )

    def plan(self, request: Request) -> Plan:
        body, ledger = request.body, self.server.ledger
        key = body.get("prompt_cache_key")
        if not self.server.explicit_models.match(request.model):
            return ledger.openai_automatic(request.model, key, request.blocks)
        options = body.get("prompt_cache_options") or {}
        mode, ttl = options.get("mode") or "implicit", options.get("ttl", "30m")
        return ledger.openai_explicit(request.model, key, request.blocks, mode, ttl)

    def limits(self, body: Json) -> tuple[int, list[str]]:
        stop = body.get("stop") or []
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or 2**31
        return limit, [stop] if isinstance(stop, str) else stop

    def thinks(self, body: Json) -> bool:
        return body.get("reasoning_effort") != "none"

    def answer(self, made: Made, body: Json) -> Json:
        refused = made.finish == "refused"
        message = {"role": "assistant", "content": made.text or None, "refusal": None}
        if refused:
            message.update(content=None, refusal=made.text)
        finish = {"filtered": "content_filter", "refused": "stop"}.get(made.finish, made.finish)
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        head = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
        }
        return {**head, "choices": [choice], "usage": self.usage(made)}

    def usage(self, made: Made) -> Json:
        """Return the usage as completions report it."""
        n_out = made.n_text + made.n_reasoning
        return {
            "prompt_tokens": made.n_prompt,
            "completion_tokens": n_out,
            "total_tokens": made.n_prompt + n_out,
            "prompt_tokens_details": {
                "cached_tokens": made.n_cached,
                "cache_write_tokens": sum(made.writes.values()),
            },
            "completion_tokens_details": {"reasoning_tokens": made.n_reasoning},
        }

    def error(self, fault: str, message: str | None = None) -> Json:
        code, text = self.errors.get(fault, ("server_error", "The server had an error."))
        return {
            "error": {
                "message": message or text,
                "type": "invalid_request_error",
                "param": None,
                "code": code,
            }
        }


class ResponsesWire(OpenAIWire):
    """Responses."""

    path = re.compile(r"/v1/responses")
    messages_field = "input"
    unsupported: ClassVar[tuple[str, ...]] = ("temperature",)

    def blocks(self, body: Json) -> list[Block]:
        given = body["input"]
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
        system = [Block(body["instructions"], "system")] if body.get("instructions") else []
        return system + self.message_blocks(body, messages, first=len(system))

    def check(self, request: Request) -> None:
        for name in (
            "messages",
            "stop",
            "seed",
            "max_tokens",
            "max_completion_tokens",
            "reasoning_effort",
        ):
            if name in request.body:
                raise Refused("invalid", f"Unknown parameter: {name!r}.")
        for block in request.body["input"] if isinstance(request.body["input"], list) else []:
            kind = "output_text" if block["role"] == "assistant" else "input_text"
            if isinstance(block["content"], list) and any(
                part["type"] != kind for part in block["content"]
            ):
                raise Refused(
                    "invalid", f"Invalid value: a part of a message of {block['role']} is {kind!r}."
                )
        limit = self.limits(request.body)[0]
        if limit < MIN_OUTPUT:
            raise Refused(
                "invalid",
                f"Invalid 'max_output_tokens': expected a value >= {MIN_OUTPUT}, got {limit}.",
            )
        super().check(request)

    def limits(self, body: Json) -> tuple[int, list[str]]:
        return body.get("max_output_tokens") or 2**31, []

    def thinks(self, body: Json) -> bool:
        return (body.get("reasoning") or {}).get("effort") != "none"

    def answer(self, made: Made, body: Json) -> Json:
        why = {"length": "max_output_tokens", "filtered": "content_filter"}.get(made.finish)
        status = "incomplete" if why else "completed"
        output: list[Json] = []
        if made.n_reasoning:
            output.append({"id": "rs_1", "type": "reasoning", "summary": []})
        if made.text:
            content: Json = {
                "type": "output_text",
                "text": made.text,
                "annotations": [],
                "logprobs": [],
            }
            if made.finish == "refused":
                content = {"type": "refusal", "refusal": made.text}
            head = {"id": "msg_1", "type": "message", "role": "assistant", "status": status}
            output.append({**head, "content": [content]})
        name = self.server.new_id("resp_")
        return {
            "id": name, "prompt_cache_diagnostics": self.diagnostics(made, body, name),
            "object": "response", "created_at": 0, "model": body["model"],
            "status": status,
            "error": None, "incomplete_details": {"reason": why} if why else None, "output": output,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
            "temperature": body.get("temperature"),
            "reasoning": body.get("reasoning"), "prompt_cache_key": body.get("prompt_cache_key"),
            "usage": responses_usage(made),
        }  # fmt: skip

    def diagnostics(self, made: Made, body: Json, name: str) -> Json | None:
        """Return what differs from the response that a request is to be compared with."""
        prints = self.server.fingerprints
        if self.server.keep_bodies:
            prints[name] = body
        named = (body.get("prompt_cache_options") or {}).get("comparison_response_id")
        if named is None:
            return None
        if named not in prints:
            return {"type": "comparison_response_not_found"}
        for field in ("model", "prompt_cache_key", "input"):
            if prints[named].get(field) != body.get(field):
                reason = f"{field}_changed"
                return {
                    "type": "cache_miss",
                    "reason": reason,
                    "cache_missed_tokens": made.n_prompt,
                }
        return {"type": "cache_hit"}


def responses_usage(made: Made) -> Json:
    """Return the usage as responses and decisions report it."""
    n_out = made.n_text + made.n_reasoning
    written = {f"ttl_{ttl}_tokens": made.writes.get(ttl, 0) for ttl in ("30m", "12h")}
    details = {"cached_tokens": made.n_cached, "cache_write_tokens": sum(made.writes.values())}
    return {
        "input_tokens": made.n_prompt,
        "input_tokens_details": {**details, "cache_write_tokens_details": written},
        "output_tokens": n_out,
        "output_tokens_details": {"reasoning_tokens": made.n_reasoning},
        "total_tokens": made.n_prompt + n_out,
    }


class CompletionsWire(OpenAIWire):
    """Completions: a prompt or several, as text or as token ids; with `echo` and `logprobs` those
    of the prompt too.
    """

    path = re.compile(r"/v1/completions")
    messages_field = "prompt"

    def prompt_tokens(self, body: Json) -> list[list[str]]:
        """Return each prompt's tokens: its words with the space before them, or its ids decoded one
        by one.
        """
        given = body["prompt"]
        several = isinstance(given, list) and given and not isinstance(given[0], int)
        decode = self.server.decode
        return [
            pieces(p) if isinstance(p, str) else [decode([i]) for i in p]
            for p in (given if several else [given])
        ]

    def blocks(self, body: Json) -> list[Block]:
        return [
            Block("".join(tokens), message=at) for at, tokens in enumerate(self.prompt_tokens(body))
        ]

    def prompts(self, request: Request) -> list[str]:
        return request.parts

    def limits(self, body: Json) -> tuple[int, list[str]]:
        stop = body.get("stop") or []
        return 16 if body.get("max_tokens") is None else body["max_tokens"], [stop] if isinstance(
            stop, str
        ) else stop

    def thinks(self, body: Json) -> bool:
        return False

    def answer(self, made: Made, body: Json) -> Json:
        choices = []
        prompts = self.prompt_tokens(body)
        for at, (tokens, (text, finish)) in enumerate(zip(prompts, made.said, strict=True)):
            shown = tokens if body.get("echo") else []
            finish = {"filtered": "content_filter", "refused": "stop"}.get(finish, finish)
            logprobs = None
            if body.get("logprobs") is not None:
                before = "" if body.get("echo") else "".join(tokens)
                logprobs = self.logprobs(before, shown + pieces(text), body["logprobs"])
            whole = "".join(shown) + text
            choices.append(
                {"index": at, "text": whole, "finish_reason": finish, "logprobs": logprobs}
            )
        head = {"id": "cmpl-1", "object": "text_completion", "created": 0, "model": body["model"]}
        return {**head, "choices": choices, "usage": self.usage(made)}

    def logprobs(self, before: str, tokens: list[str], n_top: int) -> Json:
        """Return each token's log-probability; the very first has none."""
        values: list[float | None] = []
        offsets = []
        for token in tokens:
            offsets.append(len(before))
            values.append(self.server.logprob(before, token) if before else None)
            before += token
        tops = [
            None if value is None or not n_top else {t: value}
            for t, value in zip(tokens, values, strict=True)
        ]
        return {
            "tokens": tokens,
            "token_logprobs": values,
            "top_logprobs": tops,
            "text_offset": offsets,
        }


def pieces(text: str) -> list[str]:
    """Return a text's tokens: words with the white space before them."""
    return re.findall(r"\s*\S+|\s+", text)


def hashed_logprob(before: str, token: str) -> float:
    """Return a log-probability between -8 and 0 that depends on the token and on the end of what is
    before it.
    """
    digest = hashlib.sha1(f"{before[-64:]}\0{token}".encode(errors="surrogatepass")).digest()
    return -8 * (digest[0] + 1) / 256
