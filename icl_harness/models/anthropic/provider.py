"""Anthropic."""

from __future__ import annotations

from icl_harness.models.base import Model
from icl_harness.models.provider import Opening, Provider


def open_model(opening: Opening) -> Model:
    """Open a model behind Anthropic's messages."""
    from icl_harness.models.anthropic.messages import AnthropicModel

    return AnthropicModel(
        opening.name,
        id=opening.id,
        base_url=opening.base_url,
        terms=opening.terms,
        **opening.model_args,
    )


PROVIDERS = (
    Provider(
        name="anthropic",
        about="Anthropic: 'anthropic/<model>'",
        open=open_model,
        is_api=True,
        own_models=("claude",),
        key_names=("ANTHROPIC_API_KEY",),
    ),
)
