"""OpenAI, and any server that speaks as it does."""

from __future__ import annotations

from collections.abc import Callable

from icl_harness.errors import ModelError
from icl_harness.models.base import Model
from icl_harness.models.provider import Opening, Provider


def open_model(opening: Opening) -> Model:
    """Open a model by one of OpenAI's ways to ask it."""
    args = dict(opening.model_args)
    api = args.pop("api", "chat")
    chosen: Callable[..., Model]
    if api == "chat":
        from icl_harness.models.openai.chat import OpenAIModel

        chosen = OpenAIModel
    elif api == "responses":
        from icl_harness.models.openai.responses import OpenAIResponsesModel

        chosen = OpenAIResponsesModel
    elif api == "completions":
        from icl_harness.models.openai.completions import OpenAICompletionsModel

        chosen = OpenAICompletionsModel
    else:
        raise ModelError(
            f"--model-arg api={api}: unknown. There are api=chat (the default), responses and "
            "completions."
        )
    return chosen(
        opening.name, id=opening.id, base_url=opening.base_url, terms=opening.terms, **args
    )


PROVIDERS = (
    Provider(
        name="openai",
        about="OpenAI, or any compatible server with --base-url: 'openai/<model>'",
        open=open_model,
        is_api=True,
        own_models=("gpt-", "o1", "o3", "o4"),
        key_names=("OPENAI_API_KEY",),
    ),
)
