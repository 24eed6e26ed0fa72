"""The documents of an lm-eval task as examples: its texts, to the byte, as pieces of prompts.

In: a `ConfigurableTask`. Out: queries and shots. lm-eval's own functions make the texts and join a
question with its answer (`build_qa_turn`); here they are only taken apart again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icl_harness.errors import DataError, SpecError
from icl_harness.examples import Example
from icl_harness.tasks.sides import held_out_sides

N_CHECKED = 5  # shots of the prompt that is held to lm-eval's own


@dataclass(frozen=True, kw_only=True)
class Documents:
    """What is asked and shown of a task, and what stands between. `docs`: id -> document; `right`:
    id -> the places of the right choices.
    """

    queries: tuple[Example, ...]
    shots: tuple[Example, ...]
    words: Mapping[str, str]  # the variables of prompts/verbatim.jinja
    docs: Mapping[str, Any]
    right: Mapping[str, frozenset[int]]
    asked: str  # where queries are from
    shown: str  # where shots are from


def documents(lm: Any, name: str) -> Documents:
    """Return the documents of a task. Raises `DataError` or `SpecError`."""
    config = lm.config
    asked = config.test_split or config.validation_split
    shown = _shown_split(lm)
    queries, docs = _queries(lm, name, asked)
    shots, befores = [], set[str]()
    shot_docs = list(lm.fewshot_docs())
    for number, doc in enumerate(shot_docs):
        made = _shot(lm, f"{shown}-{number}", doc)
        if made is not None:
            shots.append(made[0])
            befores.add(made[1])
            docs[made[0].id] = doc
    if len(befores) > 1:
        raise SpecError(f"{name}: what parts a question from its answer differs between its shots.")
    before = befores.pop() if befores else ""
    words = {
        "preamble": _description(lm, name),
        "before_answer": before,
        "before_own": before,
        "after_shot": config.fewshot_config.fewshot_delimiter or "",
        "before_choice": "" if lm.OUTPUT_TYPE == "loglikelihood" else config.target_delimiter,
    }
    _check_prompt(lm, name, words, queries[0], shots, docs)
    if shown == asked:  # no split of its own for shots
        sides = held_out_sides(queries, name, None)
        held = {example.id for example in sides.queries}
        queries = sides.queries
        shots = [shot for shot in shots if shot.id not in held]
    right = {id: gold_places(lm, doc) for id, doc in docs.items()} if is_choice(lm) else {}
    return Documents(
        queries=tuple(queries),
        shots=tuple(shots),
        words=words,
        docs=docs,
        right=right,
        asked=asked,
        shown=shown,
    )


def is_choice(lm: Any) -> bool:
    """Return whether a task's answers are choices that are weighed."""
    return bool(lm.OUTPUT_TYPE == "multiple_choice")


def _shown_split(lm: Any) -> str:
    """Return which split lm-eval takes shots from, as `fewshot_docs` does."""
    config = lm.config
    if config.fewshot_config.split is not None:
        return str(config.fewshot_config.split)
    if config.fewshot_config.samples is not None:
        return "samples"
    return str(config.training_split or config.validation_split or config.test_split)


def _queries(lm: Any, name: str, split: str) -> tuple[list[Example], dict[str, Any]]:
    examples, docs = list[Example](), dict[str, Any]()
    for number, doc in enumerate(lm.eval_docs):
        id = f"{split}-{number}"
        text = lm.doc_to_text(doc)
        if not isinstance(text, str):
            raise SpecError(
                f"{name}: each choice of a document makes another question, which a query here "
                "cannot. Such tasks (winogrande is one) are left to lm-eval."
            )
        turn = lm.build_qa_turn(
            q=text, gen_prefix=lm.doc_to_prefix(doc), tgt_delim=lm.config.target_delimiter
        )
        choices = _choices(lm, doc, name)
        target = answer_text(lm.doc_to_target(doc), lm.doc_to_choice(doc) if choices else None)
        if choices and target not in choices:
            raise DataError(
                f"{name}, document {id}: its gold answer {target!r} is none of its choices."
            )
        text = "".join(message.to_text() for message in turn)
        examples.append(Example(id=id, input=text, target=target, choices=choices))
        docs[id] = doc
    if not examples:
        raise DataError(f"{name}: its split {split} holds no documents.")
    return examples, docs


def _choices(lm: Any, doc: Any, name: str) -> tuple[str, ...]:
    if not is_choice(lm):
        return ()
    found = lm.doc_to_choice(doc)
    if not isinstance(found, list) or not all(isinstance(choice, str) for choice in found):
        raise DataError(f"{name}: the choices of a document are {found!r}, which are no texts.")
    return tuple(found)


def answer_text(raw: Any, choices: Sequence[str] | None) -> str:
    """Return the text of a gold answer: of several the first, of a number the choice."""
    first = raw[0] if isinstance(raw, list | tuple) and raw else raw
    if isinstance(first, int) and choices is not None:
        if not 0 <= first < len(choices):
            raise DataError(f"a gold answer is {first}, and there are {len(choices)} choices.")
        return str(choices[first])
    return str(first)


def gold_places(lm: Any, doc: Any) -> frozenset[int]:
    """Return the places of the right choices of a document, as lm-eval has them."""
    choices = lm.doc_to_choice(doc)
    raw = lm.doc_to_target(doc)
    golds = raw if isinstance(raw, list | tuple) else [raw]
    return frozenset(gold if isinstance(gold, int) else choices.index(gold) for gold in golds)


def _shot(lm: Any, id: str, doc: Any) -> tuple[Example, str] | None:
    """Return a document as a shot, and what stands between its input and its answer; None where
    there is no answer to show.
    """
    own = lm.config.fewshot_config
    choices = lm.doc_to_choice(doc, own.doc_to_choice) if own.doc_to_choice else None
    raw = lm.doc_to_target(doc, own.doc_to_target)
    prefix = lm.resolve_field(doc, own.gen_prefix)
    turn = lm.build_qa_turn(
        q=lm.doc_to_text(doc, own.doc_to_text),
        c=choices,
        a=raw,
        gen_prefix=prefix,
        tgt_delim=own.target_delimiter,
        few_delim=own.fewshot_delimiter,
    )
    if len(turn) < 2:
        return None
    question, answer = turn
    target = answer_text(raw, choices)
    known = tuple(choices) if choices and is_choice(lm) and target in choices else ()
    if not prefix:
        shot = Example(id=id, input=question.content, target=answer.content, choices=known)
        return shot, question.to_text()[len(question.content) :]
    before = question.to_text() + answer.content.removesuffix(target)
    return Example(id=id, input=before, target=target, choices=known), ""


def _description(lm: Any, name: str) -> str:
    """Return the text before all shots. Raises `SpecError` where it differs between documents."""
    description = lm.config.description or ""
    if "{" not in description and description not in lm.features:
        return str(description)
    texts = {lm.resolve_field(doc, description) or "" for doc in lm.eval_docs}
    if len(texts) > 1:
        raise SpecError(
            f"{name}: its description differs from document to document, so that queries share no "
            "prompt. Such tasks are left to lm-eval."
        )
    return str(texts.pop())


def _check_prompt(
    lm: Any,
    name: str,
    words: Mapping[str, str],
    query: Example,
    shots: Sequence[Example],
    docs: Mapping[str, Any],
) -> None:
    """Raise `SpecError` where a prompt is another one than lm-eval makes of the same documents."""
    from lm_eval.api.samplers import FirstNSampler

    doc = docs[query.id]
    some = [shot for shot in shots if docs[shot.id] != doc][:N_CHECKED]
    before, lm.sampler = getattr(lm, "sampler", None), FirstNSampler([docs[s.id] for s in some])
    theirs = lm.fewshot_context(doc, len(some), gen_prefix=lm.doc_to_prefix(doc))
    lm.sampler = before
    ours = "".join([words["preamble"], *_shot_texts(some, words), query.input])
    if ours != theirs:
        raise SpecError(
            f"{name}: its prompts cannot be taken apart into shots and query as lm-eval joins them."
        )


def _shot_texts(shots: Sequence[Example], words: Mapping[str, str]) -> Iterator[str]:
    for shot in shots:
        yield f"{shot.input}{words['before_answer']}{shot.target}{words['after_shot']}"
