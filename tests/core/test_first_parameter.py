"""The first parameter is the one that torch names first, and there is an answer where there is none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.core.first_parameter import first_parameter


class Biasless(nn.Module):
    """The first name is taken, and by nothing: as ``bias=None`` of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("bias", None)
        self.weight = nn.Parameter(torch.ones(2))


class OwnLast(nn.Module):
    """A parameter of its own after its modules: torch names its own first all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.scale = nn.Parameter(torch.ones(5))


class Absent(nn.Module):
    """A module that may be there, and is not."""

    def __init__(self) -> None:
        super().__init__()
        self.register_module("norm", None)
        self.layer = nn.Linear(3, 2)


MODELS = {
    "alone": lambda: nn.Linear(3, 2),
    "after modules without": lambda: nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(3, 2), nn.Linear(2, 1)),
    "nested": lambda: nn.Sequential(
        nn.Sequential(nn.ReLU(), nn.Sequential()), nn.Sequential(nn.ModuleList([nn.Identity(), nn.Linear(3, 2)])),
        nn.Linear(2, 1),
    ),
    "none in its place": lambda: nn.Sequential(Biasless(), nn.Linear(3, 2)),
    "without bias": lambda: nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.Linear(3, 2, bias=False)),
    "own after modules": OwnLast,
    "module not there": Absent,
    "only none, then another": lambda: nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.PReLU()),
}  # fmt: skip

WITHOUT = {
    "no module": nn.ReLU,
    "empty": nn.Sequential,
    "nested": lambda: nn.Sequential(nn.ReLU(), nn.Sequential(nn.Flatten())),
    "only none": lambda: nn.BatchNorm1d(3, affine=False),  # and buffers, which are no parameters
}


@pytest.mark.parametrize("made", MODELS.values(), ids=list(MODELS))
def test_it_is_the_one_that_torch_names_first(made):
    model = made()
    otherwise = torch.zeros(1)
    assert first_parameter(model) is next(model.parameters())
    assert first_parameter(model, otherwise) is next(model.parameters())


@pytest.mark.parametrize("made", WITHOUT.values(), ids=list(WITHOUT))
def test_without_parameters_it_is_what_stands_in(made):
    model, otherwise = made(), torch.zeros(1, dtype=torch.float64)
    assert next(model.parameters(), None) is None
    assert first_parameter(model, otherwise) is otherwise
    if not list(model.buffers()):
        assert first_parameter(model).shape == (0,)


def test_a_shared_parameter_is_found_where_it_comes_first():
    shared = nn.Linear(3, 3)
    model = nn.Sequential(nn.Sequential(nn.ReLU(), shared), nn.Linear(3, 3), shared)
    assert first_parameter(model) is shared.weight


def test_a_model_in_closed_form_lives_where_its_buffers_do():
    model = nn.Module()
    model.register_buffer("count", torch.zeros((), dtype=torch.int64))
    model.register_buffer("mean", torch.zeros(2, dtype=torch.float64))
    assert first_parameter(model) is model.mean
