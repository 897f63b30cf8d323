"""What every flow must do, ours, zuko's and those of others."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.distributions import Normal

from limbeck import DGM, methods
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.core.trace import Kind
from limbeck.errors import ModelError
from limbeck.models import Flow, Glow, StepFlow, TableGlow, ZukoFlow
from tests.flows import EXACT, KINDS, ONE, Bend, FlowKind

every = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
exact = pytest.mark.parametrize("kind", EXACT, ids=lambda kind: kind.name)


def together(latents: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.cat([u.flatten(1) for u in latents], 1)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@exact
def test_decoding_undoes_encoding(kind: FlowKind, dtype: torch.dtype, limit: float) -> None:
    flow = kind.flow(dtype=dtype)
    y, x = kind.rows(64, dtype)
    flow.adapt(Batch(y, x))
    latents = flow.encode(y, x)
    torch.testing.assert_close(flow.decode(latents, x), y, atol=limit, rtol=0.0)
    drawn = flow.sample(64, x, generator=torch.Generator().manual_seed(0))["y"]
    noise = together(flow.encode(drawn, x))
    again = flow.sample(64, x, generator=torch.Generator().manual_seed(0))["y"]
    assert torch.equal(drawn, again)
    torch.testing.assert_close(flow.decode(flow.encode(drawn, x), x), drawn, atol=limit, rtol=limit)
    assert noise.dtype == drawn.dtype == dtype


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.exact], ids=lambda kind: kind.name)
def test_decoding_by_search_undoes_encoding(kind: FlowKind) -> None:
    flow = kind.flow()
    y, x = kind.rows(16)
    torch.testing.assert_close(flow.decode(flow.encode(y, x), x), y, atol=1e-4, rtol=0.0)


@every
def test_the_log_determinant_is_that_of_the_jacobian(kind: FlowKind) -> None:
    flow = kind.flow()
    rows, given = kind.rows(32)
    flow.adapt(Batch(rows, given))
    y, x = rows[:3], None if given is None else given[:3]
    for row in range(len(y)):
        told = None if x is None else x[row : row + 1]

        def latent(flat: torch.Tensor, told: torch.Tensor | None = told) -> torch.Tensor:
            return together(flow.encode(flat.view(1, *kind.shape), told))[0]

        flat = y[row].flatten()
        jacobian = torch.autograd.functional.jacobian(latent, flat)
        expected = Normal(0.0, 1.0).log_prob(latent(flat)).sum() + torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(flow.log_prob(y[row : row + 1], told)[0], expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    "build",
    [
        lambda: TableGlow(2, 4, hidden=8),
        lambda: TableGlow(2, 4, hidden=8, coupling="additive"),
        lambda: ZukoFlow("MAF", 2, standardize=True, hidden_features=[8]),
        lambda: ZukoFlow("NSF", 2, hidden_features=[8]),
        lambda: StepFlow([Bend(2, 4), Bend(2, 4)], 2),
    ],
    ids=["glow", "additive", "maf", "nsf", "steps"],
)
def test_a_density_integrates_to_one(build) -> None:
    flow = FlowKind("", lambda depth: build()).flow()
    flow.adapt(
        Batch(torch.tensor([1.0, -0.5]) + torch.randn(100, 2, generator=torch.Generator().manual_seed(0)).double())
    )
    axis = torch.linspace(-16.0, 16.0, 321, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        mass = flow.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    assert mass.item() == pytest.approx(1.0, abs=2e-3)


@every
def test_both_programs_have_the_same_sites(kind: FlowKind) -> None:
    flow = kind.flow()
    y, x = kind.rows(6)
    seen = flow.trace_inference(y, x)
    drawn = flow.trace(6, x, values={name: site.value for name, site in seen.items() if site.kind is Kind.LATENT})
    assert set(drawn) == {*seen, "y"}
    for name, site in seen.items():
        torch.testing.assert_close(site.value, drawn[name].value, atol=1e-8 if kind.exact else 1e-3, rtol=1e-6)
    steps = [f"h[{level}][{step}]" for level, count in enumerate(flow.step_counts) for step in range(1, count + 1)]
    assert [name for name in seen if name.startswith("h")] == steps[:-1]
    torch.testing.assert_close(flow.log_prob(y, x), seen["log_prob"].value, atol=1e-10, rtol=1e-10)


@every
def test_the_density_of_a_row_is_a_sum_over_its_latents_and_steps(kind: FlowKind) -> None:
    flow = kind.flow()
    y, x = kind.rows(4)
    alone = torch.cat([flow.log_prob(y[row : row + 1], None if x is None else x[row : row + 1]) for row in range(4)])
    torch.testing.assert_close(flow.log_prob(y, x), alone)
    assert alone.shape == (4,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every
def test_a_saved_flow_is_the_same_and_adapts_no_more(kind: FlowKind, dtype: torch.dtype, tmp_path) -> None:
    flow = kind.flow(dtype=dtype)
    y, x = kind.rows(8, dtype)
    flow.adapt(Batch(y, x))
    flow.save_pretrained(tmp_path)
    loaded = DGM.from_pretrained(tmp_path)
    assert type(loaded) is type(flow)
    assert loaded.config == flow.config
    assert torch.equal(loaded.log_prob(y, x), flow.log_prob(y, x))
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    loaded.adapt(Batch(3.0 * y + 1.0, x))  # it was adapted before it was saved
    assert all(torch.equal(before[name], tensor) for name, tensor in loaded.state_dict().items())


METHODS = {
    "lkd": methods.lkd(1.0, 0.0),
    "ilkd": methods.ilkd(1.0, 0.0),
    "ilkd of samples": methods.ilkd(1.0, 0.0, observed="teacher"),
    "skd": methods.skd(1.0, 1.0, 0.0),
    "skd, stable": methods.skd(1.0, 1.0, 0.0, inverse=False),
    "density": methods.density(0.1),
    "reverse": methods.reverse_density(),
}


@pytest.mark.parametrize("objective", METHODS.values(), ids=METHODS.keys())
@exact
def test_an_exact_copy_has_loss_zero_and_stays(kind: FlowKind, objective: Objective) -> None:
    teacher = kind.flow()
    student = copy.deepcopy(teacher)
    y, x = kind.rows(8)
    objective.prepare(teacher, student, x)
    loss = objective(teacher, student, batch=Batch(y, x), batch_size=8, x=x)
    for name, term in loss.terms.items():
        assert abs(term.item()) < 1e-9, name
    if not any("log_prob" in name for name in loss.terms):
        loss.total.backward()
        gradients = [parameter.grad for parameter in student.parameters() if parameter.grad is not None]
        assert gradients
        assert max(gradient.abs().max().item() for gradient in gradients) < 1e-12


@pytest.mark.parametrize("name", ["table glow", "glow", "maf", "nice", "bent"])
def test_the_teacher_is_untouched_and_the_student_learns(name: str) -> None:
    kind = ONE[name]
    teacher, student = kind.flow(depth=4), kind.flow(depth=2, seed=5)
    teacher.train()
    y, x = kind.rows(8)
    before = {key: tensor.clone() for key, tensor in teacher.state_dict().items()}
    for objective in (methods.ilkd(), methods.skd(), methods.skd(inverse=False, pool=16), methods.reverse_density()):
        objective.prepare(teacher, student, x)
        loss = objective(teacher, student, batch=Batch(y, x), batch_size=8, x=x)
        assert torch.isfinite(loss.total)
        student.zero_grad()
        loss.total.backward()
        for key, parameter in student.named_parameters():
            assert parameter.grad is not None, key
            assert torch.isfinite(parameter.grad).all(), key
    assert teacher.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(before[key], tensor) for key, tensor in teacher.state_dict().items())


CONDITIONED = {
    "table glow": lambda context: TableGlow(3, depth=1, hidden=4, context=context),
    "maf": lambda context: ZukoFlow("MAF", 3, context=context, hidden_features=[4]),
    "standardised": lambda context: ZukoFlow("NSF", 3, standardize=True, context=context, hidden_features=[4]),
}


@pytest.mark.parametrize("program", ["loss", "adapt", "sample", "log_prob"])
@pytest.mark.parametrize(
    ("context", "x", "message"),
    [
        (2, None, "has context=2, but no x was given"),
        (0, torch.zeros(5, 2), "has context=0, but x was given"),
        (2, torch.zeros(5, 3), r"has context=2, but rows of x have shape \(3,\)"),
    ],
)
@pytest.mark.parametrize("name", CONDITIONED)
def test_conditioning_inputs_that_do_not_fit_are_refused(
    name: str, context: int, x: torch.Tensor | None, message: str, program
) -> None:
    flow, y = CONDITIONED[name](context), torch.zeros(5, 3)
    calls = {
        "loss": lambda: flow.loss(Batch(y, x)),
        "adapt": lambda: flow.adapt(Batch(y, x)),
        "sample": lambda: flow.sample(5, x),
        "log_prob": lambda: flow.log_prob(y, x),
    }
    with pytest.raises(ModelError, match=message):
        calls[program]()


def test_images_have_no_conditioning_input() -> None:
    with pytest.raises(ModelError, match="Glow has context=0, but x was given"):
        Glow(8, 1, 1, 1, 2).loss(Batch(torch.zeros(2, 1, 8, 8), torch.zeros(2, 3)))


def test_loss_is_the_mean_negative_log_likelihood() -> None:
    flow = ONE["maf"].flow()
    y, x = ONE["maf"].rows(10)
    loss = flow.loss(Batch(y, x))
    assert loss.terms.keys() == {"nll"}
    assert torch.equal(loss.total, -flow.log_prob(y, x).mean())


def test_dequantisation_is_part_of_the_loss() -> None:
    flow = Glow(2, 1, 1, 1, hidden=2, quantization=17)
    y = torch.randint(17, (5, 1, 2, 2)) / 16.0
    torch.manual_seed(0)
    loss = flow.loss(Batch(y)).total
    seen = flow.observed(y, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    assert torch.equal(flow.observed(y), seen)
    assert torch.equal(loss, -flow.log_prob(seen).mean())


def test_temperature_narrows_the_latents() -> None:
    flow: Flow = ONE["table glow"].flow()
    cold = flow.sample(200, temperature=0.0)["y"]
    assert cold.std(0).max() < 1e-12
    middle = flow.decode([torch.zeros(1, 5, dtype=torch.float64)])
    torch.testing.assert_close(cold[:1], middle)
    assert math.isfinite(flow.log_prob(cold[:1]).item())
