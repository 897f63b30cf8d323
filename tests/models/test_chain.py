"""The two teachers of the papers' figures, and their students of two units a layer."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Binomial, Normal, Uniform, kl_divergence

from limbeck.core import methods
from limbeck.core.trace import Kind
from limbeck.errors import ModelError
from limbeck.metrics import parameter_count
from limbeck.models import BinomialChain, Chain, GaussianChain, ResidualBinomialChain, ResidualGaussianChain

PAIRS = [(GaussianChain, ResidualGaussianChain), (BinomialChain, ResidualBinomialChain)]


@pytest.mark.parametrize("layers", [1, 2, 20])
@pytest.mark.parametrize("kind", [kind for pair in PAIRS for kind in pair])
def test_sites(kind: type[Chain], layers: int) -> None:
    trace = kind(layers=layers).trace(batch_size=7)
    assert list(trace) == [f"z[{i}]" for i in range(1, layers + 1)] + ["y"]
    assert [site.kind for site in trace.of_kind(Kind.TARGET)] == [Kind.TARGET]
    for site in trace.values.values():
        assert site.shape == (7, 1)
        assert site.isfinite().all()
    assert isinstance(trace["z[1]"].distribution, Uniform)
    law = Normal if kind.count is None and "Gaussian" in kind.__name__ else Binomial
    assert all(isinstance(site.distribution, law) for name, site in trace.items() if name != "z[1]")


def test_gaussian_teacher_is_the_papers_formula() -> None:
    teacher = GaussianChain(layers=3).double()
    trace = teacher.trace(batch_size=500)
    roots = trace["z[1]"].value
    assert roots.min() < -0.9
    assert roots.max() > 0.9
    assert roots.abs().max() <= 1.0
    for parent, child in (("z[1]", "z[2]"), ("z[2]", "z[3]"), ("z[3]", "y")):
        z, law = trace[parent].value, trace[child].distribution
        by_hand = torch.where(z >= 0, z.clamp(min=0) ** 1.1, -((-z).clamp(min=0) ** 1.1))
        torch.testing.assert_close(law.mean, by_hand)
        torch.testing.assert_close(law.variance, torch.full_like(z, 0.01))


def test_binomial_teacher_is_the_papers_formula() -> None:
    trace = BinomialChain(layers=3).double().trace(batch_size=500)
    assert trace["z[1]"].value.max() <= 1.0
    assert trace["z[1]"].value.min() >= 0.0
    for parent, child, trials in (("z[1]", "z[2]", 1), ("z[2]", "z[3]", 1000), ("z[3]", "y", 1000)):
        law = trace[child].distribution
        assert bool((law.total_count == 1000).all())
        torch.testing.assert_close(law.probs, (trace[parent].value / trials) ** 1.2, atol=1e-6, rtol=0)
    for name in ("z[2]", "z[3]", "y"):
        counts = trace[name].value
        assert torch.equal(counts, counts.round())
        assert counts.min() >= 0
        assert counts.max() <= 1000


@pytest.mark.parametrize("student", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_laws_at_the_ends_are_finite(student: bool, dtype: torch.dtype) -> None:
    teacher, learner = BinomialChain(layers=2).to(dtype), ResidualBinomialChain(layers=2).to(dtype)
    for first in (True, False):
        ends = torch.tensor([[0.0], [1.0 if first else 1000.0]], dtype=dtype)
        p, q = (model.conditionals()[0 if first else 1](ends) for model in (teacher, learner))
        assert kl_divergence(p, p).abs().max() < 1e-6
        loss = methods.local().matches[1].divergence(p, q)
        assert loss.isfinite().all()
        loss.sum().backward(retain_graph=True)
    assert all(p.grad.isfinite().all() for p in learner.parameters() if p.grad is not None)
    # Absorbing up to the margin: one of a thousand trials succeeds with probability 1e-4.
    assert teacher.conditionals()[1](torch.zeros(1, 1, dtype=dtype)).mean.item() < 2e-4
    assert teacher.conditionals()[1](torch.full((1, 1), 1000.0, dtype=dtype)).mean.item() > 1000 - 2e-4


def test_one_function_in_single_and_double_precision() -> None:
    for kind in (BinomialChain, ResidualBinomialChain, GaussianChain, ResidualGaussianChain):
        torch.manual_seed(0)
        model = kind(layers=2)
        z = torch.tensor([[0.0], [1.0], [17.0], [999.0], [1000.0]]) if model.count else torch.randn(5, 1)
        single = model.conditionals()[1](z).mean
        double = model.double().conditionals()[1](z.double()).mean
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


def test_students_by_hand() -> None:
    torch.manual_seed(0)
    gaussian = ResidualGaussianChain(layers=3).double()
    binomial = ResidualBinomialChain(layers=3, activation="tanh").double()

    def moved(model: Chain, layer: int, z: Tensor, unit) -> Tensor:
        r = model.residual
        hidden = [unit(r.inner_weight[layer, j] * z + r.inner_bias[layer, j]) for j in range(2)]
        return z + sum(r.outer_weight[layer, j, 0] * hidden[j] for j in range(2)) + r.outer_bias[layer, 0]

    z = torch.tensor([[-0.7], [0.2], [1.4]], dtype=torch.float64)
    law = gaussian.conditionals()[1](z)
    torch.testing.assert_close(law.mean, moved(gaussian, 1, z, torch.relu))
    torch.testing.assert_close(law.scale, torch.ones_like(z) * (1 + 1e-6))  # softplus(0) / ln 2
    counts = torch.tensor([[1.0], [400.0], [990.0]], dtype=torch.float64)
    share = counts / 1000
    logits = moved(binomial, 2, torch.log(share / (1 - share)), torch.tanh)
    torch.testing.assert_close(binomial.conditionals()[2](counts).logits, logits)
    root = torch.tensor([[0.3]], dtype=torch.float64)
    logits = moved(binomial, 0, torch.log(root / (1 - root)), torch.tanh)
    torch.testing.assert_close(binomial.conditionals()[0](root).logits, logits)


def test_sizes() -> None:
    # A layer: two units of weight, bias and outer weight, an outer bias; and a scale where it is Gaussian.
    assert parameter_count(ResidualGaussianChain(layers=5).parameters()) == 5 * 8
    assert parameter_count(ResidualBinomialChain(layers=5).parameters()) == 5 * 7
    assert parameter_count(GaussianChain(layers=5).parameters()) == 0


@pytest.mark.parametrize("chain", [ResidualGaussianChain, ResidualBinomialChain])
def test_activations_are_those_there_are(chain: type[Chain]) -> None:
    with pytest.raises(ModelError, match="activation must be relu or tanh, not 'sigmoid'"):
        chain(layers=1, activation="sigmoid")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GaussianChain(layers=0), "GaussianChain: layers must be at least 1, not 0"),
        (lambda: GaussianChain(2, scale=0.0), "GaussianChain: scale must be positive, not 0.0"),
        (lambda: BinomialChain(2, count=0), "BinomialChain: count must be positive, not 0"),
        (lambda: ResidualBinomialChain(2, count=0), "ResidualBinomialChain: count must be positive, not 0"),
        (lambda: ResidualBinomialChain(2, width=0), "ResidualBinomialChain: width must be positive, not 0"),
        (lambda: ResidualGaussianChain(2, width=0), "ResidualGaussianChain: width must be positive, not 0"),
    ],
)
def test_impossible_sizes(build: Callable[[], Chain], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build()


@pytest.mark.parametrize("method", [methods.surrogate(), methods.local()])
@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_a_few_steps_lower_the_loss(teacher: type[Chain], student: type[Chain], method) -> None:
    torch.manual_seed(0)
    taught, learner = teacher(layers=3), student(layers=3)
    optimizer = torch.optim.Adam(learner.parameters(), 3e-2)
    losses = []
    for _ in range(60):
        loss = method(taught, learner, batch_size=64)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.total.item())
    assert math.fsum(losses[-5:]) < 0.5 * math.fsum(losses[:5])


@pytest.mark.parametrize("kind", [GaussianChain, BinomialChain])
def test_a_teacher_without_parameters_is_saved_and_loaded(kind: type[Chain], tmp_path) -> None:
    kind(layers=4, exponent=1.3).save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    assert (loaded.layers, loaded.exponent) == (4, 1.3)
