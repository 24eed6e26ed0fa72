"""Build and hash all prompts of 4000 shots (about 4 MB) x 1000 queries; print peak memory and CPU seconds.

    python benchmarks/prompt_memory.py [--shots 4000] [--queries 1000] [--chars 1000]

The prompts of the grid 1, 2, 4, … up to the shots are built as a run builds them: through the template, as nodes of one
path, each with its hash, each query of each cell with its prompt's hash. The text of the longest prefix is joined once,
as a back end does. For comparison, lm-eval 0.4.13 takes 3.8 CPU s and 4 MB for each query of that size.
"""

from __future__ import annotations

import argparse
import resource
import time

from icl_harness.examples import Example
from icl_harness.modes import PromptPath, gold_shots
from icl_harness.prompts import Prompt, Template

SOURCE = (
    "{% block preamble %}Answer.\n{% endblock %}{% block shot %}Q: {{ input }}\nA: {{ target }}\n{% endblock %}"
    "{% block format %}Answer with one word.\n{% endblock %}{% block query %}Q: {{ input }}\nA:{% endblock %}"
)


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", type=int, default=4000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--chars", type=int, default=1000, help="characters of one shot")
    args = parser.parse_args()
    before = _peak_mb()
    examples = [_example(i, args.chars) for i in range(args.shots + args.queries)]
    started = time.process_time()
    shots = gold_shots(examples[: args.shots], "supervised")
    path = PromptPath(Template(SOURCE, "benchmark"), "supervised", shots, {"labels": ()})
    queries = [path.query(example) for example in examples[args.shots :]]
    counts = [0, *(1 << i for i in range(args.shots.bit_length()) if 1 << i < args.shots), args.shots]
    hashes = {Prompt(node, query).hash for node in map(path.node, counts) for query in queries}
    longest = len(path.node(args.shots).text.encode())
    seconds = time.process_time() - started
    print(f"shot counts              {len(counts)} (0 to {args.shots})")
    print(f"queries                  {args.queries}")
    print(f"longest prefix           {longest / 1e6:.2f} MB")
    print(f"prompts built and hashed {len(hashes):,}")
    print(f"CPU seconds              {seconds:.2f}")
    print(f"peak RSS                 {_peak_mb():.0f} MB ({before:.0f} MB before the first prompt)")


def _example(i: int, chars: int) -> Example:
    text = f"{i} " + "lorem ipsum dolor " * (chars // 18)
    return Example(id=str(i), input=text[: chars - 12], target="yes")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
