"""Helpers of the API tests: the four back ends opened on a loopback server, and asked."""

from __future__ import annotations

import asyncio
import importlib.util

import pytest

from icl_harness.models.anthropic.messages import AnthropicModel
from icl_harness.models.api.model import ApiModel
from icl_harness.models.api.terms import Terms
from icl_harness.models.base import Answer, Sampling
from icl_harness.models.google.gemini import GoogleModel
from icl_harness.models.google.legacy import GoogleLegacyModel
from icl_harness.models.openai.chat import OpenAIModel
from icl_harness.prompts.tree import Node, Query
from tests.quick import QUICK
from tests.servers import LoopbackServer

KEY = "planted-key-0123456789"
CLASSES: dict[str, type[ApiModel]] = {
    "openai": OpenAIModel,
    "anthropic": AnthropicModel,
    "google": GoogleModel,
    "legacy": GoogleLegacyModel,
}
NODE = Node("Answer.\n").child("a -> x\n").child("b -> y\n")
no_legacy = pytest.mark.skipif(
    importlib.util.find_spec("google.generativeai") is None,
    reason="the extra gemini-legacy is not installed",
)
every_sdk = pytest.mark.parametrize(
    "sdk", ["openai", "anthropic", "google", pytest.param("legacy", marks=no_legacy)]
)


def open_model(
    sdk: str,
    server: LoopbackServer,
    name: str = "some-model",
    terms: Terms | None = None,
    **model_args: str,
) -> ApiModel:
    cls = CLASSES[sdk]
    # another test's server that never answers may have been given the port of one that is closed
    args = {"max_retries": "0", "timeout_s": "30", **model_args}
    return cls(
        name,
        id=f"{cls.service.provider}/{name}",
        base_url=server.base_url(cls.service.provider),
        terms=terms or Terms(timing=QUICK),
        **args,
    )


def queries(n: int) -> list[Query]:
    return [Query(id=f"q{i}", text=f"word{i} ->", seed=i) for i in range(n)]


def ask(
    model: ApiModel, n: int = 1, sampling: Sampling | None = None, node: Node = NODE
) -> list[Answer]:
    async def collect() -> list[Answer]:
        try:
            stream = model.answers(node, queries(n), sampling or Sampling())
            return [answer async for answered in stream for answer in answered]
        finally:
            await model.close()

    return asyncio.run(collect())
