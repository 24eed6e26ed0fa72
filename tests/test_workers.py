"""`--workers ray` on a real cluster: the records are those of one process, whatever becomes of the
machines.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import pytest

import icl_harness
from icl_harness.errors import ModelError, SpecError
from tests.tiny_models import save_tiny_model

ray = pytest.importorskip("ray")

GRID = {
    "modes": ["supervised", "unsupervised", "reinforced"],
    "shots": [0, 1, 2, 4, 8],
    "draws": 3,
    "pool": 24,
    "queries": 12,
    "bank_samples": 1,
    "data": "data",
}
# Another toy, each draw with numbers of its own.
DRAWN = '''"""Is the number even? Anew in each draw."""

from icl_harness import Example, Score, Task, label_match, task


def number(i: int) -> Example:
    return Example(id=f"n{i}", input=f"n {i}", target=("even", "odd")[i % 2])


def sample(rng, variant, draw):
    numbers = rng.permutation(1000).tolist()
    return [number(i) for i in numbers[:40]], [number(i) for i in numbers[40:52]]


@task
def drawn() -> Task:
    return Task(
        generate=sample, per_draw=True, prompts="toy", labels=("even", "odd"), max_tokens=4,
        scorer=label_match, REWARD
    )
'''
# A random model's attempts are kept whatever they say, or banks would be empty.
REWARD = "reward=lambda answer, example: Score(parsed=answer, value=1.0),"
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
# Ray leaves sockets and its children's pipes to the garbage collector.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


def go(out: str, **options):
    run = icl_harness.run(["toy", "drawn"], "hf/tiny", out=out, **{**GRID, **options})
    return run, run.records().drop(columns=["latency_s"])


def banks(run: icl_harness.Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.path.glob("banks/*.jsonl")}


@pytest.fixture
def tiny(toy: Path) -> Path:
    toy_file = toy / "tasks/toy.py"
    source = toy_file.read_text().replace("label_match, rows", "Score, label_match, rows")
    toy_file.write_text(source.replace("scorer=label_match,", f"scorer=label_match, {REWARD}"))
    (toy / "tasks/drawn.py").write_text(DRAWN.replace("REWARD", REWARD))
    return save_tiny_model(toy / "tiny", context=256)


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    made.second = made.add_node(**NODE)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


class Fate:
    """A watcher that kills a machine while both are at work, and lets another join once its line
    has been taken over.

    It slows the run while one worker is alone: the run is short beside the start of a worker.
    """

    def __init__(self, cluster) -> None:
        self.cluster = cluster
        self.begun: list[tuple[str, str]] = []  # cells: line and shots
        self.killed_at = self.joined_at = 0
        self.left = self.in_the_end = 0  # workers at work

    def __call__(self, now) -> None:
        line, _, shots = now.doing.rpartition(", ")
        if (line, shots) not in self.begun[-1:]:
            self.begun.append((line, shots))
        if (
            not self.killed_at
            and now.cells_done > 4
            and now.workers == 2
            and self.both_are_amid_a_line()
        ):
            self.killed_at = now.queries_done
            self.kill()
        elif self.killed_at and not self.joined_at and self.a_line_was_walked_again():
            self.joined_at, self.left = now.queries_done, now.workers
            self.cluster.add_node(**NODE)
        elif self.joined_at:
            self.in_the_end = max(self.in_the_end, now.workers)
        if now.workers < 2:  # on a busy machine a new worker takes a while to start
            time.sleep(1.0 if self.joined_at else 0.2)

    def both_are_amid_a_line(self) -> bool:
        at = dict(self.begun)  # the cell that each line is in, or was last
        return {*[*at.values()][-2:]} <= {
            "1 shot",
            "2 shots",
            "4 shots",
        }  # of five: however far apart they are

    def a_line_was_walked_again(self) -> bool:
        starts = [line for line, shots in self.begun if shots == "0 shots"]
        return len(starts) > len(set(starts))

    def kill(self) -> None:
        import psutil

        raylet = self.cluster.second.all_processes["raylet"][0].process.pid
        processes = psutil.Process(raylet).children(recursive=True)
        self.cluster.remove_node(self.cluster.second, allow_graceful=False)
        assert not psutil.wait_procs(processes, timeout=60)[1]


@pytest.mark.usefixtures("tiny")
def test_a_run_whose_machines_die_and_join_ends_with_the_records_of_one_process(cluster) -> None:
    whole, expected = go("whole")
    fate = Fate(cluster)
    run, records = go("spread", workers="ray", watch=fate)
    assert records.equals(expected)
    assert banks(run) == banks(whole)
    assert len(banks(run)) == 1 + GRID["draws"], "one of toy, one of each draw of drawn"
    assert 0 < fate.killed_at < len(records)
    assert fate.joined_at
    assert fate.left == 1, "the machine was at work, and the other one took its line over"
    assert fate.in_the_end == 2, "the machine that joined was put to work"
    assert ray.is_initialized(), "a cluster that was there before is left as it was"


@pytest.mark.usefixtures("tiny", "cluster")
def test_queries_with_shots_of_their_own_are_answered_by_workers_as_by_one_process() -> None:
    grid = {"shots": [2, 4], "draws": 2, "queries": 6, "data": "data", "variants": "nearest=TFIDF"}
    records = [
        icl_harness.run("toy", "hf/tiny", out=out, **grid, **how).records()
        for out, how in (("one", {}), ("many", {"workers": "ray"}))
    ]
    alone, spread = (
        found.drop(columns=["latency_s"]).sort_values(["shots", "draw", "query_id"])
        for found in records
    )
    assert alone["shots_used"].eq(alone["shots"]).all()
    assert spread.to_dict("records") == alone.to_dict("records")


@pytest.mark.usefixtures("tiny")
def test_what_no_worker_can_do_is_refused_in_one_line(cluster, toy: Path) -> None:
    (toy / "empty").mkdir()
    for options, error, message in (
        (
            {"worker_cpus": 2},
            SpecError,
            r"no machine of the Ray cluster has the 2 CPUs that a worker takes",
        ),
        (
            {"model_args": {"dtype": "float7"}},
            ModelError,
            r"dtype=float7: .* \(So says the worker on [\d.]+\.\)",
        ),
    ):
        with pytest.raises(error, match=message):
            go("refused", workers="ray", **options)
    with pytest.raises(ModelError, match=r"empty is no model: it has no config.json"):
        icl_harness.run("toy", "hf/empty", out="refused", data="data", shots=[0], workers="ray")
    assert not Path("refused").exists()


@pytest.mark.usefixtures("tiny")
def test_the_command_alone_starts_ray_says_nothing_of_it_and_leaves_none_of_it() -> None:
    # The mark is inherited by all that it starts; another test's cluster may be there.
    alone = {**os.environ, "RAY_ADDRESS": "local", "ICL_TEST_MARK": str(Path.cwd())}
    grid = {
        "modes": ["supervised", "unsupervised"],
        "shots": [0, 1, 2, 8],
        "draws": 2,
        "queries": 12,
        "data": "data",
    }
    models = ["baseline/majority", "hf/tiny"]  # the one stays in the command's own process
    texts = {
        name: ",".join(map(str, value)) if isinstance(value, list) else value
        for name, value in grid.items()
    }
    options = [f"--{name}={text}" for name, text in texts.items()] + [
        f"--model={model}" for model in models
    ]
    command = [
        sys.executable,
        "-c",
        "from icl_harness.cli.app import main; main()",
        "run",
        "toy",
        *options,
    ]
    with subprocess.Popen(
        [*command, "--out=two", "--workers=ray"], stdout=PIPE, stderr=PIPE, text=True, env=alone
    ) as icl:
        n_most = 0
        while icl.poll() is None:
            n_most = max(n_most, n_marked(alone["ICL_TEST_MARK"]))
            time.sleep(0.5)
        out, err = icl.communicate()
    assert (icl.returncode, err) == (0, "")
    assert "raylet" not in out
    assert n_most > 3, "the command, and Ray's own processes"
    one = icl_harness.run("toy", models, out="one", **grid).records()
    two = icl_harness.Run("two").records()
    assert one.drop(columns=["latency_s"]).equals(two.drop(columns=["latency_s"]))
    deadline = time.monotonic() + 20
    while n_marked(alone["ICL_TEST_MARK"]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not n_marked(alone["ICL_TEST_MARK"])


def n_marked(mark: str) -> int:
    """How many processes have the mark in their environment."""
    import psutil

    n = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            n += process.environ().get("ICL_TEST_MARK") == mark
    return n


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": "slurm"}, r"unknown workers 'slurm'. Known: ray\."),
        ({"worker_cpus": 2}, "--worker-cpus is 2; it belongs to --workers ray"),
        (
            {"workers": "ray", "worker_cpus": 0},
            "--worker-cpus is 0; it takes a whole number of 1 or more",
        ),
        ({"workers": "ray"}, "--workers is for local models"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options, message) -> None:
    with pytest.raises(SpecError, match=message):
        icl_harness.run("toy", "baseline/majority", out="out", data="data", shots=[0], **options)


@pytest.mark.usefixtures("tiny")
def test_a_cluster_that_does_not_answer_is_told_in_one_line() -> None:
    # In a process of its own: another test's cluster may be this one's.
    options = [
        "--model",
        "hf/tiny",
        "--shots",
        "0",
        "--data",
        "data",
        "--out",
        "out",
        "--workers",
        "ray",
    ]
    command = [
        sys.executable,
        "-c",
        "from icl_harness.cli.app import main; main()",
        "run",
        "toy",
        *options,
    ]
    env = {**os.environ, "RAY_ADDRESS": "127.0.0.1:9"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("icl: no Ray cluster answers at RAY_ADDRESS 127.0.0.1:9")
    assert done.stderr.count("\n") == 1
    assert not Path("out").exists()


@pytest.mark.usefixtures("tiny")
def test_without_ray_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        SpecError, match=r"--workers ray needs Ray: pip install 'icl-harness\[ray\]'"
    ):
        go("out", workers="ray")
