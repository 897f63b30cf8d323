"""The information bottleneck against its published sizes and against its loss written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence
from torch.nn import functional as F

from limbeck.core import methods
from limbeck.core.divergence import kl
from limbeck.core.loss import Batch
from limbeck.core.trace import Kind
from limbeck.errors import ModelError
from limbeck.models import VIB


def model(**arguments: object) -> VIB:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = VIB(**{"image_size": 4, "hidden": 12, "latent_size": 3, "classes": 5, **arguments}).double()
        with torch.no_grad():  # scales that matter, means that differ
            built.encoder[-1].weight *= 5.0
            built.encoder[-1].bias += 2.0
    return built


def batch(rows: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(rows, 1, 4, 4, generator=generator, dtype=torch.float64)
    return Batch(torch.randint(5, (rows,), generator=generator), x)


@pytest.mark.parametrize(
    ("pixels", "hidden", "published"),
    [(28, 1024, 2_380_810), (28, 256, 400_906), (32, 1024, 2_626_570), (32, 256, 462_346)],
)
def test_published_sizes(pixels: int, hidden: int, published: int) -> None:
    with torch.device("meta"):
        built = VIB(image_size=pixels, hidden=hidden)
        plain = VIB(image_size=pixels, hidden=hidden, stochastic=False, dropout=0.2)
    assert sum(p.numel() for p in built.parameters()) == published
    # All outputs of the encoder are features, so only the softmax is larger: by 256 weights a class.
    assert sum(p.numel() for p in plain.parameters()) == published + 256 * 10


def test_the_graph() -> None:
    trace = model().trace(x=batch().x)
    assert {name: site.kind for name, site in trace.items()} == {"z": Kind.LATENT, "y": Kind.TARGET}
    assert trace["z"].value.shape == (6, 3)
    assert isinstance(trace["y"].distribution, Categorical)
    assert trace["y"].distribution.logits.shape == (6, 5)
    plain = model(stochastic=False).trace(x=batch().x)
    assert {name: site.kind for name, site in plain.items()} == {"z": Kind.DETERMINISTIC, "y": Kind.TARGET}
    assert plain["z"].value.shape == (6, 6)


def test_the_code_is_the_network_s_output() -> None:
    built, x = model(), batch().x
    law = built.trace(x=x)["z"].distribution
    outputs = built.encoder(x)
    torch.testing.assert_close(law.loc, outputs[:, :3])
    torch.testing.assert_close(law.scale, torch.log1p((outputs[:, 3:] - 5.0).exp()) + 1e-6)


def test_the_scale_stays_positive_and_finite() -> None:
    built = model()
    with torch.no_grad():
        built.encoder[-1].bias[3:] = torch.tensor([-1e4, 0.0, 1e4])
    scale = built.trace(x=batch().x)["z"].distribution.scale
    assert torch.isfinite(scale).all()
    assert (scale >= 1e-6).all()
    assert (scale[:, 2] > 9e3).all()


@pytest.mark.parametrize("beta", [0.0, 1e-3, 2.0])
def test_the_loss_is_cross_entropy_and_beta_kl(beta: float) -> None:
    built, data = model(beta=beta), batch()
    torch.manual_seed(3)
    loss = built.loss(data)
    torch.manual_seed(3)
    outputs = built.encoder(data.x)
    code = Normal(outputs[:, :3], F.softplus(outputs[:, 3:] - 5.0) + 1e-6)
    logits = built.classifier(code.loc + code.scale * torch.randn(6, 3, dtype=torch.float64))
    entropy = -torch.log_softmax(logits, 1)[range(6), data.y].mean()
    divergence = kl_divergence(code, Normal(0.0, 1.0)).sum(1).mean()
    assert loss.terms["y"].item() == pytest.approx(entropy.item(), rel=1e-10)
    assert loss.terms["z"].item() == pytest.approx(beta * divergence.item(), rel=1e-10)
    assert loss.total.item() == pytest.approx((entropy + beta * divergence).item(), rel=1e-10)


def test_without_noise_the_loss_is_the_cross_entropy() -> None:
    built, data = model(stochastic=False), batch()
    loss = built.loss(data)
    assert list(loss.terms) == ["y"]
    assert loss.total.item() == pytest.approx(-built.trace(x=data.x, values={"y": data.y}).log_prob().mean().item())


def test_dropout_is_for_training_only() -> None:
    built, x = model(stochastic=False, dropout=0.5), batch().x
    torch.manual_seed(0)
    first, second = (built.train().trace(x=x)["z"].value for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (built.eval().trace(x=x)["z"].value for _ in range(2))
    assert torch.equal(first, second)


def test_one_initialisation_with_and_without_noise() -> None:
    """The rows of a table differ in the method alone, also where one has no noise."""
    noisy, plain = model(), model(stochastic=False, dropout=0.1)
    for name, parameter in noisy.encoder.state_dict().items():
        assert torch.equal(parameter, plain.encoder.state_dict()[name]), name


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_distilling_while_training(alpha: float) -> None:
    """[U] Eq. 10 by hand: (1 - alpha) L_VIB + alpha (KL of the classes + lambda W2 / 256 of the codes)."""
    teacher, student, data = model(hidden=20), model(), batch()
    with torch.no_grad():
        student.encoder[-1].bias -= 0.7
    objective = methods.joint(alpha, methods.surrogate(0.1))
    torch.manual_seed(5)
    found = objective(teacher, student, batch=data).total.item()
    torch.manual_seed(5)
    # The objective draws the teacher's code, a class by Gumbel noise, and then the noise of the student's own loss.
    with torch.no_grad():
        taught = teacher.trace(x=data.x)
        learned = student.trace(x=data.x, noise={"z": taught["z"].noise}, values={"y": taught["y"].value})
        own = student.loss(data).total.item() if alpha < 1 else 0.0
    p, q = taught["z"].distribution, learned["z"].distribution
    transport = ((p.loc - q.loc).square() + (p.scale - q.scale).square()).mean(1)
    ours = (kl(taught["y"].distribution, learned["y"].distribution) + 0.1 * transport).mean().item()
    assert found == pytest.approx((1 - alpha) * own + alpha * ours, rel=1e-10)


def test_marginalised_distillation_compares_mean_probabilities() -> None:
    teacher, student, data = model(hidden=20), model(), batch(3)
    torch.manual_seed(2)
    found = methods.marginalized(4)(teacher, student, batch=data).total.item()
    torch.manual_seed(2)
    means = []
    for side in (teacher, student):
        probabilities = side.trace(x=data.x.repeat_interleave(4, 0))["y"].distribution.probs
        means.append(probabilities.reshape(3, 4, 5).mean(1))
    assert found == pytest.approx((means[0] * (means[0] / means[1]).log()).sum(1).mean().item(), rel=1e-8)


def trained(beta: float) -> tuple[float, float]:
    """Accuracy on the training rows, and KL of the code in nats."""
    torch.manual_seed(0)
    x = torch.rand(200, 1, 4, 4)
    data = Batch(x.flatten(1)[:, :3].argmax(1), x)
    built = VIB(image_size=4, hidden=32, latent_size=8, classes=3, beta=beta)
    optimizer = torch.optim.Adam(built.parameters(), 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        built.loss(data).backward()
        optimizer.step()
    built.eval().beta = 1.0
    right = built.sample(x=x, output="mean")["y"].argmax(1) == data.y
    return right.double().mean().item(), built.loss(data).terms["z"].item()


def test_beta_buys_a_narrower_bottleneck() -> None:
    (wide, nats), (narrow, fewer) = trained(0.0), trained(0.02)
    assert wide > 0.9
    assert narrow > 0.9
    assert fewer < 0.5 * nats


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 1, 8, 8), (2, 16)])
def test_the_wrong_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"\(1, 4, 4\).*image_size"):
        model().trace(x=torch.zeros(shape, dtype=torch.float64))


def test_no_image() -> None:
    with pytest.raises(ModelError, match="condition: images"):
        model().trace(3)


@pytest.mark.parametrize("name", ["image_size", "image_channels", "hidden", "latent_size", "classes"])
def test_sizes_are_positive(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} must be positive"):
        VIB(**{name: 0})


@pytest.mark.parametrize(("name", "value"), [("beta", -1.0), ("beta", math.nan), ("dropout", 1.0), ("dropout", -0.1)])
def test_impossible_settings(name: str, value: float) -> None:
    with pytest.raises(ModelError, match=name):
        VIB(**{name: value})
