"""Gradients through discrete latents: the value stays, or becomes it in the limit; the gradient is what it claims."""

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as D

from limbeck.core.coupling import IndependentNoise, SharedNoise, SharedValues
from limbeck.core.graph import DGM
from limbeck.core.methods import surrogate
from limbeck.core.objective import Match, Objective
from limbeck.core.reparam import noise_like, push
from limbeck.core.reparam.discrete_gradient import Relaxation, annealed, relax
from limbeck.core.sites import Sites
from limbeck.core.trace import Kind
from limbeck.errors import MatchError, ReparameterizationError

LAWS = {
    "bernoulli": lambda raw: D.Bernoulli(logits=raw),
    "independent bernoulli": lambda raw: D.Independent(D.Bernoulli(logits=raw), 1),
    "one-hot": lambda raw: D.OneHotCategorical(logits=raw),
    "binomial": lambda raw: D.Binomial(20, logits=raw),
    "poisson": lambda raw: D.Poisson(raw.exp()),
    "geometric": lambda raw: D.Geometric(logits=raw),
}


def drawn(name: str, rows: int = 2000) -> tuple[D.Distribution, Tensor, Tensor, Tensor]:
    raw = torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).repeat(rows, 1)
    law = LAWS[name](raw.requires_grad_())
    noise = noise_like(law, torch.Generator().manual_seed(2))
    return law, raw, noise, push(law, noise)


@pytest.mark.parametrize("name", LAWS)
def test_straight_through_keeps_the_value_and_has_the_gradient_of_the_mean(name: str) -> None:
    law, raw, noise, value = drawn(name)
    assert not value.requires_grad
    passed = relax(law, noise, value, Relaxation("straight-through"))
    assert torch.equal(passed, value)
    weights = torch.randn(passed.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (found,) = torch.autograd.grad((weights * passed).sum(), raw, retain_graph=True)
    (expected,) = torch.autograd.grad((weights * law.mean).sum(), raw)
    assert torch.allclose(found, expected)
    assert expected.abs().max() > 0


def test_a_law_that_is_straight_through_by_itself_has_its_gradient_once() -> None:
    gradients = []
    for family in (D.OneHotCategorical, D.OneHotCategoricalStraightThrough):
        raw = torch.tensor([[0.3, -0.2, 0.9]], requires_grad=True)
        law, noise = family(logits=raw), torch.zeros(1, 3)
        relax(law, noise, push(law, noise), Relaxation("straight-through"))[:, 0].sum().backward()
        gradients.append(raw.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", LAWS)
def test_relaxed_values_become_the_discrete_ones(name: str) -> None:
    law, raw, noise, value = drawn(name)
    distance = [(relax(law, noise, value, Relaxation("relaxed", t)) - value).abs().mean() for t in (1.0, 0.3, 1e-3)]
    assert distance[0] > distance[1] > distance[2]
    assert distance[2] < 2e-3
    soft = relax(law, noise, value, Relaxation("relaxed", 0.3))
    (gradient,) = torch.autograd.grad(soft.sum(-1).square().sum() + soft.square().sum(), raw)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().sum(1) > 0).double().mean() > 0.99


@pytest.mark.parametrize("name", ["bernoulli", "binomial", "poisson", "geometric"])
def test_relaxed_scalars_increase_or_decrease_with_the_noise_as_the_discrete_ones_do(name: str) -> None:
    law, _, noise, value = drawn(name)
    soft = relax(law, noise, value, Relaxation("relaxed", 0.5)).detach()
    for column in range(3):
        order = noise[:, column].argsort()
        ordered = soft[order, column] * (-1 if name == "bernoulli" else 1)
        assert (ordered.diff() >= -1e-12).all()


@pytest.mark.parametrize("name", ["binomial", "poisson"])
def test_relaxed_counts_have_the_mean_and_variance_of_the_law(name: str) -> None:
    law, _, noise, value = drawn(name, rows=40_000)
    soft = relax(law, noise, value, Relaxation("relaxed", 1.0))
    assert torch.allclose(soft.mean(0), law.mean[0], rtol=0.02)
    assert torch.allclose(soft.var(0), law.variance[0], rtol=0.03)


@pytest.mark.parametrize("gradient", ["straight-through", "relaxed"])
@pytest.mark.parametrize("name", LAWS)
def test_values_in_half_precision_stay_so_though_their_noise_is_finer(name: str, gradient: str) -> None:
    law = LAWS[name](torch.zeros(4, 3, dtype=torch.bfloat16))
    noise = noise_like(law, torch.Generator().manual_seed(2))
    assert relax(law, noise, push(law, noise), Relaxation(gradient, 0.5)).dtype == torch.bfloat16


def test_counts_that_cannot_vary_have_finite_gradients() -> None:
    raw = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    law = D.Binomial(5, logits=raw)
    relax(law, torch.tensor([[0.3, 0.3]]), torch.tensor([[0.0, 5.0]]), Relaxation("relaxed")).sum().backward()
    assert torch.isfinite(raw.grad).all()


@pytest.mark.parametrize("logit", [17.0, 30.0, 200.0])
def test_a_success_that_is_certain_has_a_finite_gradient(logit: float) -> None:
    """Its probability rounds to 1, and the logarithm of the rest to minus infinity."""
    raw = torch.tensor([[logit]], requires_grad=True)
    relaxed = relax(D.Geometric(logits=raw), torch.tensor([[0.3]]), torch.zeros(1, 1), Relaxation("relaxed"))
    relaxed.sum().backward()
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()
    assert relaxed.item() == pytest.approx(-0.5, abs=0.05)


def test_what_has_no_gradient_is_refused() -> None:
    digits = D.Categorical(logits=torch.zeros(2, 3))
    with pytest.raises(ReparameterizationError, match="OneHotCategorical"):
        relax(digits, noise_like(digits), torch.tensor([0, 1]), Relaxation("straight-through"))
    law = D.NegativeBinomial(torch.tensor([3.0]), torch.tensor([0.5]))
    with pytest.raises(ReparameterizationError, match="NegativeBinomial has no relaxed form"):
        relax(law, torch.tensor([0.5]), torch.tensor([1.0]), Relaxation("relaxed"))
    coin = D.Bernoulli(torch.tensor([0.5]))
    spin = D.Independent(D.TransformedDistribution(coin, D.AffineTransform(-1.0, 2.0), validate_args=False), 1)
    for gradient in ("straight-through", "relaxed"):
        with pytest.raises(ReparameterizationError, match="declare the law that it transforms"):
            relax(spin, torch.tensor([0.2]), torch.tensor([1.0]), Relaxation(gradient))


def test_annealing() -> None:
    assert annealed(2.0, 0.5, 0.0) == 2.0
    assert annealed(2.0, 0.5, 1.0) == pytest.approx(0.5)
    assert annealed(2.0, 0.5, 0.5) == pytest.approx(1.0)


# ------------------------------------------------------------------------------------------------------ in a method


class Switches(DGM):
    """Two layers of Bernoullis over a Gaussian."""

    def __init__(self) -> None:
        super().__init__()
        self.root = nn.Parameter(torch.zeros(4))
        self.middle, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        z2 = sites.latent("z2", D.Independent(D.Bernoulli(logits=self.root + sites.zeros(4)), 1))
        z1 = sites.latent("z1", D.Independent(D.Bernoulli(logits=self.middle(z2)), 1))
        sites.target("y", D.Normal(self.last(z1), 1.0))


def pair() -> tuple[Switches, Switches]:
    torch.manual_seed(0)
    return Switches().double(), Switches().double()


@pytest.mark.parametrize(
    "coupling",
    [
        SharedNoise(discrete_gradient="straight-through"),
        SharedNoise(discrete_gradient="relaxed"),
        IndependentNoise(3, discrete_gradient="relaxed"),
    ],
)
def test_the_target_reaches_every_layer(coupling: SharedNoise | IndependentNoise) -> None:
    def squared(p: D.Distribution, q: D.Distribution) -> Tensor:
        return (p.mean - q.mean).square().sum(-1)

    for chosen, reached in ((type(coupling)(), False), (coupling, True)):
        teacher, student = pair()
        objective = Objective([Match("y", divergence=squared)], chosen)
        objective(teacher, student, batch_size=64, progress=1.0).backward()
        touched = {name for name, p in student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert touched >= {"last.weight", "last.bias"}
        assert ({"root", "middle.weight"} <= touched) is reached
        assert all(parameter.grad is None for parameter in teacher.parameters())


def test_straight_through_leaves_the_loss_alone_and_a_copy_at_rest() -> None:
    teacher, student = pair()
    plain, passing = surrogate(0.0), surrogate(0.0, discrete_gradient="straight-through")
    losses = [
        method(teacher, student, batch_size=32, generator=torch.Generator().manual_seed(5)).total
        for method in (plain, passing)
    ]
    assert torch.equal(losses[0], losses[1])
    student.load_state_dict(teacher.state_dict())
    loss = passing(teacher, student, batch_size=32)
    loss.backward()
    assert loss.total.item() == 0.0
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in student.parameters())


def test_the_temperature_falls_with_progress() -> None:
    teacher, student = pair()
    method = surrogate(0.0, discrete_gradient="relaxed", temperature=2.0, final_temperature=1e-3)
    hard = surrogate(0.0)

    def loss(objective: Objective, progress: float) -> float:
        return objective(
            teacher, student, batch_size=256, progress=progress, generator=torch.Generator().manual_seed(5)
        ).total.item()

    assert loss(method, 1.0) == pytest.approx(loss(hard, 1.0), rel=1e-2)
    assert abs(loss(method, 0.0) - loss(hard, 0.0)) > 10 * abs(loss(method, 1.0) - loss(hard, 1.0))


def test_latents_are_declared_with_their_own_law() -> None:
    _, student = pair()
    trace = student.trace(8, relaxation=Relaxation("relaxed"))
    assert all(isinstance(trace[name].distribution, D.Independent) for name in ("z1", "z2"))
    assert ((trace["z1"].value > 0) & (trace["z1"].value < 1)).all()
    sampled = student.trace(8).of_kind(Kind.LATENT)
    assert all(set(site.value.unique().tolist()) <= {0.0, 1.0} for site in sampled)


@pytest.mark.parametrize(
    "wrong",
    [{"discrete_gradient": "relax"}, {"temperature": 0.0}, {"final_temperature": -1.0}, {"temperature": float("inf")}],
)
def test_impossible_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(MatchError, match=next(iter(wrong))):
        SharedNoise(**wrong)  # type: ignore[arg-type]
    with pytest.raises(MatchError, match=next(iter(wrong))):
        surrogate(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        SharedValues(**wrong)  # type: ignore[call-arg]
