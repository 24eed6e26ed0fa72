"""Models by id, `provider/name`. The seam is in `base`; a provider is a folder here with a record
of itself in `provider.py`, all that must be known of it before one of its models is opened.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from icl_harness.errors import ModelError, SpecError, nearest
from icl_harness.models.base import KvCache, Model
from icl_harness.models.provider import Opening, Provider

if TYPE_CHECKING:
    from icl_harness.models.api.terms import Terms

RESERVED = {"id", "name", "base_url", "kv_cache", "terms"}  # no names of a --model-arg


@functools.cache
def providers() -> dict[str, Provider]:
    """Return the providers by name, those that run here first. No SDK is imported."""
    found: list[Provider] = []
    for folder in pkgutil.iter_modules(__path__, f"{__name__}."):
        record = f"{folder.name}.provider"
        if folder.ispkg and importlib.util.find_spec(record) is not None:
            found += importlib.import_module(record).PROVIDERS
    return {one.name: one for one in sorted(found, key=lambda one: one.is_api)}


def provider_of(model_id: str) -> Provider | None:
    """Return the provider that an id names; None where it names none."""
    return providers().get(model_id.partition("/")[0])


def is_api(model_id: str) -> bool:
    """Whether an id is of a model behind an API."""
    provider = provider_of(model_id)
    return provider is not None and provider.is_api


def api_names() -> list[str]:
    """Return how the ids of models behind APIs begin."""
    return [f"{one.name}/" for one in providers().values() if one.is_api]


def is_local(model_id: str) -> bool:
    """Whether a model is one to replicate: its weights are in the process that asks it."""
    provider = provider_of(model_id)
    return provider is not None and provider.is_local


def fine_tunes(model_id: str) -> bool:
    """Whether a model is trained on the shots and asked without them."""
    provider = provider_of(model_id)
    return provider is not None and provider.fine_tunes


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
    provider, (_, _, name) = provider_of(model_id), model_id.partition("/")
    if provider is None or bool(name) != provider.takes_name:
        raise ModelError(_unknown(model_id))
    for reserved in RESERVED & set(model_args or {}):
        raise ModelError(
            f"--model-arg {reserved}: not an argument; the model is named by --model, a server by "
            "--base-url."
        )
    if terms is not None and terms.batch and not provider.is_api:
        raise SpecError(
            f"{model_id} takes no batches: they are a way to ask APIs. Leave --batch out."
        )
    return provider.open(
        Opening(
            name=name,
            id=model_id,
            base_url=base_url,
            model_args=dict(model_args or {}),
            learner=learner,
            kv_cache=kv_cache,
            terms=terms,
        )
    )


def _unknown(model_id: str) -> str:
    """Return what to say of an id that no provider opens."""
    known = "; ".join(one.about for one in providers().values())
    makers = [one.name for one in providers().values() if model_id.startswith(one.own_models)]
    meant = nearest(model_id.partition("/")[0], providers())
    if makers:
        meant = f" Is it {makers[0]}/{model_id}?"
    return f"unknown model {model_id!r}.{meant} There are: {known}."
