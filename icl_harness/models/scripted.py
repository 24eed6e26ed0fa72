"""A model whose answers come from a function: for tests, and to see a run's prompts before paying
for them.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import replace
from types import CellType
from typing import Any

from icl_harness.errors import AccountError, ContextOverflow, ProviderError, SpecError
from icl_harness.examples import shown
from icl_harness.models.answer_text import answered
from icl_harness.models.base import Answer, Capabilities, Model, Sampling, Status, Usage
from icl_harness.prompts.tree import Node, Prompt, Query

EMPTY = CellType()  # of a variable that has no value yet


class ScriptedModel(Model):
    """Answers `reply(prompt)`. A reply that raises a `ProviderError` is a failed request.

    Tokens are counted as whitespace-separated words. Not a language model: it neither samples nor
    caches.
    """

    def __init__(
        self,
        reply: Callable[[Prompt], str],
        *,
        id: str = "scripted",
        context_window: int | None = None,
    ) -> None:
        self.id = id
        self.reply = reply
        self._about = {"reply": function_hash(reply)}
        self.capabilities = Capabilities(context_window=context_window)

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield one answer at a time, in the order of the queries."""
        words = len(node.text.split())
        for query in queries:
            try:
                text = self._replied(Prompt(node, query))
                blank = Answer(query_id=query.id, sample=query.sample, text="", latency_s=0.0)
                found = answered(blank, text, sampling.stop)
            except AccountError:
                raise
            except ProviderError as error:
                status: Status = "overflow" if isinstance(error, ContextOverflow) else "failed"
                yield [
                    Answer(query_id=query.id, sample=query.sample, status=status, error=str(error))
                ]
                continue
            usage = Usage(
                prompt_tokens=words + len(query.tail.split()),
                cached_tokens=0,
                completion_tokens=len((found.text or "").split()),
            )
            yield [replace(found, usage=usage)]

    def _replied(self, prompt: Prompt) -> str:
        text = self.reply(prompt)
        if not isinstance(text, str):
            raise SpecError(
                f"the function that answers for {self.id} returned {shown(text)}; it must return a"
                " text."
            )
        return text

    def count_tokens(self, node: Node, query: str = "") -> int | None:
        """Return the words of the prefix plus those of `query`."""
        return len(node.text.split()) + len(query.split())

    def describe(self) -> dict[str, Any]:
        """Return the hash of what answers, so that a resumed run knows another."""
        return dict(self._about)


class PromptText(str):
    """A whole prompt as a text, and `query` and `node`, which it is made of."""

    query: Query
    node: Node

    @classmethod
    def of(cls, prompt: Prompt) -> PromptText:
        """Return the text of a prompt."""
        text = cls(prompt.text)
        text.query, text.node = prompt.query, prompt.node
        return text

    @property
    def text(self) -> str:
        """Return the text: so that a function reads a `Prompt` and this alike."""
        return str(self)


def function_model(reply: Callable[[PromptText], str], id: str) -> ScriptedModel:
    """Return the model that answers each prompt with what a function returns for its text."""
    model = ScriptedModel(lambda prompt: reply(PromptText.of(prompt)), id=id)
    model._about = {"function": function_hash(reply)}
    return model


def function_hash(function: Callable[..., Any]) -> str:
    """Return the hash of a function's source, and of the numbers and texts that it was made with;
    what it calls is left out.
    """
    parts: list[Any] = []
    while isinstance(function, functools.partial):
        parts.append(_plain([*function.args, *function.keywords.items()]))
        function = function.func
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    try:
        parts.append(inspect.getsource(function if code is not None else type(function)))
    except (OSError, TypeError):  # typed at a prompt, or built in
        parts.append(repr(type(function)) if code is None else code.co_code.hex())
    if code is not None:  # tells two functions on one line apart
        parts += [code.co_names, _plain(code.co_consts)]
    cells = getattr(function, "__closure__", None) or ()
    parts.append(_plain([cell.cell_contents for cell in cells if cell != EMPTY]))
    parts.append(_plain(getattr(function, "__defaults__", None) or ()))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _plain(values: Iterable[Any]) -> list[str]:
    """Return what can be told of values from one process to the next."""
    return [repr(one) if isinstance(one, str | int | float | bool) else "" for one in values]
