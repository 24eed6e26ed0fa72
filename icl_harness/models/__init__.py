"""Models by id, `provider/name`. The seam is in `base`; each provider has one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from icl_harness.errors import ModelError, SpecError, nearest
from icl_harness.models.api.terms import Terms
from icl_harness.models.base import KvCache, Model

PROVIDERS = {
    "demo": "the bundled model: 'demo'",
    "hf": "a transformers causal model: 'hf/<folder or hub id>'",
    "vllm": "a causal model on vLLM, extra vllm: 'vllm/<folder or hub id>'",
    "openai": "OpenAI, or any compatible server with --base-url: 'openai/<model>'",
    "anthropic": "Anthropic: 'anthropic/<model>'",
    "google": "Gemini: 'google/<model>'",
    "baseline": "a reference learner: 'baseline/majority', '…/knn', '…/logreg', '…/bayes', '…/ceiling'",
}
APIS = ("openai/", "anthropic/", "google/")
MAKERS = {
    "gpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "claude": "anthropic",
    "gemini": "google",
}
DEMO_FOLDER = Path(__file__).resolve().parent.parent / "demo_model"


def open_model(
    model_id: str,
    *,
    base_url: str | None = None,
    model_args: Mapping[str, str] | None = None,
    learner: Callable[..., Any] | None = None,
    kv_cache: KvCache | None = None,
    terms: Terms | None = None,
) -> Model:
    """Open a model by its id. `learner` is the task's exact learner, for `baseline/bayes` and
    `baseline/ceiling`; `kv_cache` is for `demo` and `hf/…`, `terms` are those on which APIs are
    asked.

    Raises `ModelError`: unknown id (lists what there is), no key, a path that is no model.
    """
    provider, _, name = model_id.partition("/")
    if provider not in PROVIDERS or (not name) != (provider == "demo"):
        known = "; ".join(PROVIDERS.values())
        maker = next((maker for start, maker in MAKERS.items() if model_id.startswith(start)), None)
        meant = f" Is it {maker}/{model_id}?" if maker else nearest(provider, PROVIDERS)
        raise ModelError(f"unknown model {model_id!r}.{meant} There are: {known}.")
    args = dict(model_args or {})
    for reserved in {"id", "name", "base_url", "kv_cache", "terms"} & set(args):
        raise ModelError(
            f"--model-arg {reserved}: not an argument; the model is named by --model, a server by --base-url."
        )
    if terms is not None and terms.batch and provider not in ("openai", "anthropic", "google"):
        raise SpecError(
            f"{model_id} takes no batches: they are a way to ask APIs. Leave --batch out."
        )
    if provider == "baseline":
        from icl_harness.models.baseline import open_baseline

        return open_baseline(name, id=model_id, learner=learner)
    if provider in ("demo", "hf"):
        from icl_harness.models.hf import HfModel

        return HfModel(
            str(DEMO_FOLDER) if provider == "demo" else name, id=model_id, kv_cache=kv_cache, **args
        )
    if provider == "vllm":
        from icl_harness.models.vllm import VllmModel

        return VllmModel(name, id=model_id, **args)
    return _open_api(provider, name, model_id, args, base_url=base_url, terms=terms)


def _open_api(provider: str, name: str, id: str, args: dict[str, Any], **how: Any) -> Model:
    if provider == "openai":
        model: Model = _openai(args.pop("api", "chat"))(name, id=id, **how, **args)
        return model
    if provider == "anthropic":
        from icl_harness.models.anthropic.messages import AnthropicModel

        return AnthropicModel(name, id=id, **how, **args)
    sdk = args.pop("sdk", "genai")
    if sdk == "legacy":
        from icl_harness.models.google.legacy import GoogleLegacyModel

        return GoogleLegacyModel(name, id=id, **how, **args)
    if sdk != "genai":
        raise ModelError(
            f"--model-arg sdk={sdk}: unknown. Google has sdk=genai (the default) and sdk=legacy."
        )
    from icl_harness.models.google.gemini import GoogleModel

    return GoogleModel(name, id=id, **how, **args)


def _openai(api: str) -> Any:
    """Return the class that speaks one of OpenAI's ways to ask a model."""
    if api == "chat":
        from icl_harness.models.openai.chat import OpenAIModel

        return OpenAIModel
    if api == "responses":
        from icl_harness.models.openai.responses import OpenAIResponsesModel

        return OpenAIResponsesModel
    if api == "completions":
        from icl_harness.models.openai.completions import OpenAICompletionsModel

        return OpenAICompletionsModel
    raise ModelError(
        f"--model-arg api={api}: unknown. There are api=chat (the default), responses and completions."
    )
