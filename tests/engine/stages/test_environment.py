"""What is recorded of the software and hardware of a run."""

from __future__ import annotations

import torch

from limbeck.engine.stages.environment import describe_environment


def test_environment_names_what_the_numbers_depend_on() -> None:
    found = describe_environment()
    assert found["torch"].startswith(torch.__version__.split("+")[0])
    assert {"Python", "system", "limbeck", "lightning", "processor", "accelerator"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())
