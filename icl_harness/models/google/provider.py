"""Google: Gemini, through either of its SDKs."""

from __future__ import annotations

from collections.abc import Callable

from icl_harness.errors import ModelError
from icl_harness.models.base import Model
from icl_harness.models.provider import Opening, Provider


def open_model(opening: Opening) -> Model:
    """Open a model through the SDK that the user chose."""
    args = dict(opening.model_args)
    sdk = args.pop("sdk", "genai")
    chosen: Callable[..., Model]
    if sdk == "genai":
        from icl_harness.models.google.gemini import GoogleModel

        chosen = GoogleModel
    elif sdk == "legacy":
        from icl_harness.models.google.legacy import GoogleLegacyModel

        chosen = GoogleLegacyModel
    else:
        raise ModelError(
            f"--model-arg sdk={sdk}: unknown. Google has sdk=genai (the default) and sdk=legacy."
        )
    return chosen(
        opening.name, id=opening.id, base_url=opening.base_url, terms=opening.terms, **args
    )


PROVIDERS = (
    Provider(
        name="google",
        about="Gemini: 'google/<model>'",
        open=open_model,
        is_api=True,
        own_models=("gemini",),
        key_names=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    ),
)
