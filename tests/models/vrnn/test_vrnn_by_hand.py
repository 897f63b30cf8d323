"""The recurrent model's loss and its distillation, a row and a step at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from limbeck.core import methods
from limbeck.core.divergence import wasserstein2
from limbeck.core.loss import Batch
from limbeck.core.trace import Kind
from limbeck.models import VRNN
from tests.models.vrnn.small_vrnns import built, drawings


def normal(parameters: Tensor) -> Normal:
    mean, raw = parameters.chunk(2)
    return Normal(mean, torch.log1p(raw.exp()) / torch.tensor(2.0).double().log() + 1e-6)


def laws(model: VRNN, parameters: Tensor) -> tuple[MultivariateNormal, Bernoulli]:
    flags, mean, raw, lower = parameters[:2], parameters[2:4], parameters[4:6], parameters[6]
    diagonal = torch.log1p(raw.exp()) / torch.tensor(2.0).double().log() + model.floor
    tril = torch.stack([torch.stack([diagonal[0], torch.zeros_like(lower)]), torch.stack([lower, diagonal[1]])])
    offset = MultivariateNormal(model.shift + model.scale * mean, scale_tril=torch.diag(model.scale) @ tril)
    return offset, Bernoulli(logits=flags)


def cell(model: VRNN, y: Tensor, z: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    seen = torch.cat([(y[:2] - model.shift) / model.scale, y[2:]])
    net, inputs = model.lstm, torch.cat([model.embed_y(seen), model.embed_z(z)])
    gates = net.weight_ih_l0 @ inputs + net.bias_ih_l0 + net.weight_hh_l0 @ h + net.bias_hh_l0
    i, f, g, o = gates.chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def start(model: VRNN) -> tuple[Tensor, Tensor]:
    return torch.zeros(model.width).double(), torch.zeros(model.width).double()


def test_loss_is_the_formula() -> None:
    model, y = built(), drawings()
    generator = torch.Generator().manual_seed(7)
    noise = [torch.randn(6, 2, generator=generator, dtype=torch.float64) for _ in range(3)]
    miss, gap = torch.zeros(()).double(), torch.zeros(()).double()
    for row in range(6):
        h, c = start(model)
        for step in range(row % 3 + 1):
            seen = model.embed_y(torch.cat([(y[row, step, :2] - model.shift) / model.scale, y[row, step, 2:]]))
            evidence, prior = normal(model.encoder(torch.cat([seen, h]))), normal(model.prior(h))
            variance = 1 / (prior.scale**-2 + evidence.scale**-2)
            mean = variance * (prior.loc * prior.scale**-2 + evidence.loc * evidence.scale**-2)
            posterior = Normal(mean, variance.sqrt())
            z = posterior.loc + posterior.scale * noise[step][row]
            offset, flags = laws(model, model.decoder(torch.cat([model.embed_z(z), h])))
            miss = miss - offset.log_prob(y[row, step, :2]) - flags.log_prob(y[row, step, 2:]).sum()
            gap = gap + kl_divergence(posterior, prior).sum()
            h, c = cell(model, y[row, step], z, h, c)
    torch.manual_seed(7)
    loss = model.loss(Batch(y))
    assert loss.terms["y"].item() == pytest.approx(miss.item() / 6, abs=1e-10)
    assert loss.terms["z"].item() == pytest.approx(gap.item() / 6, abs=1e-10)
    torch.manual_seed(7)
    half = model.loss(Batch(y), progress=0.5 * model.warm_up)
    assert half.terms["z"].item() == pytest.approx(gap.item() / 12, abs=1e-10)


@pytest.mark.parametrize("method", ["surrogate", "local"])
def test_distillation_is_the_loop(method: str) -> None:
    """Alg. 1 along the teacher's run: shared noise (or values) of the latents, the teacher's samples fed to both."""
    teacher, student = built(0), built(1, width=4)
    objective = methods.surrogate(0.1) if method == "surrogate" else methods.local()
    rows = 7
    taught = teacher.trace(rows, generator=torch.Generator().manual_seed(3))
    loss = objective(teacher, student, batch_size=rows, generator=torch.Generator().manual_seed(3))
    target, latent = torch.zeros(()).double(), torch.zeros(()).double()
    masked = 0
    for row in range(rows):
        h, c = start(student)
        h_t, c_t = start(teacher)
        for step in range(len(taught.of_kind(Kind.TARGET))):
            y, site = taught[f"y[{step}]"].value[row], taught[f"z[{step}]"]
            p, q = normal(teacher.prior(h_t)), normal(student.prior(h))
            z_t = p.loc + p.scale * site.noise[row]
            torch.testing.assert_close(z_t, site.value[row])
            z = q.loc + q.scale * site.noise[row] if method == "surrogate" else z_t
            between = 0.1 * wasserstein2(p, q) / 2 if method == "surrogate" else kl_divergence(p, q)
            latent = latent + between.sum()
            both = [
                laws(model, model.decoder(torch.cat([model.embed_z(value), state])))
                for model, value, state in ((teacher, z_t, h_t), (student, z, h))
            ]
            target = target + kl_divergence(both[0][0], both[1][0]) + kl_divergence(both[0][1], both[1][1]).sum()
            h_t, c_t = cell(teacher, y, z_t, h_t, c_t)
            h, c = cell(student, y, z, h, c)
            if y[3]:
                masked += 2 - step
                break
    assert masked > 0
    assert loss.terms["y[*]"].item() == pytest.approx(target.item() / rows, abs=1e-10)
    assert loss.terms["z[*]"].item() == pytest.approx(latent.item() / rows, abs=1e-10)
