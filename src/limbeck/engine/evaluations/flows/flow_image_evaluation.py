"""Measuring flows of images: bits per dimension, FID at two temperatures, and of interpolations ([F] Sec. 4.4)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.data import Dataset, ImageDataset, as_float
from limbeck.engine.evaluations.evaluation import Subject
from limbeck.engine.evaluations.flows.flow_evaluation import EARLY_STOPPING
from limbeck.engine.evaluations.flows.flow_pictures import (
    as_pictures,
    as_pixels,
    interpolations,
    invertible,
    pixel_levels,
)
from limbeck.engine.evaluations.flows.flow_rows import exact_density
from limbeck.engine.evaluations.images.extractor import EXTRACTOR_TRAINING, extractor_name, feature_extractor
from limbeck.engine.evaluations.images.image_evaluation import ImageEvaluation, ImageJudge
from limbeck.engine.evaluations.images.image_samples import images_of
from limbeck.engine.evaluations.picture_kinds import COOL_SAMPLES, INTERPOLATIONS
from limbeck.engine.settings.checks import check_whole
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed
from limbeck.errors import RecipeError
from limbeck.metrics import (
    FeatureExtractor,
    Measure,
    bits_per_dimension,
    extract,
    frechet_distance,
    summarize_rows,
)
from limbeck.pictures import save_grid

__all__ = ["FlowImageEvaluation"]

_ROWS = 100  # at a time: an encoding keeps the rows after every step
_COLUMNS = 8  # of the picture of interpolations


class FlowImageEvaluation(ImageEvaluation):
    r"""Bits per dimension, FID and KID at temperature 1 and FID at a lower one, FID of interpolations, speed and size.

    The test of the latent space ([F] Sec. 4.4, Table 6) encodes pairs of test images and decodes what lies between,
    :math:`y = f^{-1}(T \, f(u, v, \alpha))` with the norm-preserving :math:`f(u, v, \alpha)` of [F] Eq. 16 over the
    latents of all levels together and :math:`\alpha` uniform in [0, 1]. The paper does not say how temperature enters.
    Here it does as in sampling, where it scales every latent: T multiplies the latents that are decoded, so that T = 1
    with :math:`\alpha = 0` gives the test image itself.

    Images are clamped to [0, 1], and rounded to the values that pixels can have where the model knows these
    (``quantization``). An image with a pixel that is not finite counts as black, and in a column of its own.

    Args:
        samples: images drawn from each model at each temperature.
        extractor: as for :class:`ImageEvaluation`.
        extractor_steps: as for :class:`ImageEvaluation`.
        temperature: the lower temperature.
        interpolated: pairs of test images that are interpolated.
        grid: images in each model's grids.

    Raises:
        RecipeError: a number is too small, the temperature is not between 0 and 1, or the extractor is not there.
    """

    pictures = (COOL_SAMPLES, INTERPOLATIONS)

    def __init__(
        self,
        samples: int = 10_000,
        extractor: str | None = None,
        extractor_steps: int = EXTRACTOR_TRAINING.steps,
        temperature: float = 0.7,
        interpolated: int = 5000,
        grid: int = 64,
    ) -> None:
        super().__init__(samples, extractor, extractor_steps, grid=grid)
        check_whole(2, "evaluation.", interpolated=interpolated)
        if not 0 < temperature < 1:
            raise RecipeError(f"evaluation.temperature must be strictly between 0 and 1, not {temperature}")
        self.temperature = temperature
        self.interpolated = interpolated

    @override
    def measures(self, dataset: Dataset | None) -> list[Measure]:
        name, cool = extractor_name(self.extractor, dataset), f"{self.temperature:g}"
        own = [
            Measure("bits_per_dim", "bits per dimension, test", "lower", 3),
            Measure("bits_per_dim_error", "its standard error over images", "neither", 3, detail=True),
            Measure("test_not_finite", "test images not finite", "lower", 0),
            Measure("fid_data", f"FID ({name}) to test data, temperature 1.0", "lower", 1),
            Measure("fid_cool", f"FID ({name}) to test data, temperature {cool}", "lower", 1),
            Measure("fid_interpolated", f"FID ({name}) of interpolations, temperature 1.0", "lower", 1),
            Measure("fid_interpolated_cool", f"FID ({name}) of interpolations, temperature {cool}", "lower", 1),
            Measure("samples_not_finite", "generated images not finite", "lower", 2, "%", detail=True),
        ]
        taken = {measure.key for measure in own} | {"bound", "reconstruction", "parameters_inference"}
        return [*own, *(measure for measure in super().measures(dataset) if measure.key not in taken), *EARLY_STOPPING]

    @override
    def judge(
        self, dataset: Dataset | None, teacher: DGM, cache: Path, seed: int, progress: Progress
    ) -> FlowImageJudge:
        dataset = images_of(dataset)
        extractor = feature_extractor(self.extractor, self.extractor_steps, dataset, cache, progress)
        return FlowImageJudge(self, dataset, teacher, extractor, seed)

    @override
    def dry(self) -> Self:
        return super().dry()._with(interpolated=min(20, self.interpolated))


class FlowImageJudge(ImageJudge):
    """See :class:`FlowImageEvaluation`."""

    settings: FlowImageEvaluation
    shown = "Images are clamped to [0, 1] and rounded to the values that a pixel can have; one with a pixel that is "\
            "not finite counts as black."  # fmt: skip

    def __init__(
        self, settings: FlowImageEvaluation, dataset: ImageDataset, teacher: DGM, extractor: FeatureExtractor, seed: int
    ) -> None:
        super().__init__(settings, dataset, teacher, extractor, seed)
        invertible(teacher)
        self.test = dataset.test.images
        self.alphas = torch.rand(settings.interpolated, generator=self._generator("alphas"))
        cool = f"{settings.temperature:g}"
        self.notes += [
            f"Bits per dimension are an upper bound, with one draw of the dequantisation noise for each of the "
            f"{len(self.test):,} test images, the same draw for every model.",
            f"Interpolations are norm-preserving, between {settings.interpolated:,} pairs of encoded test images at "
            f"random places; at temperature {cool} the latents are multiplied by {cool} before they are decoded. In "
            "the pictures both ends of a row are test images.",
        ]

    @override
    def measure(self, subject: Subject) -> dict[str, float]:
        model, settings, folder = subject.model, self.settings, subject.directory
        invertible(model)
        own, broken = self._seen(self._drawn(model, 1.0))
        values = self._bits(model) | self._distances(own) | self._cost(model)
        values["samples_not_finite"] = 100 * broken
        values["fid_cool"] = self._distance(self._drawn(model, settings.temperature))
        values["fid_interpolated"] = self._distance(self._between(model, 1.0))
        values["fid_interpolated_cool"] = self._distance(self._between(model, settings.temperature))
        for name, temperature in ("samples", 1.0), (COOL_SAMPLES.name, settings.temperature):
            shown = model.join_targets(self._on_grid(model, temperature))
            save_grid(as_pictures(model, shown).numpy(), folder / f"{name}.png")
        save_grid(self._rows_between(model).numpy(), folder / INTERPOLATIONS.file, columns=_COLUMNS)
        del values["parameters_inference"]  # both programs have the same parameters
        return values

    @override
    def _features(self, model: DGM, seed: int) -> Tensor:
        invertible(model)
        return self._seen(self._drawn(model, 1.0, seed))[0]

    def _distance(self, images: Iterator[Tensor]) -> float:
        return frechet_distance(self._seen(images)[0], self.test_features)

    def _seen(self, parts: Iterator[Tensor]) -> tuple[Tensor, float]:
        """Features of images, shape (rows, features), and the share of images that are not finite."""
        features, finite = [], []
        for images in parts:
            features.append(extract(self.extractor, images.nan_to_num(nan=0.0)))
            finite.append(images.isfinite().flatten(1).all(1))
        return torch.cat(features), 1 - torch.cat(finite).double().mean().item()

    @torch.no_grad()
    def _drawn(self, model: DGM, temperature: float, seed: int | None = None) -> Iterator[Tensor]:
        generator = self._generator("samples") if seed is None else torch.Generator().manual_seed(seed)
        for part in torch.split(torch.arange(self.settings.samples), _ROWS):
            drawn = model.sample(len(part), generator=generator, temperature=temperature)
            yield as_pixels(model, model.join_targets(drawn))

    @torch.no_grad()
    def _bits(self, model: DGM) -> dict[str, float]:
        generator, dtype = self._generator("dequantisation"), first_parameter(model).dtype
        found = []
        for images in torch.split(self.test, _ROWS):
            y = model.observed(as_float(images).to(dtype), generator)
            found.append(
                bits_per_dimension(exact_density(model).log_prob(y).double(), y[0].numel(), pixel_levels(model) or 1)
            )
        rows = summarize_rows(torch.cat(found), worst=float("inf"))
        return {
            "bits_per_dim": rows.mean,
            "bits_per_dim_error": rows.standard_error,
            "test_not_finite": float(rows.not_finite),
        }

    def _pairs(self, count: int) -> tuple[Tensor, Tensor]:
        """Test images, each with another one, shape (count, channels, height, width)."""
        generator, total = self._generator("pairs"), len(self.test)
        first = torch.randint(total, (count,), generator=generator)
        apart = torch.randint(1, total, (count,), generator=generator)
        return as_float(self.test[first]), as_float(self.test[(first + apart) % total])

    def _between(self, model: DGM, temperature: float) -> Iterator[Tensor]:
        first, second = self._pairs(self.settings.interpolated)
        for u, v, alphas in zip(*(torch.split(part, _ROWS) for part in (first, second, self.alphas)), strict=True):
            yield as_pixels(model, interpolations(model, u, v, alphas, temperature, self._generator("interpolation")))

    def _rows_between(self, model: DGM) -> Tensor:
        """Rows of images from one test image to another."""
        rows = max(1, self.settings.grid // _COLUMNS)
        u, v = (part.repeat_interleave(_COLUMNS, dim=0) for part in self._pairs(rows))
        alphas = torch.linspace(0, 1, _COLUMNS).repeat(rows)
        return as_pictures(model, interpolations(model, u, v, alphas, 1.0, self._generator("interpolation")))

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, purpose))
