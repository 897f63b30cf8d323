"""Measuring diffusion samplers and their few-step students ([D] Sec. 4): quality, likeness, steps, speed, pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal, Self

from typing_extensions import override

from limbeck.core.graph import DGM
from limbeck.data import Dataset
from limbeck.engine.evaluations.diffusion.diffusion_judge import SPLITS, DiffusionJudge
from limbeck.engine.evaluations.diffusion.diffusion_variants import check_steps
from limbeck.engine.evaluations.evaluation import PARAMETERS, TRAIN_SECONDS, throughput_measure
from limbeck.engine.evaluations.images.extractor import EXTRACTOR_TRAINING, extractor_name, feature_extractor
from limbeck.engine.evaluations.images.image_evaluation import ImageEvaluation
from limbeck.engine.evaluations.images.image_samples import images_of
from limbeck.engine.evaluations.picture_kinds import BESIDE_TEACHER, BETWEEN_NOISES, LARGER, NEIGHBOURS
from limbeck.engine.settings.checks import check_whole
from limbeck.engine.settings.placement import check_device
from limbeck.engine.stages.progress import Progress
from limbeck.errors import RecipeError
from limbeck.metrics import Measure, similarity_window

__all__ = ["DiffusionEvaluation"]


class DiffusionEvaluation(ImageEvaluation):
    """FID, KID and Inception score, likeness to the teacher's image of the same noise, network evaluations, speed.

    A student must beat the teacher at the same number of steps, so the teacher is also measured at ``steps_shown``
    steps, in rows of its own. Any other model of images can be a row; columns that mean nothing for it stay empty.

    Args:
        samples: images drawn from each student.
        teacher_samples: images drawn from the teacher, at any number of steps; by default ``samples``. FID falls with
            the number of images, so that with fewer the teacher looks a little worse than it is.
        steps_shown: numbers of steps at which the teacher is measured besides its own.
        spacing: of these steps; see :func:`limbeck.models.diffusion.schedule.sampling_times`.
        pairs: images of teacher and student from the same noise that are compared one by one.
        extractor: as for :class:`ImageEvaluation`.
        extractor_steps: as for :class:`ImageEvaluation`.
        second_extractor: whether FID is measured also in the features of a second classifier, trained from another
            seed: methods that train on the features of the first one have not seen the second.
        grid: images in each model's grids.
        neighbours: training images among which the nearest to each of a model's images are searched.
        larger: another size than that of the training images, in pixels or as height and width, for a picture of such
            images; by default there is none.
        batch: images drawn at a time.
        device: where images are drawn; ``"auto"`` is a GPU if there is one.

    Raises:
        RecipeError: a number is too small, or the extractor is not there.
    """

    pictures = (BESIDE_TEACHER, BETWEEN_NOISES, LARGER, NEIGHBOURS)

    def __init__(
        self,
        samples: int = 10_000,
        teacher_samples: int | None = None,
        steps_shown: list[int] = [1, 2, 4, 10],  # noqa: B006 - never changed; a recipe shows it as the default
        spacing: Literal["leading", "trailing", "linspace", "quadratic"] = "trailing",
        pairs: int = 500,
        extractor: str | None = None,
        extractor_steps: int = EXTRACTOR_TRAINING.steps,
        second_extractor: bool = False,
        grid: int = 64,
        neighbours: int = 20_000,
        larger: int | list[int] | None = None,
        batch: int = 250,
        device: str = "auto",
    ) -> None:
        super().__init__(samples, extractor, extractor_steps, grid=grid)
        self.teacher_samples = samples if teacher_samples is None else teacher_samples
        check_whole(2, "evaluation.", teacher_samples=self.teacher_samples, pairs=pairs, batch=batch)
        check_whole(6, "evaluation.", neighbours=neighbours)
        if second_extractor and extractor is not None:
            raise RecipeError("evaluation: a second extractor is trained on the labels only if the first one is, too")
        check_steps(steps_shown)
        check_device(device)
        self.steps_shown = [*steps_shown]
        self.spacing = spacing
        self.pairs = pairs
        self.second_extractor = second_extractor
        self.neighbours = neighbours
        self.larger = larger
        self.batch = batch
        self.device = device

    @property
    @override
    def steps(self) -> int:
        return super().steps * (1 + self.second_extractor)

    @override
    def measures(self, dataset: Dataset | None) -> list[Measure]:
        name = extractor_name(self.extractor, dataset)
        window = similarity_window(*images_of(dataset).image_shape[1:])
        shared = {measure.key: measure for measure in super().measures(dataset)}
        second = Measure("fid_second", f"FID ({name}-2) to test data", "lower", 1)
        score = [
            Measure("inception_score", f"Inception score ({name})", "higher", 2),
            Measure("inception_score_spread", f"its standard deviation over {SPLITS} parts", "neither", 2, detail=True),
        ]
        return [
            Measure("network_evaluations", "steps", "neither", 0),
            shared["fid_data"],
            *([second] if self.second_extractor else []),
            shared["fid_teacher"],
            dataclasses.replace(shared["kid_data"], detail=True),
            *([] if self.extractor else score),
            Measure("mse_teacher", "squared error to the teacher's image", "lower", 4),
            Measure("ssim_teacher", f"SSIM to the teacher's image ({window} pixels)", "higher", 3),
            Measure("nearest_closer", "nearer to training images than 99 % of test images", "neither", 1, "%"),
            Measure(
                "nearest_ratio", "distance to nearest training image / same of test images", "neither", 2, detail=True
            ),
            PARAMETERS,
            throughput_measure("images"),
            TRAIN_SECONDS,
        ]

    @override
    def judge(
        self, dataset: Dataset | None, teacher: DGM, cache: Path, seed: int, progress: Progress
    ) -> DiffusionJudge:
        dataset = images_of(dataset)
        extractors = [
            feature_extractor(self.extractor, self.extractor_steps, dataset, cache, progress, number)
            for number in range(1, 2 + self.second_extractor)
        ]
        return DiffusionJudge(self, dataset, teacher, extractors, seed)

    @override
    def dry(self) -> Self:
        # As few as possible: an image costs one evaluation of the network, which may be large, per step of the teacher.
        return self._with(
            samples=4, teacher_samples=4, steps_shown=self.steps_shown[:1], pairs=2, extractor_steps=4, grid=2,
            neighbours=20, batch=2,
        )  # fmt: skip
