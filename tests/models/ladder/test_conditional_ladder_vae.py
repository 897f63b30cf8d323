"""The ladder VAE with a domain as its input: where it enters, what stays as it was, and whose statistics are used."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from limbeck import methods
from limbeck.core.loss import Batch
from limbeck.core.reconstruction import reconstruct
from limbeck.core.trace import Kind
from limbeck.engine.teachers.prepare import prepare
from limbeck.errors import ModelError
from limbeck.models import LadderVAE
from limbeck.models.ladder.blocks import DomainNorm
from tests.zoo import domain_ladder, ladder, one_hot, pictures

DOUBLE = torch.float64


def built(batch_statistics: bool = True, seed: int = 0, **changes: int) -> LadderVAE:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return domain_ladder(5, batch_statistics, **changes).double().eval()


def domain(number: int, rows: int = 4, domains: int = 3) -> Tensor:
    return torch.eye(domains, dtype=DOUBLE)[[number] * rows]


def draw(model: LadderVAE, x: Tensor, seed: int = 0) -> dict[str, Tensor]:
    return model.trace(x=x, generator=torch.Generator().manual_seed(seed)).values


# ----------------------------------------------------------------------------------------------------- the domain input


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_every_network_gets_the_domain(batch_statistics: bool) -> None:
    """One more map a domain into each network's first layers, and a table for the root; nothing else grows."""
    width, domains, latents, top = 5, 3, 2, 1
    with_domains = sum(p.numel() for p in domain_ladder(width, batch_statistics).parameters())
    without = sum(p.numel() for p in ladder(width).parameters())
    first = 5 * 5 * width  # the stem is the only convolution that sees image and domain
    upper = 2 * (3 * 3 + 1) * width  # two more bottom-up networks: convolution and shortcut of their first block
    down = 3 * (3 * 3 + 1) * width
    assert with_domains - without == domains * (first + upper + down + 2 * latents * top * top)


def test_without_domains_nothing_changes() -> None:
    """The names of the weights too: what was saved before loads."""
    names = set(ladder(4).state_dict())
    assert "root.weight" not in names
    assert names == {name for name in domain_ladder(4, False).state_dict() if name != "root.weight"}
    model = ladder(4).eval()
    values = model.trace(3, generator=torch.Generator().manual_seed(0)).values
    told = model.trace(3, one_hot(3), generator=torch.Generator().manual_seed(0)).values
    assert all(torch.equal(values[name], told[name]) for name in values)


def test_the_root_is_a_learned_gaussian_of_the_domain() -> None:
    model = built()
    x = one_hot(5, DOUBLE)
    law = model.trace(x=x)["z3"].distribution
    assert isinstance(law, Normal)
    mean, raw = model.root.weight.T[[0, 1, 2, 0, 1]].reshape(5, 4, 1, 1).chunk(2, 1)
    torch.testing.assert_close(law.loc, mean)
    torch.testing.assert_close(law.scale, torch.log1p(raw.exp()) / math.log(2) + 1e-6)


@pytest.mark.parametrize("batch_statistics", [False, True])
@pytest.mark.parametrize("site", ["z3", "z2", "z1", "y"])
def test_every_conditional_depends_on_the_domain(site: str, batch_statistics: bool) -> None:
    """Also with all other sites fixed."""
    model = built(batch_statistics)
    values = draw(model, domain(0))
    laws = [model.trace(x=domain(d), values=values)[site].distribution.mean for d in (0, 1)]
    assert (laws[0] - laws[1]).abs().max() > 1e-3


@pytest.mark.parametrize("level", [3, 2, 1])
def test_every_posterior_depends_on_the_domain(level: int) -> None:
    model, y = built(), pictures(4).y.double()
    values = model.trace_inference(y, domain(0)).values
    laws = [model.trace_inference(y, domain(d), values=values)[f"z{level}"].distribution.mean for d in (0, 1)]
    assert (laws[0] - laws[1]).abs().max() > 1e-3


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_the_loss_is_the_evidence_lower_bound(batch_statistics: bool) -> None:
    model, y, x = built(batch_statistics), pictures(6).y.double(), one_hot(6, DOUBLE)
    torch.manual_seed(0)
    loss = model.loss(Batch(y, x))
    torch.manual_seed(0)
    posterior = model.trace_inference(y, x)
    prior = model.trace(x=x, values={**posterior.values, "y": y})
    assert loss.terms["y"].item() == pytest.approx(-prior.log_prob(Kind.TARGET).mean().item(), rel=1e-10)
    for site in posterior.of_kind(Kind.LATENT):
        rows = kl_divergence(site.distribution, prior[site.name].distribution).flatten(1).sum(1)
        assert loss.terms[site.name].item() == pytest.approx(rows.mean().item(), rel=1e-10)


def test_reconstruction_of_a_domain_is_the_mean_at_the_posterior_means() -> None:
    model, y, x = built(), pictures(4).y.double(), one_hot(4, DOUBLE)
    noise = {name: torch.zeros_like(e) for name, e in model.trace_inference(y, x).noise.items()}
    z1 = model.trace_inference(y, x, noise=noise)["z1"].value
    with torch.no_grad():
        torch.testing.assert_close(reconstruct(model, y, x), model.top_down[0](z1, x))
    assert not torch.allclose(reconstruct(model, y, x), reconstruct(model, y, x.flip(1)))


@pytest.mark.parametrize("x", [None, torch.zeros(4, 2), torch.zeros(4), torch.zeros(4, 3, 1)])
def test_a_missing_or_wrong_domain_is_told(x: Tensor | None) -> None:
    model, y = domain_ladder(4), pictures(4).y
    for call in (lambda: model.trace(4, x), lambda: model.loss(Batch(y, x)), lambda: reconstruct(model, y, x),
                 lambda: model.trace_inference(y, x)):  # fmt: skip
        with pytest.raises(ModelError, match=r"3 domains .*one-hot of shape \(batch, 3\).*condition"):
            call()


def test_domains_of_another_number_type() -> None:
    """As ``one_hot`` and numpy make them."""
    model, y = domain_ladder(4).eval(), pictures(4).y
    expected = reconstruct(model, y, one_hot(4))
    for x in (one_hot(4).long(), one_hot(4).bool(), one_hot(4, DOUBLE)):
        assert torch.equal(reconstruct(model, y, x), expected)
        model.sample(x=x)


def test_domains_are_not_negative() -> None:
    with pytest.raises(ModelError, match="domains must not be negative, but is -1"):
        domain_ladder(4, domains=-1)


# -------------------------------------------------------------------------------------------- whose statistics are used


def test_each_domain_is_normalised_by_itself() -> None:
    """By the definition of batch norm, and with the gradients that differences give."""
    torch.manual_seed(0)
    layer = DomainNorm(2).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    h, x = torch.randn(5, 2, 2, 3, dtype=DOUBLE), torch.eye(4, dtype=DOUBLE)[[2, 0, 2, 2, 0]]
    out = layer(h, x)
    for rows in ([0, 2, 3], [1, 4]):
        own = h[rows]
        mean, variance = own.mean((0, 2, 3), keepdim=True), own.var((0, 2, 3), correction=0, keepdim=True)
        scale, shift = layer.weight[:, None, None], layer.bias[:, None, None]
        torch.testing.assert_close(out[rows], (own - mean) / (variance + 1e-5).sqrt() * scale + shift)
    assert torch.autograd.gradcheck(layer, (h.requires_grad_(), x))


@pytest.mark.parametrize("rows", [1, 2])
def test_a_row_of_one_pixel_alone_in_its_domain_is_zero(rows: int) -> None:
    layer = DomainNorm(3)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    out = layer(torch.randn(rows, 3, 1, 1), torch.eye(2)[:rows])
    assert torch.equal(out.flatten(1), layer.bias.expand(rows, 3))


def test_mixed_precision_does_not_round_the_statistics() -> None:
    """Far from zero a rounded mean is off by more than the rows differ."""
    torch.manual_seed(0)
    layer, x = DomainNorm(3), torch.eye(2)[[0, 1, 0, 1, 0, 0]]
    h = (100.0 + 3.0 * torch.randn(6, 3, 4, 4)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(h, x)
    assert out.dtype == h.dtype
    torch.testing.assert_close(out.float(), layer(h.float(), x), atol=0.02, rtol=0.01)


def test_in_a_batch_of_one_domain_it_is_plain_batch_norm() -> None:
    torch.manual_seed(0)
    ours, plain = DomainNorm(4).double(), nn.BatchNorm2d(4, track_running_stats=False).double()
    with torch.no_grad():
        for parameter, other in zip(ours.parameters(), plain.parameters(), strict=True):
            other.copy_(parameter.normal_())
    h = 3.0 + 2.0 * torch.randn(7, 4, 3, 2, dtype=DOUBLE)
    first, second = h.clone().requires_grad_(), h.clone().requires_grad_()
    out, expected = ours(first, domain(1, 7)), plain(second)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    for result, source in ((out, first), (expected, second)):
        (result * torch.arange(result.numel(), dtype=DOUBLE).view_as(result).sin()).sum().backward()
        assert source.grad.abs().max() > 0.01
    torch.testing.assert_close(first.grad, second.grad, rtol=1e-8, atol=1e-10)
    for parameter, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-8, atol=1e-8)


def test_a_domain_is_the_same_whoever_else_is_in_the_batch() -> None:
    """What a model learned of one domain at a time is not another thing where domains come mixed."""
    model = built()
    alone = model.trace(x=domain(1, 6), generator=torch.Generator().manual_seed(0))
    others = model.trace(x=domain(2, 3), generator=torch.Generator().manual_seed(1))
    noise = {name: torch.cat([others.noise[name], e]) for name, e in alone.noise.items()}
    mixed = model.trace(x=torch.cat([domain(2, 3), domain(1, 6)]), noise=noise)
    for name, site in alone.items():
        torch.testing.assert_close(mixed[name].value[3:], site.value)
    plain = built(False).train()
    alone, mixed = (plain.trace(x=x, noise=noise)["y"].value for x in (domain(1, 9), one_hot(9, DOUBLE)))
    assert (alone - mixed).abs().max() > 1e-3


def test_there_is_nothing_that_a_training_pass_could_change() -> None:
    """In train mode and in eval mode it is the same model, and its state is its weights."""
    model = built()
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
    values = draw(model, one_hot(6, DOUBLE))
    trained = draw(model.train(), one_hot(6, DOUBLE))
    assert all(torch.equal(values[name], trained[name]) for name in values)
    assert any("running_mean" in name for name in built(False).state_dict())


def test_batch_statistics_without_domains() -> None:
    torch.manual_seed(0)
    model = LadderVAE(8, 1, 3, 4, 2, batch_statistics=True)
    assert not any("running" in name for name in model.state_dict())
    one, other = (model.eval().trace(6, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(one["y"].value, other["y"].value)
    assert torch.equal(model.train().trace(noise=one.noise)["y"].value, one["y"].value)


@pytest.mark.parametrize("domains", [0, 3])
def test_preparing_a_teacher_leaves_batch_statistics_alone(domains: int) -> None:
    teacher = built(domains=domains)
    x = one_hot(6, DOUBLE) if domains else None
    prepared = prepare(teacher, None if x is None else x[:2])
    kinds = DomainNorm if domains else nn.BatchNorm2d
    counts = [sum(isinstance(module, kinds) for module in model.modules()) for model in (teacher, prepared)]
    assert counts[0] == counts[1] == 3 * 2 * 2 * 2
    first = teacher.trace(6, x)
    again = prepared.trace(6, x, noise=first.noise)
    for name, site in first.items():
        torch.testing.assert_close(again[name].value, site.value)


def test_preparing_a_conditional_teacher_folds_running_statistics() -> None:
    teacher = built(False)
    x = one_hot(64, DOUBLE)
    with torch.no_grad():
        teacher.train().loss(Batch(pictures(64).y.double(), x))
    teacher.eval()
    prepared = prepare(teacher, x[:2])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in prepared.modules())
    first = teacher.trace(x=x)
    again = prepared.trace(x=x, noise=first.noise)
    torch.testing.assert_close(again["y"].value, first["y"].value, rtol=1e-6, atol=1e-6)


def test_learning_one_domain_leaves_the_teachers_other_domains_as_they_are() -> None:
    teacher = built().float()
    student = copy.deepcopy(teacher).train()
    before = draw(teacher, one_hot(6))
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    objective = methods.continual()
    new = domain(1, 8).float()
    for _ in range(3):
        optimizer.zero_grad()
        objective(teacher, student, batch=Batch(pictures(8).y, new), x=domain(0, 8).float()).backward()
        optimizer.step()
    after = draw(teacher, one_hot(6))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(draw(student, one_hot(6))["y"], before["y"])
