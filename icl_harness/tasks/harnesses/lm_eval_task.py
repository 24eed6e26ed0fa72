"""Tasks of lm-evaluation-harness: "lm-eval:NAME", with its documents, texts, filters and metrics.

In: a name, as in "lm-eval:gsm8k", "lm-eval:gsm8k:flexible-extract" (a filter or a metric),
"lm-eval:bbh" (a group) or "lm-eval:FILE.yaml". Out: tasks whose prompts are lm-eval's to the byte
and whose scores are made by its own functions. Left out, each refused in one line: rolling
likelihoods, images and sound, code that is run, several inputs of one document, and metrics of all
answers together (BLEU), but for Matthews' correlation.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from icl_harness.errors import DataError, IclError, SpecError, nearest
from icl_harness.examples import Example
from icl_harness.tasks.harnesses.lm_eval_examples import Documents, documents, is_choice
from icl_harness.tasks.harnesses.lm_eval_files import lm_eval_tasks, lm_eval_version, quiet
from icl_harness.tasks.harnesses.names import LM_EVAL
from icl_harness.tasks.harnesses.verbatim import TEMPLATE, Verbatim, choice_score
from icl_harness.tasks.metrics import Metric, accuracy, mcc
from icl_harness.tasks.rows import short
from icl_harness.tasks.scoring import Score, Scorer
from icl_harness.tasks.task import Task

# How a choice is taken for each of lm-eval's metrics of one.
SCORINGS = {
    "acc": "choices",
    "mcc": "choices",
    "acc_norm": "choices-per-character",
    "acc_bytes": "choices-per-byte",
}
LEAST_TOKENS = 16
MARGIN = 8  # tokens beyond those of the longest choice, were each of its bytes one
USUAL_TOKENS = 256  # of an answer, where a task does not say
_OF_1 = ("acc", "exact_match", "em", "f1")  # metrics from 0 to 1
_UNREAD = ("", "[invalid]")  # what filters return where they find nothing


class Scoring(NamedTuple):
    """How answers to a task are scored."""

    scorer: Scorer
    metric: Metric
    called: str  # lm-eval's name of the metric
    filter: str = ""
    scoring: str | None = None
    max_tokens: int = LEAST_TOKENS
    stop: tuple[str, ...] = ()
    others: tuple[str, ...] = ()  # what else can be asked for by name


def tasks_of_lm_eval(name: str, data: Path | None) -> list[Task]:
    """Return the tasks of a name that begins with "lm-eval:". Raises `SpecError` or `DataError`."""
    asked, _, wanted = name.removeprefix(LM_EVAL).partition(":")
    if not asked:
        raise SpecError(f"{name!r} names no task: write it as in {LM_EVAL}gsm8k.")
    found = lm_eval_tasks(asked, data)
    made = []
    for leaf, lm in found.items():
        try:
            with quiet():
                made.append(_task(lm, leaf, wanted))
        except IclError:
            raise
        except Exception as error:  # of lm-eval, or of the task's own code
            raise DataError(
                f"{LM_EVAL}{leaf}: lm-eval fails on its documents: {short(error)}."
            ) from error
    return made


def _task(lm: Any, leaf: str, wanted: str) -> Task:
    name = f"{LM_EVAL}{leaf}"
    _refuse(lm, name)
    docs = documents(lm, name)
    how = _scoring(lm, name, docs, wanted)
    labels = _labels(docs)
    origin = _origin(lm, docs, how)
    return Task(
        pool=Verbatim(items=docs.shots),
        queries=Verbatim(items=docs.queries),
        prompts=TEMPLATE,
        fields=docs.words,
        labels=labels,
        scorer=how.scorer,
        metric=how.metric,
        chance=_chance(docs),
        max_tokens=how.max_tokens,
        stop=how.stop,
        leaks="drop",
        scoring=how.scoring,
        origin=origin,
        source_hash=str(origin["config_sha256"]),
        name=f"{name}:{wanted}" if wanted else name,
        doc=_said(origin, docs, how),
    )


def _refuse(lm: Any, name: str) -> None:
    """Raise `SpecError` for a task that cannot be many-shot here."""
    from lm_eval.api.task import ConfigurableTask

    why = ""
    if not isinstance(lm, ConfigurableTask) or type(lm) is not ConfigurableTask:
        why = "is a Python class of its own and not a file of YAML"
    elif lm.OUTPUT_TYPE == "loglikelihood_rolling":
        why = "weighs whole texts (loglikelihood_rolling) and has no question"
    elif getattr(lm, "MULTIMODAL", False):
        why = "has images or sound in its prompts"
    elif getattr(lm, "UNSAFE_CODE", False):
        why = "runs the code that models write"
    elif is_choice(lm) and lm.config.process_results is not None:
        why = "computes its metric from the likelihoods of all choices by code of its own"
    if why:
        raise SpecError(f"{name} {why}. Such tasks are left to lm-eval.")


def _scoring(lm: Any, name: str, docs: Documents, wanted: str) -> Scoring:
    if is_choice(lm):
        return _choice_scoring(lm, name, docs, wanted)
    if lm.OUTPUT_TYPE == "loglikelihood":
        if wanted not in ("", "acc"):
            raise SpecError(
                f"{name} has the metric acc; its perplexity is --gold-nll, and then "
                "icl curves RUN --metric perplexity."
            )
        longest = max(len(query.target.encode()) for query in docs.queries)
        room = max(LEAST_TOKENS, longest + MARGIN)
        return Scoring(greedy_score, accuracy, "acc", max_tokens=room)
    return _written_scoring(lm, name, docs, wanted)


def _choice_scoring(lm: Any, name: str, docs: Documents, wanted: str) -> Scoring:
    there = list(lm.aggregation())
    usable = [metric for metric in there if metric in SCORINGS]
    called = wanted or next(iter(usable), "acc")
    if called not in SCORINGS:
        raise SpecError(
            f"{name} has no metric {called!r} here.{nearest(called, usable)} Known: "
            f"{', '.join(usable or SCORINGS)}."
        )
    choices = chain.from_iterable(query.choices for query in docs.queries)
    longest = max(len(choice.encode()) for choice in choices)
    return Scoring(
        functools.partial(choice_score, docs.right),
        mcc if called == "mcc" else accuracy,
        called,
        scoring=SCORINGS[called],
        max_tokens=max(LEAST_TOKENS, longest + MARGIN),
        stop=("\n",),
        others=tuple(metric for metric in usable if metric != called),
    )


def greedy_score(answer: str, example: Example) -> Score:
    """Return whether a text written at temperature 0 begins with the target, up to a word's end."""
    answer, target = answer.lstrip(), example.target.lstrip()
    rest = answer[len(target) :]
    goes_on = rest[:1].isalnum() and target[-1:].isalnum()
    return Score(answer.split("\n")[0], float(answer.startswith(target) and not goes_on))


def _written_scoring(lm: Any, name: str, docs: Documents, wanted: str) -> Scoring:
    filters = {ensemble.name: ensemble for ensemble in lm._filters}
    chosen = wanted if wanted in filters else next(iter(filters))
    if lm.config.repeats > 1:
        raise SpecError(
            f"{name} asks each document {lm.config.repeats} times and filters these answers "
            "together. Take the task without, and --samples here."
        )
    kwargs = lm.config.generation_kwargs
    stop = kwargs.get("until") or ()
    stop = (stop,) if isinstance(stop, str) else tuple(stop)
    stop = tuple(text for text in stop if text)
    score = functools.partial(written_values, lm, filters[chosen], docs.docs, stop)
    known = _mean_metrics(lm, name, score, docs.queries[0])
    metric = wanted if wanted in known else next(iter(known))
    if wanted and wanted not in filters and wanted not in known:
        names = [*known, *filters]
        raise SpecError(
            f"{name} has no metric or filter {wanted!r} here.{nearest(wanted, names)} Known: "
            f"{', '.join(names)}."
        )
    is_of_1 = metric in _OF_1 or metric.startswith("pass@")
    limits = (0.0, 1.0) if is_of_1 and known[metric] <= 1 else (-math.inf, math.inf)
    rooms = [kwargs.get(key) for key in ("max_gen_toks", "max_new_tokens", "max_tokens")]
    return Scoring(
        functools.partial(written_score, score, metric),
        Metric(name=metric, range=limits),
        metric,
        filter=chosen if lm.config.filter_list else "",
        max_tokens=next((int(room) for room in rooms if room), USUAL_TOKENS),
        stop=stop,
        others=tuple(one for one in (*known, *filters) if one not in (metric, chosen, "none")),
    )


def written_values(
    lm: Any,
    ensemble: Any,
    docs: Mapping[str, Any],
    stop: Sequence[str],
    answer: str,
    example: Example,
) -> tuple[Any, Mapping[str, Any]]:
    """Return what lm-eval's filters leave of a written answer, and its metrics of that."""
    from lm_eval.api.instance import Instance

    for text in stop:  # lm-eval cuts at the first of them, before the first word too
        answer = answer.split(text)[0]
    doc = docs[example.id]
    made = Instance("generate_until", doc, ("", {}), 0, resps=[answer])
    with quiet():
        ensemble.apply([made])
        filtered = made.filtered_resps[ensemble.name]
        return filtered, lm.process_results(doc, [filtered])


def written_score(score: Any, metric: str, answer: str, example: Example) -> Score:
    """Return one metric of a written answer."""
    filtered, values = score(answer, example)
    value = float(values[metric])
    parsed = filtered if isinstance(filtered, str) else str(filtered)
    is_unread = parsed.strip() in _UNREAD and value == 0
    return Score(None if is_unread else parsed, value)


def _mean_metrics(lm: Any, name: str, score: Any, query: Example) -> dict[str, float]:
    """Return the metrics of a task that are means over answers, with what they give the gold
    answer of one document. Raises `SpecError` where there is none.
    """
    from lm_eval.api.metrics import mean

    try:
        _, values = score(query.target, query)
    except Exception as error:  # of a task's own code, or of a metric that is loaded from a hub
        raise SpecError(f"{name}: its metrics fail on a gold answer: {short(error)}.") from error
    together = lm.aggregation()
    names = [*(one for one in together if one in values), *values]
    found = {}
    for one in dict.fromkeys(names):
        is_number = hasattr(values[one], "__float__")
        if is_number and together.get(one, mean) is mean:
            found[one] = float(values[one])
    if not found:
        raise SpecError(
            f"{name}: its metrics ({', '.join(names)}) are of all answers together, and no mean "
            "of one each. Such tasks are left to lm-eval."
        )
    return found


def _labels(docs: Documents) -> tuple[str, ...]:
    """Return the choices that all documents have in common, else nothing."""
    every = {example.choices for example in (*docs.queries, *docs.shots)}
    choices = next(iter(every))
    return choices if len(every) == 1 and len(set(choices)) == len(choices) > 1 else ()


def _chance(docs: Documents) -> float | None:
    """Return what guessing would score, where there are choices."""
    shares = [
        len(docs.right[query.id]) / len(query.choices) for query in docs.queries if query.choices
    ]
    return sum(shares) / len(shares) if shares else None


def _origin(lm: Any, docs: Documents, how: Scoring) -> dict[str, Any]:
    """Return what run.json says of the task."""
    config = lm.dump_config()
    metadata = dict(config.pop("metadata", None) or {})
    metadata.pop("config_source", None)  # where its file lies
    config = {**config, "metadata": metadata}
    config.pop("dataset_kwargs", None)  # where its rows lie: their hash says more
    text = json.dumps([lm_eval_version(), config], sort_keys=True, default=str)
    return {
        "harness": "lm-eval",
        "harness_version": lm_eval_version(),
        "task_version": lm.VERSION,
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "output_type": lm.OUTPUT_TYPE,
        "dataset": " ".join(filter(None, (lm.config.dataset_path, lm.config.dataset_name))),
        "queries": docs.asked,
        "pool": docs.shown,
        "metric": how.called,
        "filter": how.filter,
    }


def _said(origin: Mapping[str, Any], docs: Documents, how: Scoring) -> str:
    """Return what was taken, in one line."""
    held = " less those asked" if docs.shown == docs.asked else ""
    by = f" by {how.filter}" if how.filter else ""
    parts = [
        f"lm-eval {origin['harness_version']}, task version {origin['task_version']}, "
        f"{origin['output_type']}",
        f"{how.called}{by}",
        f"{len(docs.queries):,} queries of {docs.asked}",
        f"{len(docs.shots):,} shots of {docs.shown}{held}",
    ]
    if how.scoring:
        parts[1] += f", which is --scoring {how.scoring}"
    if how.others:
        parts.append(f"also :{', :'.join(how.others)}")
    return "; ".join(parts) + "."
