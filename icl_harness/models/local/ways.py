"""In which way a model goes on from the keys and values of a path: the fastest that is exact for
it.

In: a transformers model. Out: an empty prefix, tried against plain forwards of whole prompts:

    shared      rows attend to the path's without a copy (shared.py)
    copied      every row gets its own copy (copied.py)
    recomputed  copied, and the path is computed anew at a branch: recurrent states have no crop
    whole       nothing is kept: every prompt is fed from its first token (whole.py)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from icl_harness.models.local.copied import CopiedPrefix
from icl_harness.models.local.kv import CHUNK, Prefix, Runner
from icl_harness.models.local.shared import SharedPrefix, attention_of
from icl_harness.models.local.tokens import Branch, Twig
from icl_harness.models.local.whole import WholePrefix

_PATH, _TWIG = 21, 5  # tokens of the trial


def open_prefix(model: Any, chunk: int = CHUNK) -> tuple[Prefix, str]:
    """Return an empty prefix of the fastest way that is exact for this model, and why it is no
    faster one (""). It feeds `chunk` tokens of a row at a time.
    """
    runner = Runner(model)
    expected = _plain_logits(runner)
    why = "its layers keep a state that cannot branch" if runner.rigid else ""
    if not why:
        with attention_of(model) as switched:
            why = (
                ""
                if switched.possible
                else "its attention does not go through transformers' interface"
            )
            if not why:
                prefix = SharedPrefix(runner, chunk)
                why = _unlike(prefix, expected)
            if not why:
                switched.keep()
                return prefix, ""
    copied = CopiedPrefix(runner, chunk)
    wrong = _unlike(copied, expected)
    return (
        (WholePrefix(runner), f"it does not go on from a cache: {wrong}")
        if wrong
        else (copied, why)
    )


def _trial(runner: Runner) -> NDArray[np.int64]:
    vocabulary = int(runner.model.get_input_embeddings().weight.shape[0])
    return np.random.default_rng(0).integers(3 % vocabulary, vocabulary, _PATH + _TWIG + 1)


@torch.inference_mode()
def _plain_logits(runner: Runner) -> torch.Tensor:
    """What one plain forward of a whole prompt gives, and that of another which leaves it near its
    end.
    """
    ids = _trial(runner)
    return torch.cat([_whole(runner, ids), _whole(runner, [*ids[: _PATH - 2], *ids[_PATH:]])])


def _whole(runner: Runner, ids: Any) -> torch.Tensor:
    columns = [len(ids) - 2, len(ids) - 1]
    return runner.forward([ids], None, [range(len(ids))], wanted=([0, 0], columns))


@torch.inference_mode()
def _unlike(prefix: Prefix, expected: torch.Tensor) -> str:
    """Return how a trial with pieces, branches and steps differs from the plain forwards ("" where
    it does not).
    """
    ids = _trial(prefix.runner).astype(np.int32)
    path, own, last = ids[:_PATH], ids[_PATH:-1].tolist(), int(ids[-1])
    found = []
    try:
        for n_shared in (_PATH, _PATH - 2):
            prefix.reach(path[:6])
            prefix.reach(path if n_shared == _PATH or not prefix.runner.rigid else path[:n_shared])
            twig = Twig.chain(Branch(n_shared, own))
            rows = prefix.rows([twig, twig], ([0, 1], [_TWIG - 1] * 2), room=1)
            found += [rows.logits[:1], rows.step(np.array([last, last]))[1:]]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
    finally:
        prefix.forget()
        prefix.n_prefilled = 0
    gap = (torch.cat(found) - expected).abs() / (1 + expected.abs().max())
    # In half precision a rounding may send a token to another expert: most logits must agree, not
    # every one. Kernels for quantised weights round by the number of tokens.
    model = prefix.runner.model
    whole = model.dtype == torch.float32 and not getattr(model, "is_quantized", False)
    far, limit = (gap.max(), 1e-3) if whole else (gap.median(), 0.05)
    return "" if float(far) <= limit else f"logits differ by {float(far):.2g}"
