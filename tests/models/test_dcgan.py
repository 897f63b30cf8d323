"""The generative adversarial network: sites, the two players' losses, and who is trained by which."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from limbeck.core.delta import Delta
from limbeck.core.loss import Batch
from limbeck.engine.settings.options import Training
from limbeck.engine.training.fit import fit
from limbeck.errors import ModelError
from limbeck.methods import scratch
from limbeck.models import DCGAN


def built(**changes: object) -> DCGAN:
    arguments = {"image_size": 8, "image_channels": 1, "width": 3, "latent_size": 5, "critic_width": 2} | changes
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DCGAN(**arguments).double()


def pictures(rows: int, size: int = 8) -> Batch:
    return Batch(torch.rand(rows, 1, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64))


@pytest.mark.parametrize(("size", "maps"), [(8, [(6, 4), (3, 8)]), (16, [(12, 4), (6, 8), (3, 16)])])
def test_sites(size: int, maps: list[tuple[int, int]]) -> None:
    trace = built(image_size=size).trace(4)
    assert list(trace) == ["z", *(f"f[{level}]" for level in range(len(maps))), "y"]
    for level, (channels, side) in enumerate(maps):
        assert trace[f"f[{level}]"].value.shape == (4, channels, side, side)
    image = trace["y"]
    assert isinstance(image.distribution, Delta)
    assert image.value.shape == (4, 1, size, size)
    assert image.value.min() > 0
    assert image.value.max() < 1
    assert image.value.std() > 0


def test_the_image_is_a_function_of_z() -> None:
    model = built().eval()
    first, other = model.trace(4), model.trace(4)
    again = model.trace(noise={"z": first["z"].noise})
    assert torch.equal(first["y"].value, again["y"].value)
    assert not torch.equal(first["y"].value, other["y"].value)


def test_the_loss_by_hand() -> None:
    model, batch = built(penalty=0.8), pictures(6)
    torch.manual_seed(3)
    loss = model.loss(batch)
    torch.manual_seed(3)
    fake = model.trace(6)["y"].value

    def judged(images: Tensor) -> Tensor:
        return torch.sigmoid(model.discriminator(2 * images - 1))

    def slope(image: Tensor) -> float:
        """Squared norm of the gradient of the logit, by central differences."""
        total = 0.0
        for index in range(64):
            step = torch.zeros(64, dtype=torch.float64)
            step[index] = 1e-5
            up, down = (model.discriminator(2 * (image + sign * step.view(1, 1, 8, 8)) - 1) for sign in (1, -1))
            total += ((up - down).item() / 2e-5) ** 2
        return total

    with torch.no_grad():
        assert loss.terms["generator"].item() == pytest.approx(-judged(fake).log().mean().item(), rel=1e-12)
        expected = -judged(batch.y).log().mean() - (1 - judged(fake)).log().mean()
        assert loss.terms["discriminator"].item() == pytest.approx(expected.item(), rel=1e-12)
        penalty = 0.5 * 0.8 * sum(slope(image[None]) for image in batch.y) / 6
        assert loss.terms["penalty"].item() == pytest.approx(penalty, rel=1e-6)
    assert set(loss.terms) == {"generator", "discriminator", "penalty"}


@pytest.mark.parametrize("term", ["generator", "discriminator", "penalty"])
def test_each_term_trains_one_player(term: str) -> None:
    model = built()
    model.loss(pictures(6)).terms[term].backward()
    generator, critic = (
        any(p.grad is not None and bool((p.grad != 0).any()) for p in parameters)
        for parameters in (model.generative_parameters(), model.inference_parameters())
    )
    assert (generator, critic) == (term == "generator", term != "generator")
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_frozen_discriminator_stays_frozen() -> None:
    model = built()
    for parameter in model.inference_parameters():
        parameter.requires_grad_(False)
    model.loss(pictures(4))
    assert not any(parameter.requires_grad for parameter in model.inference_parameters())


def test_no_penalty() -> None:
    assert built(penalty=0.0).loss(pictures(4)).terms["penalty"].item() == 0.0


def test_it_learns_where_the_light_is() -> None:
    """Bright above, dark below, and one of two brightnesses."""
    generator = torch.Generator().manual_seed(0)
    level = 0.6 + 0.3 * torch.randint(2, (64, 1, 1, 1), generator=generator).float()
    images = torch.cat([level.expand(64, 1, 4, 8), torch.zeros(64, 1, 4, 8)], dim=2)
    torch.manual_seed(0)
    model = DCGAN(8, 1, width=4, latent_size=4, critic_width=4)
    fit(model, scratch(), Training(steps=150, batch_size=32, learning_rate=5e-3, weight_decay=0.0), data=Batch(images))
    drawn = model.sample(200, output="mean")["y"]
    assert drawn[:, :, :4].mean() > drawn[:, :, 4:].mean() + 0.4
    assert math.isclose(drawn.mean().item(), images.mean().item(), abs_tol=0.15)


def test_refusals() -> None:
    with pytest.raises(ModelError, match=r"\(1, 8, 8\).*\(1, 16, 16\)"):
        built().loss(pictures(2, 16))
    for wrong in ({"image_size": 4}, {"image_size": 12}, {"image_size": 0}):
        with pytest.raises(ModelError, match=r"8, 16, 32"):
            built(**wrong)
    for wrong in ({"width": 0}, {"penalty": -1.0}, {"penalty": math.nan}):
        with pytest.raises(ModelError, match=next(iter(wrong))):
            built(**wrong)
