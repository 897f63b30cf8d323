"""Structural similarity of pairs of images, with a window that small images have room for."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.errors import DataError
from limbeck.pixels import bytes_to_floats

__all__ = ["similarity_window", "structural_similarity"]

_SIGMAS = {11: 1.5, 5: 0.5}  # side of the Gaussian window in pixels to its standard deviation


def similarity_window(height: int, width: int) -> int:
    """Side of the window, in pixels: the usual 11, or 5 for images of less than 16 pixels a side.

    >>> similarity_window(32, 32), similarity_window(8, 8)
    (11, 5)
    """
    return 11 if min(height, width) >= 16 else 5


def structural_similarity(images: Tensor, others: Tensor) -> Tensor:
    """Mean structural similarity (SSIM) of pairs of images, over windows around every pixel.

    The window is a Gaussian: 11 pixels with a standard deviation of 1.5, as usual, or 5 pixels with 0.5 for images of
    less than 16 pixels a side, which the usual one would cover as a whole. At the edges images are mirrored. Values of
    different windows are not comparable.

    Args:
        images: floats in [0, 1], or uint8 in 0-255; shape (pairs, channels, height, width).
        others: of the same shape.

    Returns:
        Shape (pairs,); 1 for equal images.

    Raises:
        DataError: the shapes differ, there are no images, or they are smaller than the smaller window; or values are
            NaN or outside [0, 1], which is the range that the constants of the measure are for.

    References:
        Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.

    >>> images = torch.rand(3, 1, 8, 8)
    >>> structural_similarity(images, images)
    tensor([1., 1., 1.])
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if images.shape != others.shape or images.ndim != 4 or min(images.shape[2:]) < 5 or not len(images):
        raise DataError(
            f"images have shapes {tuple(images.shape)} and {tuple(others.shape)}; expected twice the same (pairs, "
            "channels, height, width), of at least 5 pixels a side."
        )
    images, others = bytes_to_floats(images), bytes_to_floats(others)
    low, high = (float(end) for end in torch.cat([images, others]).aminmax())  # NaN if any value is
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"images go from {low:.4g} to {high:.4g}, but their similarity is defined on [0, 1]; clamp or rescale them "
            "first. NaN means that the model is broken."
        )
    window = similarity_window(*images.shape[2:])
    found = structural_similarity_index_measure(
        images.double(),
        others.double(),
        kernel_size=window,
        sigma=_SIGMAS[window],
        reduction="none",
        data_range=1.0,
    )
    assert isinstance(found, Tensor)
    return found.to(torch.float32)
