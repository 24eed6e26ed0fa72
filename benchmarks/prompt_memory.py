"""Build and hash all prompts of 4000 shots (about 4 MB) x 1000 queries: peak memory and CPU
seconds.

    python benchmarks/prompt_memory.py [--shots 4000] [--queries 1000] [--chars 1000] [--lm-eval 2]

The prompts of the grid 0, 1, 2, 4, … up to the shots are built as a run builds them: through the
template, as nodes of one path, each with its hash, each query of each cell with its prompt's hash.
With --lm-eval N (and lm-eval installed) lm-eval then builds N of the longest prompts, which must be
the same texts, and the ratio per prompt is printed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import peak_mb

from icl_harness.examples import Example
from icl_harness.prompts.modes import PromptPath, gold_shots
from icl_harness.prompts.template import Template
from icl_harness.prompts.tree import Prompt

SOURCE = (
    "{% block preamble %}Answer.\n{% endblock %}{% block shot %}Q: {{ input }}\nA: "
    "{{ target }}\n{% endblock %}"
    "{% block format %}Answer with one word.\n{% endblock %}{% block query %}"
    "Q: {{ input }}\nA:{% endblock %}"
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shots", type=int, default=4000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--chars", type=int, default=1000, help="characters of one shot")
    parser.add_argument(
        "--lm-eval", type=int, default=0, metavar="N", help="prompts that lm-eval builds beside"
    )
    args = parser.parse_args()
    before = peak_mb()
    examples = [_example(i, args.chars) for i in range(args.shots + args.queries)]
    pool, queries = examples[: args.shots], examples[args.shots :]
    started = time.process_time()
    n_prompts, longest = build(pool, queries)
    seconds = time.process_time() - started
    print(f"queries                  {args.queries}")
    print(f"longest prompt           {len(longest[0].text.encode()) / 1e6:.2f} MB")
    print(f"prompts built and hashed {n_prompts:,}")
    print(f"CPU seconds              {seconds:.2f}")
    print(f"peak RSS                 {peak_mb():.0f} MB ({before:.0f} MB before the first prompt)")
    if args.lm_eval:
        ours = seconds / n_prompts
        theirs = lm_eval_seconds(
            pool, queries[: args.lm_eval], [p.text for p in longest[: args.lm_eval]]
        )
        print(
            f"lm-eval, CPU seconds     {theirs:.2f} a prompt, {theirs / ours:,.0f} times ours "
            f"({ours:.2g})"
        )


def build(pool: Sequence[Example], queries: Sequence[Example]) -> tuple[int, list[Prompt]]:
    """Return the number of different prompts of the grid, and those with all shots."""
    path = PromptPath(
        Template(SOURCE, "benchmark"), "supervised", gold_shots(pool, "supervised"), {"labels": ()}
    )
    asked = [path.query(example) for example in queries]
    counts = [0, *(1 << i for i in range(len(pool).bit_length()) if 1 << i < len(pool)), len(pool)]
    hashes = {Prompt(node, query).hash for node in map(path.node, counts) for query in asked}
    return len(hashes), [Prompt(path.node(len(pool)), query) for query in asked]


def lm_eval_seconds(
    pool: Sequence[Example], queries: Sequence[Example], expected: list[str]
) -> float:
    """Return lm-eval's CPU seconds for one of `expected`, the same prompts, built in its fastest
    way (first_n).
    """
    from lm_eval.api.task import ConfigurableTask

    with tempfile.TemporaryDirectory() as folder:
        files = {"train": pool, "test": queries}
        for name, examples in files.items():
            lines = [json.dumps({"input": e.input, "target": e.target}) for e in examples]
            Path(folder, f"{name}.jsonl").write_text("\n".join(lines))
        config: dict[str, Any] = {
            "task": "prompt_memory",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {name: f"{folder}/{name}.jsonl" for name in files}},
            "training_split": "train",
            "test_split": "test",
            "fewshot_split": "train",
            "fewshot_config": {"sampler": "first_n"},
            "num_fewshot": len(pool),
            "output_type": "generate_until",
            "description": "Answer.\n",
            "doc_to_text": "Q: {{input}}\nA:",
            "doc_to_target": "{{target}}",
            "target_delimiter": " ",
            "fewshot_delimiter": "\n",
        }
        task = ConfigurableTask(config=config)
        started = time.process_time()
        task.build_all_requests(limit=len(queries), rank=0, world_size=1)
        seconds = time.process_time() - started
    if [instance.args[0] for instance in task.instances] != expected:
        raise SystemExit("lm-eval built other prompts: the comparison would not be fair")
    return seconds / len(queries)


def _example(i: int, chars: int) -> Example:
    text = f"{i} " + "lorem ipsum dolor " * (chars // 18)
    return Example(id=str(i), input=text[: chars - 12].strip(), target="yes")


if __name__ == "__main__":
    main()
