"""The bank: a model's own attempts at pool problems, with their rewards.

One JSON line per attempt, appended as it comes, so that making a bank resumes where it stopped. A
bank is made from the problems that were requested, and `kept` marks the attempts that become shots.
By default that is one per problem: the first, in order of sample, that earned the reward (Agarwal
et al. 2024, section 3). `Rules` say otherwise.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from icl_harness.errors import DataError, StoreError
from icl_harness.examples import Example, content_hash
from icl_harness.files import write_atomically
from icl_harness.prompts.tree import Shot

PASSING_REWARD = 1.0  # the reward of a correct answer
NEWER = {"iteration": 1, "n_shots": 0}  # left out of a line where they are these
BANKS = "banks"  # the folder of banks in a run folder; until 0.1 they stood beside records.db


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One sampled answer to one pool problem. `node` and `model` tell what it was sampled from,
    `problem` is the problem's content hash. An attempt that no repetition can make succeed has an
    `error` and no reward. `failed`: it was charged for and is made again, what it cost then counts
    with the one that takes its place. `item`: its id in the batch that it came out of. `whole`:
    what the model wrote, where that is more than `answer`; `cut`: the limit on tokens ended it.
    `iteration`: 1, or that of a later one, whose prompts show `n_shots` shots of the bank so far.
    """

    id: str
    sample: int
    problem: str
    answer: str | None
    parsed: str | None
    reward: float
    node: str
    model: str
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    kept: bool = False
    failed: bool = False
    item: str | None = None
    whole: str | None = None
    cut: bool = False
    iteration: int = 1
    n_shots: int = 0


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Which attempts are kept. `threshold`: the least reward of a right one. `agree`: so many
    attempts of one iteration must be right at a problem. `keep`: so many are kept of a problem at
    most, in different words; the best first, of equals the earlier sample.
    """

    threshold: float = PASSING_REWARD
    agree: int = 1
    keep: int = 1

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Rules:
        """Return the rules of a spec as run.json holds it, which leaves out the usual ones."""
        names = ("threshold", "agree", "keep")
        return cls(**{name: spec[f"bank_{name}"] for name in names if f"bank_{name}" in spec})

    def is_right(self, attempt: Attempt) -> bool:
        """Return whether an attempt earned the reward."""
        return attempt.reward >= self.threshold


USUAL_RULES = Rules()


@dataclass(frozen=True)
class Bank:
    """All attempts; `n_problems` were tried, of which `n_solved` have a kept attempt."""

    attempts: tuple[Attempt, ...]

    @property
    def n_problems(self) -> int:
        """Return how many problems were tried."""
        return len({attempt.id for attempt in self.attempts})

    @property
    def n_solved(self) -> int:
        """Return how many problems have a rationale."""
        return len({attempt.id for attempt in self.attempts if attempt.kept})

    @property
    def n_shots(self) -> int:
        """Return how many rationales there are: the largest K that this bank allows."""
        return sum(attempt.kept for attempt in self.attempts)

    @property
    def cost_usd(self) -> float | None:
        """Return what the attempts cost, None where it is not known of all."""
        costs = [attempt.cost_usd for attempt in self.attempts]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    def rationales(self) -> dict[str, str]:
        """Return the kept attempts by the id of their shot: the problem's, of its second one and
        further ones with #2, #3, … behind it.
        """
        n_of = Counter[str]()
        found = {}
        for attempt in self.attempts:
            if attempt.kept:
                n_of[attempt.id] += 1
                found[shot_id(attempt.id, n_of[attempt.id])] = (attempt.answer or "").strip()
        return found

    def expanded(self, order: Sequence[Example]) -> list[Example]:
        """Return the examples of a draw's order, each once for every rationale that is kept of it,
        one behind the other.
        """
        n_kept = Counter(attempt.id for attempt in self.attempts if attempt.kept)
        found = []
        for example in order:
            found.append(example)
            for n in range(2, n_kept[example.id] + 1):
                found.append(replace(example, id=shot_id(example.id, n)))
        return found

    def shots(self, order: Sequence[Example]) -> list[Shot]:
        """Return the kept attempts as shots, in the order of a draw. The rationale is the model's
        whole answer.
        """
        kept = self.rationales()
        return [
            Shot(id=e.id, input=e.input, target=e.target, rationale=kept[e.id])
            for e in order
            if e.id in kept
        ]

    def check_problems(self, pool: Sequence[Example], where: str) -> None:
        """Raise `StoreError` where an attempt is at a problem that is not the pool's, or is another
        under its id.
        """
        problems = {example.id: content_hash([example]) for example in pool}
        strange = [a.id for a in self.attempts if problems.get(a.id, a.problem) != a.problem]
        if strange or not any(a.id in problems for a in self.attempts):
            shown = (
                f"{strange[0]} is another problem there"
                if strange
                else "it holds none of the pool's problems"
            )
            raise StoreError(
                f"bank {where} was made from other problems ({shown}). "
                "Take one of the same task and data."
            )


def shot_id(problem: str, n: int) -> str:
    """Return the id of the n-th shot that a problem makes."""
    return problem if n == 1 else f"{problem}#{n}"


def mark_kept(attempts: Iterable[Attempt], rules: Rules = USUAL_RULES) -> Bank:
    """Return the bank of these attempts, in order of problem and sample, with those marked that the
    rules keep.
    """
    last: dict[tuple[str, int], Attempt] = {}
    for attempt in attempts:
        before = last.get((attempt.id, attempt.sample))
        spent = (before.cost_usd or 0.0) if before is not None and before.failed else 0.0
        cost = spent or None if attempt.cost_usd is None else attempt.cost_usd + spent
        last[attempt.id, attempt.sample] = replace(attempt, cost_usd=cost)
    ordered = sorted(last.values(), key=lambda a: (a.id, a.sample))
    kept = _kept(ordered, rules)
    return Bank(tuple(replace(a, kept=(a.id, a.sample) in kept) for a in ordered))


def _kept(ordered: Sequence[Attempt], rules: Rules) -> set[tuple[str, int]]:
    """Return problem and sample of the attempts that are kept."""
    right = [attempt for attempt in ordered if rules.is_right(attempt)]
    n_right = Counter((attempt.id, attempt.iteration) for attempt in right)
    right.sort(key=lambda attempt: -attempt.reward)  # stable: of equals the earlier sample
    words: defaultdict[str, set[str]] = defaultdict(set)
    kept = set()
    for attempt in right:
        text, of_problem = (attempt.answer or "").strip(), words[attempt.id]
        agreed = n_right[attempt.id, attempt.iteration] >= rules.agree
        if agreed and len(of_problem) < rules.keep and text not in of_problem:
            of_problem.add(text)
            kept.add((attempt.id, attempt.sample))
    return kept


def bank_file(folder: Path, name: str) -> Path:
    """Return where a run folder has the bank of this name or will have it: in `banks`, or where an
    older version began it.
    """
    older = folder / name
    if older.exists() or partial_file(older).exists():
        return older
    return folder / BANKS / name


def bank_files(folder: Path, pattern: str = "bank-*.jsonl") -> list[Path]:
    """Return a run folder's bank files by name, those that an older version wrote too."""
    files = [*folder.glob(pattern), *(folder / BANKS).glob(pattern)]
    return sorted(files, key=lambda file: file.name)


def partial_file(path: Path) -> Path:
    """Return where the attempts of a bank are kept until it is finished."""
    return path.with_suffix(".partial")


def append_attempts(path: Path, attempts: Iterable[Attempt]) -> None:
    """Append attempts to a bank in the making; they are on disk when this returns."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(_line(attempt) for attempt in attempts)
        file.flush()
        os.fsync(file.fileno())


def write_bank(path: Path, bank: Bank) -> None:
    """Write a finished bank in one step: a reader sees all of it or none."""
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, "".join(map(_line, bank.attempts)).encode())


def read_attempts(path: Path) -> list[Attempt]:
    """Return the attempts of a bank in the making, without a last line that is half written."""
    data = path.read_bytes() if path.exists() else b""
    return _parse(data[: data.rfind(b"\n") + 1].decode("utf-8", "replace"), path)


def recover_attempts(path: Path) -> list[Attempt]:
    """Return the attempts of a bank in the making, and cut off a last line that a crash left half
    written.
    """
    attempts = read_attempts(path)
    data = path.read_bytes() if path.exists() else b""
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
    return attempts


def read_bank(path: Path, rules: Rules = USUAL_RULES) -> Bank:
    """Read a finished bank, and mark what the rules keep. Raises `StoreError` where it cannot be
    read, `DataError` where it is no bank.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"bank {path} cannot be read: {error}.") from error
    bank = mark_kept(_parse(text if text.endswith("\n") else text + "\n", path), rules)
    if not bank.attempts:
        raise DataError(f"bank {path} holds no attempts.")
    return bank


def _line(attempt: Attempt) -> str:
    fields = asdict(attempt)
    for name, usual in NEWER.items():
        if fields[name] == usual:
            del fields[name]
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _parse(text: str, path: Path) -> list[Attempt]:
    attempts = []
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            attempt = Attempt(**json.loads(line))
            _check_types(attempt)
            attempts.append(attempt)
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"bank {path}, line {number}: not an attempt ({error}).") from error
    return attempts


def _check_types(attempt: Attempt) -> None:
    """Raise `TypeError` or `ValueError` where a line was not written by `append_attempts`."""
    if not isinstance(attempt.id, str) or not isinstance(attempt.answer, str | None):
        raise TypeError("its id and answer must be texts")
    if type(attempt.sample) is not int or not isinstance(attempt.reward, int | float):
        raise TypeError("its sample and reward must be numbers")
    if not 0 <= attempt.reward <= PASSING_REWARD or (attempt.answer is None and attempt.reward > 0):
        raise ValueError("its reward must be from 0 to 1, and 0 where there is no answer")
    if not isinstance(attempt.prompt_tokens, int | None) or not isinstance(
        attempt.cost_usd, int | float | None
    ):
        raise TypeError("its tokens and dollars must be numbers")
    if type(attempt.iteration) is not int or type(attempt.n_shots) is not int:
        raise TypeError("its iteration and number of shots must be numbers")
    (attempt.answer or "").encode()
