"""What a provider of models says of itself: one record, in `provider.py` of the provider's folder.

In: nothing; importing the record imports no SDK. Out: how a model id is opened, and what must be
known of it before it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from icl_harness.models.base import KvCache, Model

if TYPE_CHECKING:
    from icl_harness.models.api.terms import Terms


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a model is opened with: its name at the provider, its whole id, and the user's options.
    `learner` is the task's exact learner.
    """

    name: str
    id: str
    base_url: str | None = None
    model_args: dict[str, str] = field(default_factory=dict)
    learner: Callable[..., Any] | None = None
    kv_cache: KvCache | None = None
    terms: Terms | None = None


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A provider.

    `about` is shown beside the others where an id is unknown. `is_api`: its answers come from a
    server, at a price, and `--base-url`, rates and batches are for it. `is_local`: its weights are
    in the process that asks, which can be replicated. `fine_tunes`: it is trained on the shots and
    asked without them. `takes_name`: its id is `name/…`, not `name`
    alone. `own_models`: how the names of its models begin, to guess what a user meant. `key_names`:
    the environment variables that its key is looked for in.
    """

    name: str
    about: str
    open: Callable[[Opening], Model]
    is_api: bool = False
    is_local: bool = False
    fine_tunes: bool = False
    takes_name: bool = True
    own_models: tuple[str, ...] = ()
    key_names: tuple[str, ...] = ()
