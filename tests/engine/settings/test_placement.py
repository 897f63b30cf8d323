"""Devices by their names."""

from __future__ import annotations

import pytest
import torch

from limbeck.engine.settings.placement import check_device, chosen_device
from limbeck.errors import RecipeError


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda:3"])
def test_a_device_may_be_one_of_another_machine(name: str) -> None:
    check_device(name)


def test_a_word_that_names_no_device() -> None:
    for check in (check_device, chosen_device):
        with pytest.raises(RecipeError, match=r"evaluation\.device must be auto, cpu, .*not 'gpux'"):
            check("gpux")


@pytest.mark.parametrize("name", ["cuda:99", "xpu:99"])
def test_a_device_that_is_not_here(name: str) -> None:
    with pytest.raises(RecipeError, match=f"there is no device {name!r} here; give device: auto"):
        chosen_device(name)


def test_devices_that_are_here() -> None:
    assert chosen_device("cpu") == torch.device("cpu")
    assert chosen_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
