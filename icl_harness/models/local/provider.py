"""Models that run in the process that asks them: the bundled one, transformers', vLLM's, and the
reference learners.
"""

from __future__ import annotations

from pathlib import Path

from icl_harness.errors import ModelError
from icl_harness.models.base import Model
from icl_harness.models.provider import Opening, Provider

DEMO_FOLDER = Path(__file__).resolve().parents[2] / "demo_model"


def open_demo(opening: Opening) -> Model:
    """Open the bundled model."""
    from icl_harness.models.hf import HfModel

    return HfModel(str(DEMO_FOLDER), id=opening.id, kv_cache=opening.kv_cache, **opening.model_args)


def open_hf(opening: Opening) -> Model:
    """Open a transformers model by its folder or hub id."""
    from icl_harness.models.hf import HfModel

    return HfModel(opening.name, id=opening.id, kv_cache=opening.kv_cache, **opening.model_args)


def open_vllm(opening: Opening) -> Model:
    """Open a model on vLLM."""
    from icl_harness.models.vllm import VllmModel

    return VllmModel(opening.name, id=opening.id, **opening.model_args)


def open_learner(opening: Opening) -> Model:
    """Open a reference learner."""
    from icl_harness.models.baseline import open_baseline

    return open_baseline(opening.name, id=opening.id, learner=opening.learner)


def open_sft(opening: Opening) -> Model:
    """Open a transformers model that is fine-tuned on the shots. Raises `ModelError` for another
    kind of model.
    """
    from icl_harness.models.sft import SftModel

    kind, _, name = opening.name.partition("/")
    if kind == "demo" and not name:
        name = str(DEMO_FOLDER)
    elif kind != "hf" or not name:
        raise ModelError(
            f"{opening.id} cannot be fine-tuned here. There are 'sft/demo' and "
            "'sft/hf/<folder or hub id>'."
        )
    return SftModel(name, id=opening.id, **opening.model_args)


LEARNERS = "'baseline/majority', '…/knn', '…/bm25', '…/logreg', '…/bayes', '…/ceiling'"
PROVIDERS = (
    Provider(
        name="demo",
        about="the bundled model: 'demo'",
        open=open_demo,
        is_local=True,
        takes_name=False,
    ),
    Provider(
        name="hf",
        about="a transformers causal model: 'hf/<folder or hub id>'",
        open=open_hf,
        is_local=True,
    ),
    Provider(
        name="vllm",
        about="a causal model on vLLM, extra vllm: 'vllm/<folder or hub id>'",
        open=open_vllm,
        is_local=True,
    ),
    Provider(
        name="sft",
        about="one fine-tuned on the shots, extra local: 'sft/demo', 'sft/hf/<folder or hub id>'",
        open=open_sft,
        is_local=True,
        fine_tunes=True,
    ),
    Provider(name="baseline", about=f"a reference learner: {LEARNERS}", open=open_learner),
)
