"""Published worked examples beside a pool that has answers alone.

In: a pool, and a prompt text in the form of BIG-Bench Hard's: "Q: …", "A: Let's think step by
step. …", "So the answer is …." several times. It is the file DIR/<local>, or one row of a hub set.
Out: the pool and behind it these examples, whose rationale is what stands between the last two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_harness.errors import DataError
from icl_harness.examples import Example
from icl_harness.tasks.hub import Hub, hub_rows
from icl_harness.tasks.rows import MakeExample, Source, build

_PAIR = re.compile(
    r"^Q: (?P<question>.*?)\nA: (?:Let's think step by step\.)?(?P<steps>.*?)"
    r"\s*So the answer is (?P<answer>[^\n]*?)\.?\s*(?=^Q: |\Z)",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class WithWorked:
    """A pool and published worked examples; `name` is the row's in the hub set, column `key`."""

    pool: Source
    hub: Hub
    name: str
    local: str
    key: str = "dataset_name"
    text: str = "chain_of_thought_prompt"

    def examples(self, make: MakeExample, task: str, data: Path | None) -> list[Example]:
        """Return the pool's examples, then the worked ones. Raises `DataError`."""
        place, text = self._prompt(data)
        worked = []
        for number, raw in enumerate(worked_rows(text)):
            where = f"{place}, worked example {number + 1}"
            worked.append(build(make, raw, number, "worked", where))
        found = [example for example in worked if example is not None]
        if not found:
            raise DataError(f'{place} holds no worked example: "Q: …", "A: …", "So the answer is".')
        return [*self.pool.examples(make, task, data), *found]

    def _prompt(self, data: Path | None) -> tuple[str, str]:
        """Return what holds the prompt, and its text."""
        if data is None:
            for place, row in hub_rows(self.hub, str(self.hub.config)):
                if row.get(self.key) == self.name:
                    return place, str(row.get(self.text))
            raise DataError(f"{self.hub.id}: no row of {self.hub.config} is of {self.name}.")
        path = data / self.local
        try:
            return str(path), path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(
                f"{path}, the published worked examples, cannot be read: {reason}. Put the file "
                f"there, or leave out --data to load {self.hub.id} from the hub."
            ) from error


def worked_rows(text: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each worked example of a prompt text."""
    for pair in _PAIR.finditer(text.replace("\r\n", "\n")):
        yield {
            "input": pair["question"].strip(),
            "target": pair["answer"].strip(),
            "rationale": pair["steps"].strip(),
        }


def bbh_worked(pool: Source, name: str) -> WithWorked:
    """Return the pool of a task of BIG-Bench Hard with its published worked examples, from the hub
    or, when a data folder is given, from DIR/bbh/cot-prompts/<name>.txt.
    """
    prompts = Hub(id="Joschka/big_bench_hard", config="few_shot_prompts")
    return WithWorked(pool=pool, hub=prompts, name=name, local=f"bbh/cot-prompts/{name}.txt")
