"""What of the vLLM provider can be told without an engine: options, parameters and calls. The rest:
test_contract.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from icl_harness.errors import ModelError, SpecError
from icl_harness.models import open_model, vllm
from icl_harness.models.base import Answer, Sampling
from icl_harness.models.local import vllm_open
from icl_harness.models.local.grouping import Group, Tail
from icl_harness.models.local.tokens import Branch
from icl_harness.prompts.tree import Query


def job(*lengths: int) -> vllm.Job:
    queries = [Query(id="q", text="a"), Query(id="q", text="a", sample=1)]
    group = Group(Tail("", "a"), Branch(0, [1]), queries)
    return vllm.Job(
        group,
        [vllm.Request(Branch(n - 1, [1]), {}) for n in lengths],
        lambda outputs: group.answers(Answer(query_id="", text="x")),
    )


def output(**fields) -> vllm.Output:
    return vllm.Output(
        **{"ids": [1], "logprobs": {}, "cached_tokens": 0, "seconds": 0.5, "failed": False} | fields
    )


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_the_extra_and_its_own_environment_are_named():
    with pytest.raises(ModelError) as error:
        open_model("vllm/some/model")
    assert str(error.value) == (
        "vllm/some/model needs the Python package vllm. It pins torch and transformers, so give "
        "it an environment of its own: pip install 'icl-harness[vllm]'."
    )


def test_importing_the_provider_loads_neither_vllm_nor_torch():
    code = (
        "import sys, icl_harness.models.vllm; print('vllm' in sys.modules, 'torch' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert ran.stdout == "False False\n"


@pytest.mark.parametrize(
    ("args", "rule"),
    [
        ({"dtyp": "float32"}, "it takes cascade_attention, context_window, dtype"),
        ({"gpu_memory": "0.5"}, "Nearest: gpu_memory_utilization"),
        ({"dtype": "float31"}, "must be auto, float32, float16 or bfloat16"),
        ({"tensor_parallel_size": "0"}, "must be a whole number from 1 up"),
        ({"context_window": "many"}, "must be a whole number from 1 up"),
        ({"gpu_memory_utilization": "90"}, "must be a number above 0, at most 1"),
        ({"gpu_memory_utilization": "nan"}, "must be a number above 0, at most 1"),
        ({"enforce_eager": "maybe"}, "must be yes or no"),
        ({"revision": ""}, "must be a word"),
    ],
)
def test_a_wrong_model_argument_is_named_before_vllm_is_looked_for(args, rule):
    with pytest.raises(ModelError) as error:
        open_model("vllm/some/model", model_args=args)
    assert rule in str(error.value)
    assert "\n" not in str(error.value)


def test_options_become_the_engines_arguments_and_the_prefix_cache_is_on():
    arguments = vllm_open.engine_arguments("m", vllm_open.parse({}, "vllm/m"))
    assert arguments == {
        "model": "m", "enable_prefix_caching": True, "logprobs_mode": "raw_logprobs",
        "use_tqdm_on_load": False,
        "dtype": "auto", "tensor_parallel_size": 1, "trust_remote_code": False,
        "enforce_eager": False, "disable_cascade_attn": False,
    }  # fmt: skip
    given = {
        "dtype": "bfloat16", "tensor_parallel_size": "2", "gpu_memory_utilization": "0.5",
        "context_window": "8192",
        "quantization": "fp8", "revision": "abc", "trust_remote_code": "true",
        "enforce_eager": "True", "cascade_attention": "no", "reasoning_tokens": "500",
    }  # fmt: skip
    assert given.keys() == vllm_open.Options.model_fields.keys()
    arguments = vllm_open.engine_arguments("m", vllm_open.parse(given, "vllm/m"))
    assert (
        arguments["max_model_len"],
        arguments["gpu_memory_utilization"],
        arguments["enforce_eager"],
    ) == (
        8192,
        0.5,
        True,
    )
    assert arguments["revision"] == arguments["tokenizer_revision"] == "abc"
    assert arguments["disable_cascade_attn"] is True
    assert not {"context_window", "cascade_attention"} & arguments.keys()


def test_greedy_answers_have_no_seed_and_samples_their_own():
    greedy = vllm_open.generating(Sampling(max_tokens=5), 7)
    assert greedy == {"max_tokens": 5, "temperature": 0.0, "stop": [], "detokenize": False}
    sampled = vllm_open.generating(Sampling(max_tokens=5, temperature=0.7, stop=("\n",)), 7)
    assert sampled == {
        "max_tokens": 5,
        "temperature": 0.7,
        "seed": 7,
        "stop": ["\n"],
        "detokenize": True,
    }


@pytest.mark.parametrize("temperature", [0.001, 2.5])
def test_a_temperature_that_vllm_would_change_or_refuse_is_refused(temperature):
    with pytest.raises(SpecError, match=r"from 0\.01 to 2\.0"):
        vllm_open.generating(Sampling(temperature=temperature), 0)


def test_weighing_asks_for_the_wanted_tokens_alone_and_for_none_of_the_prompts():
    asked = vllm_open.weighing([5, 9])
    assert asked == {
        "max_tokens": 1,
        "temperature": 0.0,
        "logprob_token_ids": [5, 9],
        "detokenize": False,
    }


def test_a_nodes_jobs_go_in_one_call_unless_their_prompts_are_very_long():
    jobs = [job(4), job(3, 3), job(1), job(), job(30), job(2)]
    assert list(vllm.in_calls(jobs, 1000)) == [jobs]
    assert list(vllm.in_calls(jobs, 10)) == [jobs[:2], jobs[2:4], jobs[4:5], jobs[5:]]
    assert list(vllm.in_calls([], 10)) == []


def test_what_the_engine_gave_up_on_is_missing_for_every_request():
    assert [a.text for a in vllm.read(job(1, 2), [output(), output()])] == ["x", "x"]
    answers = vllm.read(job(1, 2), [output(), output(failed=True)])
    assert [(a.status, a.sample) for a in answers] == [("failed", 0), ("failed", 1)]


def test_what_does_not_fit_is_answered_without_asking_the_engine():
    lost = vllm.lost(job().group, "overflow", "too long")
    assert lost.requests == []
    answers: list[Answer] = vllm.read(lost, [])
    assert [(a.status, a.error) for a in answers] == [("overflow", "too long")] * 2


def test_an_engine_that_refuses_cascade_attention_is_started_without_it():
    started = []

    def old(**arguments):
        started.append(arguments)
        if "disable_cascade_attn" in arguments:
            raise TypeError("unexpected keyword argument 'disable_cascade_attn'")
        return "engine"

    arguments = vllm_open.engine_arguments("m", vllm_open.parse({}, "vllm/m"))
    assert vllm_open.start(old, arguments) == "engine"
    assert [one.get("disable_cascade_attn") for one in started] == [False, None]

    def broken(**arguments):
        raise ValueError("no memory")

    with pytest.raises(ValueError, match="no memory"):
        vllm_open.start(broken, arguments)
