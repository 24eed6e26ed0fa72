"""A grid file, which may be another's, has no model's own code run."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl_harness.cli.grids import read_grids
from icl_harness.errors import SpecError

GRID = "tasks: [toy]\nmodels: [hf/some/model]\nmodel_args: {trust_remote_code: %s%s}\n"


@pytest.mark.parametrize("value", ["true", "'yes'", "1", "'True '"])
def test_a_file_that_trusts_a_models_code_is_refused_by_its_name(toy: Path, value: str) -> None:
    Path("their.yaml").write_text(GRID % (value, ", dtype: bfloat16"))
    with pytest.raises(SpecError) as refused:
        read_grids({"tasks": ["their.yaml"]})
    said = str(refused.value)
    assert said.startswith("their.yaml sets model_args trust_remote_code: ")
    assert "give --model-arg trust_remote_code=true yourself" in said
    assert "--model-arg dtype=bfloat16" in said
    assert "\n" not in said


def test_one_who_types_it_trusts_it(toy: Path) -> None:
    Path("their.yaml").write_text(GRID % ("false", ""))
    assert read_grids({"tasks": ["their.yaml"]})[0].spec.models == ("hf/some/model",)
    Path("their.yaml").write_text(GRID % ("true", ""))
    given = {"tasks": ["their.yaml"], "model_args": ["trust_remote_code=true"]}
    assert read_grids(given)[0].spec.model_args == {"trust_remote_code": "true"}
