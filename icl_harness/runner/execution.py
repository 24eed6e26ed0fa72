"""How a run is carried out: nothing here changes what is measured.

In: what the command line or Python gives. Out: a frozen `Execution`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Literal, Self

from pydantic import model_validator

from icl_harness.errors import SpecError
from icl_harness.models import api_names, is_api
from icl_harness.models.api.limiter import Rates
from icl_harness.models.api.terms import Budget, Terms
from icl_harness.models.api.timing import Timing
from icl_harness.models.base import KvCache
from icl_harness.runner.choice_scores import AnyScoring
from icl_harness.settings import Option, Settings, number, option_name, text, whole


class Execution(Settings):
    """How a run is carried out. A run may be resumed with another one.

    `say` is called with what the user should know before the run ends; `timing` is how APIs are
    waited for.
    """

    batch: Annotated[bool, Option("", "APIs: hand requests in as batches, at half the price.")] = (
        False
    )
    rpm: Annotated[
        float | None, number(above=0), Option("N", "APIs: the account's requests a minute.")
    ] = None
    tpm: Annotated[
        float | None, number(above=0), Option("N", "APIs: the account's tokens a minute.")
    ] = None
    max_cost: Annotated[
        float | None,
        number(above=0, unit="dollars"),
        Option("USD", "APIs: refuse to start where prompts alone cost more; stop before it."),
    ] = None
    kv_cache: Annotated[
        str | None,
        text(),
        Option("FOLDER", "demo, hf/: keep keys and values of prompts here for later runs."),
    ] = None
    kv_cache_gb: Annotated[
        float | None, number(above=0), Option("GB", "How much the --kv-cache may hold.", "20")
    ] = None
    workers: Annotated[
        Literal["ray"] | None,
        Option("ray", "Local models: replicas on every machine of a Ray cluster."),
    ] = None
    worker_cpus: Annotated[
        int | None, whole(1), Option("N", "CPUs of a replica.", "1; 0 beside a GPU")
    ] = None
    say: Callable[[str], None] = lambda note: None
    timing: Timing = Timing()

    @model_validator(mode="after")
    def _refuse_idle_options(self) -> Self:
        if self.kv_cache_gb is not None and self.kv_cache is None:
            raise SpecError("--kv-cache-gb limits what --kv-cache keeps, which is not given.")
        if self.worker_cpus is not None and self.workers is None:
            raise SpecError(
                f"--worker-cpus is {self.worker_cpus}; it belongs to --workers ray, which is not"
                " given."
            )
        return self

    def refuse_idle_for(self, models: Iterable[str], scoring: AnyScoring) -> None:
        """Refuse what would do nothing for these models, or cannot be done. Raises `SpecError`."""
        if self.batch and scoring != "generate":
            raise SpecError(
                f"--batch takes answers that are generated, not --scoring {scoring}. Leave one out."
            )
        if any(map(is_api, models)):
            return
        known = ", ".join(api_names())
        for name in ("rpm", "tpm", "max_cost"):
            if getattr(self, name) is not None:
                raise SpecError(
                    f"{option_name(name)} is for models of APIs ({known}), and none is named."
                    " Leave it out."
                )

    def terms(self) -> Terms:
        """Return the terms on which APIs are asked."""
        budget = None if self.max_cost is None else Budget(self.max_cost)
        rates = Rates(rpm=self.rpm, tpm=self.tpm)
        return Terms(rates=rates, budget=budget, batch=self.batch, timing=self.timing, say=self.say)

    def disk_cache(self) -> KvCache | None:
        """Return where local models keep keys and values between runs."""
        if self.kv_cache is None:
            return None
        if self.kv_cache_gb is None:
            return KvCache(folder=self.kv_cache)
        return KvCache(folder=self.kv_cache, most_gb=self.kv_cache_gb)
