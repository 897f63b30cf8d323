"""The exact likelihood of a Helmholtz machine is that of enumeration, and a density."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from limbeck.errors import ModelError
from limbeck.metrics import Grid, kl_on_grid
from tests.models.helmholtz.machines import TREE, enumerated, machine, rows


@pytest.mark.parametrize(
    ("graph", "targets", "size"), [(None, None, 2), (TREE, ["y1", "y2", "y3"], 2), (TREE, ["y3", "y1"], 1)]
)
def test_likelihood_is_that_of_enumeration(graph: dict | None, targets: list[str] | None, size: int) -> None:
    model = machine(graph=graph, targets=targets, latent_size=size)
    y = 2.0 * rows(5, len(model.target_names))
    found = model.log_likelihood(y)
    assert found.dtype == torch.float64
    assert torch.allclose(found, torch.logsumexp(enumerated(model, y)[0], 0), rtol=1e-12)


def test_likelihood_is_float64_also_for_a_float32_model_and_far_from_all_mass() -> None:
    model = machine().float()
    y = torch.tensor([[0.3, -0.2], [400.0, -400.0]])
    found = model.log_likelihood(y)
    assert torch.allclose(found, copy.deepcopy(model).double().log_likelihood(y.double()), rtol=1e-12)
    assert bool(torch.isfinite(found).all())
    assert found[1] < -1e5


def test_likelihood_has_the_right_gradient() -> None:
    model, y = machine(), rows()
    model.log_likelihood(y).sum().backward()
    found = [p.grad.clone() for p in model.generative_parameters()]
    model.zero_grad()
    torch.logsumexp(enumerated(model, y)[0], 0).sum().backward()
    assert all(torch.allclose(a, p.grad, rtol=1e-8) for a, p in zip(found, model.generative_parameters()))
    assert all(p.grad is None for p in model.inference_parameters())


def test_density_integrates_to_one_and_quadrature_has_converged() -> None:
    teacher, student = machine(0), machine(1)
    with torch.no_grad():
        results = [
            kl_on_grid(teacher.log_likelihood, student.log_likelihood, Grid.over([-12.0] * 2, [12.0] * 2, steps))
            for steps in (101, 201)
        ]
    assert results[1][1] == pytest.approx(1.0, abs=1e-9)
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-7)
    assert results[1][0] > 0.01


def test_samples_have_the_density_that_is_told() -> None:
    model = machine()
    drawn = model.sample(4000, generator=torch.Generator().manual_seed(0))
    points = torch.cat([drawn["y1"], drawn["y2"]], 1)
    with torch.no_grad():
        entropy, _ = kl_on_grid(
            model.log_likelihood, lambda x: torch.zeros(len(x), dtype=x.dtype), Grid.over([-12.0] * 2, [12.0] * 2, 101)
        )
        told = model.log_likelihood(points)
    assert told.mean().item() == pytest.approx(entropy, abs=4.0 * told.std().item() / math.sqrt(4000))


def test_too_many_latents_are_refused_and_long_chains_are_not() -> None:
    fan = {**{f"z{i}": [] for i in range(6)}, "y": [f"z{i}" for i in range(6)]}
    with pytest.raises(ModelError, match=r"6 latents of 3 bits each, 2 to the 18 .* bound"):
        machine(graph=fan, targets=["y"], latent_size=3).log_likelihood(rows(2, 1))
    chain = {"z0": [], **{f"z{i}": [f"z{i - 1}"] for i in range(1, 30)}, "y": ["z29"]}
    assert torch.isfinite(machine(graph=chain, targets=["y"]).log_likelihood(rows(2, 1))).all()


def test_many_rows_are_worked_through_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    model, y = machine(), rows(20)
    whole = model.log_likelihood(y)
    monkeypatch.setattr("limbeck.models.helmholtz.exact._ENTRIES", 48)
    assert torch.allclose(model.log_likelihood(y), whole, rtol=1e-14)
