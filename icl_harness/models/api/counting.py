"""How many tokens a prompt has, counted before it is asked.

In: a model, nodes, and the texts of the queries behind each. Out: a `Count`, and how it came about:
by the model's own tokenizer where that is here (local models, tiktoken), by the provider's counting
endpoint where there is a key, by an estimate elsewhere. The endpoint is asked once per node, with
one query behind it, as a prompt of shots alone may be refused; the other queries are estimated from
the tokens that a byte took. No model is ever asked for an answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from icl_harness.errors import AccountError, ProviderError
from icl_harness.models.api.asks import missing_answer, persist
from icl_harness.models.api.backend import BYTES_PER_TOKEN, ApiModel
from icl_harness.models.api.body import HOLE, turns
from icl_harness.models.api.caching import Prefix, prefix_of
from icl_harness.models.api.faults import Fault
from icl_harness.models.base import Model
from icl_harness.prompts.tree import Node, Query

ESTIMATE = f"estimate: {BYTES_PER_TOKEN} bytes a token"
COUNTED = "counted by the provider"
TRIES = 3  # at the endpoint: a plan is no reason to wait long
Turns = list[tuple[str, list[str]]]  # a role and the texts of its turn


@dataclass(frozen=True, kw_only=True)
class Count:
    """The tokens of a node and of each text behind it. `how` they were counted is one of a few
    words.
    """

    prefix: int
    queries: tuple[int, ...]
    how: str

    @property
    def estimated(self) -> bool:
        """Whether nothing counted them."""
        return self.how.startswith("estimate")


class Counter:
    """Counts the nodes of one model, each once. `notes` say why an endpoint was not used after all."""

    def __init__(self, model: Model) -> None:
        self.notes: list[str] = []
        self._model = model
        self._texts: dict[str, int] = {}  # of a query, where a tokenizer counts them
        self._per_byte: dict[str, float] = {}  # by the node's hash, where the endpoint does
        endpoint = (
            ENDPOINTS.get(model.sdk[0]) if isinstance(model, ApiModel) and model.key else None
        )
        self._endpoint = endpoint if _is_served(model) else None

    async def count(self, node: Node, texts: Sequence[str]) -> Count | None:
        """Return the tokens; None for a model that knows no tokens. Raises `AccountError` for a key
        that is refused.
        """
        counted = self._by_tokenizer(node, texts)
        if counted is not None or not isinstance(self._model, ApiModel):
            return counted
        if node.hash not in self._per_byte and self._endpoint is not None and texts:
            await self._ask(node, texts[0])
        per_byte = self._per_byte.get(node.hash)
        how = ESTIMATE if per_byte is None else COUNTED
        rate = 1 / BYTES_PER_TOKEN if per_byte is None else per_byte
        queries = tuple(round(len(text.encode()) * rate) for text in texts)
        return Count(prefix=round(node.n_bytes * rate), queries=queries, how=how)

    def _by_tokenizer(self, node: Node, texts: Sequence[str]) -> Count | None:
        model = self._model
        count: Callable[..., int | None] = (
            model.exact_tokens if isinstance(model, ApiModel) else model.count_tokens
        )
        prefix = count(node)
        if prefix is None:
            return None
        for text in texts:
            if text not in self._texts:
                self._texts[text] = (count(node, text) or prefix) - prefix
        queries = tuple(self._texts[text] for text in texts)
        return Count(prefix=prefix, queries=queries, how=model.counts_by)

    async def _ask(self, node: Node, text: str) -> None:
        """Take note of the provider's count; where it gives none, it is not asked again."""
        model, endpoint = self._model, self._endpoint
        assert isinstance(model, ApiModel)
        assert endpoint is not None
        prompt = _turns(prefix_of(node, cached=False), text)

        async def once(slot: Any) -> int:
            try:
                n = await endpoint(model, prompt)
            except (AttributeError, TypeError) as error:  # SDKs give a page of HTML as a text
                raise Fault(f"malformed body: {error}") from None
            if not isinstance(n, int) or n < 1:
                raise Fault("malformed body: no count of tokens")
            model.reached = True
            return n

        try:
            n = await persist(model, once, tries=TRIES)
        except AccountError:
            raise
        except (Fault, ProviderError) as error:
            if isinstance(error, Fault) and error.fate == "account" and error.status != 404:
                missing_answer(model, Query(id="", text=""), error)  # raises
            told = error.describe(model.key) if isinstance(error, Fault) else str(error)
            if self._endpoint is not None:
                self.notes.append(f"{model.id}: tokens are estimated, as counting failed: {told}")
            self._endpoint = None
            return
        self._per_byte[node.hash] = n / max(1, node.n_bytes + len(text.encode()))


def _is_served(model: Model) -> bool:
    """Whether the provider counts for this model: OpenAI for its own ones alone."""
    return getattr(model, "is_own", True)


def _turns(prefix: Prefix, query: str) -> Turns:
    return [
        (
            role,
            [query if text == HOLE else text for _, text in texts if text != HOLE or query.strip()],
        )
        for role, texts in turns(prefix.pieces)
    ]


async def _anthropic(model: ApiModel, prompt: Turns) -> Any:
    import anthropic

    def blocks(texts: list[str]) -> list[Any]:
        return [{"type": "text", "text": text} for text in texts]

    system: Any = next(
        (blocks(texts) for role, texts in prompt if role == "system"), anthropic.omit
    )
    messages: list[Any] = [
        {"role": r, "content": blocks(texts)} for r, texts in prompt if r != "system" and texts
    ]
    try:
        told = await model.connected().messages.count_tokens(
            model=model.name, messages=messages, system=system
        )
    except (anthropic.AnthropicError, ValueError) as error:
        raise _fault(error) from None
    return told.input_tokens


async def _openai(model: ApiModel, prompt: Turns) -> Any:
    import openai

    def parts(role: str, texts: list[str]) -> list[Any]:
        return [
            {"type": "output_text" if role == "assistant" else "input_text", "text": text}
            for text in texts
        ]

    messages: list[Any] = [
        {"role": role, "content": parts(role, texts)} for role, texts in prompt if texts
    ]
    try:
        told = await model.connected().responses.input_tokens.count(
            model=model.name, input=messages
        )
    except (openai.OpenAIError, ValueError) as error:
        raise _fault(error) from None
    return told.input_tokens


async def _google(model: ApiModel, prompt: Turns) -> Any:
    from icl_harness.models.google.caches import faults

    # What the system says is counted as if the user said it: this endpoint takes it in no other
    # way.
    roles = {"assistant": "model"}
    contents: list[Any] = [
        {"role": roles.get(role, "user"), "parts": [{"text": text} for text in texts]}
        for role, texts in prompt
        if texts
    ]
    with faults():
        told = await model.connected()[0].aio.models.count_tokens(
            model=model.name, contents=contents
        )
    return told.total_tokens


def _fault(error: Any) -> Fault:
    """Read what the SDKs of OpenAI and of Anthropic raise."""
    if getattr(error, "status_code", None) is None:  # no response; or one that is no JSON
        return Fault.from_exception(error)
    return Fault.from_body(error.status_code, error.body, error.message, error.response.headers)


ENDPOINTS: dict[str, Callable[[ApiModel, Turns], Awaitable[Any]]] = {  # by the SDK's module
    "anthropic": _anthropic, "openai": _openai, "google.genai": _google,
}  # fmt: skip
