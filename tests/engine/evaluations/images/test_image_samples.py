"""Images that a model draws, as all evaluations of images see them."""

from __future__ import annotations

import torch

from limbeck.engine.evaluations.images.image_samples import image_targets


def test_images_in_half_precision_can_be_shown() -> None:
    """Numpy, which pictures are made with, has no bfloat16."""
    images = image_targets({"y": torch.full((2, 1, 4, 4), 1.5, dtype=torch.bfloat16)})
    assert (images.numpy() == 1.0).all()
