"""Structural similarity against its definition, pixel by pixel."""

import pytest
import torch
from torch.nn import functional as F

from limbeck.errors import DataError
from limbeck.metrics import similarity_window, structural_similarity


def by_hand(a, b, window, sigma):
    """The definition, for the window around every pixel in every channel; images are mirrored at their edges."""
    line = torch.exp(-((torch.arange(window).double() - window // 2) ** 2) / (2 * sigma**2))
    weight = torch.outer(line, line) / line.sum() ** 2
    c1, c2 = 0.01**2, 0.03**2
    places = a.shape[-1]
    a, b = (F.pad(part[None].double(), [window // 2] * 4, mode="reflect")[0] for part in (a, b))
    found = []
    for channel in range(a.shape[0]):
        for i in range(places):
            for j in range(places):
                p, q = (part[channel, i : i + window, j : j + window] for part in (a, b))
                mp, mq = (weight * p).sum(), (weight * q).sum()
                vp, vq = (weight * p * p).sum() - mp**2, (weight * q * q).sum() - mq**2
                cov = (weight * p * q).sum() - mp * mq
                found.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(torch.stack(found).mean())


@pytest.mark.parametrize(("size", "window", "sigma"), [(8, 5, 0.5), (18, 11, 1.5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_definition(size, window, sigma, channels):
    assert similarity_window(size, size) == window
    generator = torch.Generator().manual_seed(size)
    images = torch.rand(3, channels, size, size, generator=generator)
    others = (images + 0.3 * torch.rand(images.shape, generator=generator)).clamp(0, 1)
    found = structural_similarity(images, others)
    assert found.tolist() == pytest.approx([by_hand(a, b, window, sigma) for a, b in zip(images, others)], abs=1e-4)
    torch.testing.assert_close(structural_similarity(images, images), torch.ones(3))


def test_every_pixel_of_a_small_image_counts():
    image = torch.full((1, 1, 8, 8), 0.5)
    for row in range(8):
        other = image.clone()
        other[0, 0, row, 3] = 1.0
        assert structural_similarity(image, other).item() < 1.0


def test_refused():
    with pytest.raises(DataError, match="twice the same"):
        structural_similarity(torch.rand(2, 1, 8, 8), torch.rand(1, 1, 8, 8))
    with pytest.raises(DataError, match="at least 5"):
        structural_similarity(torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4))


@pytest.mark.parametrize("factor", [2.0, -1.0, float("nan")])
def test_other_ranges_are_refused(factor):
    images = torch.rand(2, 1, 8, 8)
    with pytest.raises(DataError, match=r"defined on \[0, 1\]"):
        structural_similarity(images, factor * images)


def test_bytes_are_pixels():
    images, others = torch.randint(256, (2, 3, 1, 8, 8), dtype=torch.uint8)
    expected = structural_similarity(images / 255, others / 255)
    torch.testing.assert_close(structural_similarity(images, others), expected)
