"""What is recorded of the machine, and which process writes."""

from __future__ import annotations

import pytest
import torch

from limbeck.engine.stages.environment import describe_environment, is_main_process


def test_environment_names_what_the_numbers_depend_on() -> None:
    found = describe_environment()
    assert found["torch"].startswith(torch.__version__.split("+")[0])
    assert {"Python", "system", "limbeck", "lightning", "processor", "accelerator"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_only_the_first_process_writes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_main_process()
    monkeypatch.setenv(name, "0")
    assert is_main_process()
    monkeypatch.setenv(name, "1")
    assert not is_main_process()
