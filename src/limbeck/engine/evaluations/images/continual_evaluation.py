"""Measuring models that learned one domain after another: what is kept of the old, what is gained of the new."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.bounds import importance_weighted_bound
from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.data import Dataset, DomainDataset, as_float
from limbeck.engine.evaluations.evaluation import TRAIN_SECONDS, Evaluation, Judge, Subject
from limbeck.engine.evaluations.images.extractor import (
    EXTRACTOR_TRAINING,
    accuracy,
    check_extractor,
    extractor_name,
    feature_extractor,
)
from limbeck.engine.evaluations.images.image_samples import drawn_images, image_targets, latent_noise
from limbeck.engine.settings.checks import check_whole
from limbeck.engine.settings.precision import like_weights
from limbeck.engine.stages.fingerprints import fingerprint, weights_fingerprint
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed
from limbeck.errors import RecipeError
from limbeck.metrics import ClassifierFeatures, FeatureExtractor, Measure, extract, frechet_distance
from limbeck.pictures import save_grid

__all__ = ["ContinualEvaluation"]

_ENOUGH = 500  # test images of a domain; with fewer, a Frechet distance to them mostly reflects their number
_COLUMNS = 8
_ROWS = 500  # in one draw; where batch norm has the statistics of the batch, small draws would change the pictures


class ContinualEvaluation(Evaluation):
    """FID of each domain's images, in the layout of [U] Table 1: old domains with the increase, and the new one.

    The increase compares with the same method's model as it was when it had just learned the domain. Images are the
    means of the target's last conditional, clamped to [0, 1].

    Args:
        samples: images drawn from each model of each domain.
        extractor: a TorchScript file with the feature network; by default a small classifier trained once on the
            data's own labels, of all domains.
        extractor_steps: training steps of that classifier.
        reference: what distances are measured to: the ``"test"`` images of a domain, ``"all"`` images of it, or
            ``"auto"``: its test images if each domain has at least 500.
        bound_samples: posterior draws per image in the bound.
        bound_images: test images of a domain in that bound.
        grid: images of a domain in a model's picture; a domain is a block of rows of 8.

    Raises:
        RecipeError: a number is too small, the reference is none of these, or the extractor is not there.
    """

    def __init__(
        self,
        samples: int = 5000,
        extractor: str | None = None,
        extractor_steps: int = EXTRACTOR_TRAINING.steps,
        reference: Literal["auto", "test", "all"] = "auto",
        bound_samples: int = 1,
        bound_images: int = 200,
        grid: int = 32,
    ) -> None:
        check_whole(2, "evaluation.", samples=samples)
        check_whole(1, "evaluation.", bound_samples=bound_samples, bound_images=bound_images, grid=grid)
        check_extractor(extractor, extractor_steps)
        if grid > _ROWS:
            raise RecipeError(f"evaluation.grid must be at most {_ROWS}, not {grid}")
        if reference not in ("auto", "test", "all"):
            raise RecipeError(f"evaluation.reference must be auto, test or all, not {reference!r}")
        self.samples = samples
        self.extractor = extractor
        self.extractor_steps = extractor_steps
        self.reference = reference
        self.bound_samples = bound_samples
        self.bound_images = bound_images
        self.grid = grid

    @property
    @override
    def steps(self) -> int:
        return 0 if self.extractor else self.extractor_steps

    @override
    def measures(self, dataset: Dataset | None) -> list[Measure]:
        """See :class:`Evaluation`: the last domain is the new one, all others are old."""
        dataset = _domains_of(dataset)
        name, names = extractor_name(self.extractor, dataset), dataset.domain_names
        single = [Measure(f"fid_{d}", f"FID, {title}") for d, title in enumerate(names)] if len(names) > 2 else []
        return [
            Measure("fid_old", f"FID ({name}) old"),
            Measure("fid_old_increase", "increase of FID old"),
            Measure("fid_new", f"FID ({name}) new"),
            *single,
            Measure("bound_old", f"test bound old, K = {self.bound_samples}", "higher", 1, "nats"),
            Measure("bound_new", f"test bound new, K = {self.bound_samples}", "higher", 1, "nats"),
            TRAIN_SECONDS,
        ]

    @override
    def judge(
        self, dataset: Dataset | None, teacher: DGM, cache: Path, seed: int, progress: Progress
    ) -> ContinualJudge:
        dataset = _domains_of(dataset)
        extractor = feature_extractor(self.extractor, self.extractor_steps, dataset, cache, progress)
        return ContinualJudge(self, dataset, teacher, extractor, seed)

    @override
    def dry(self) -> Self:
        return self._with(samples=100, extractor_steps=4, bound_samples=1, bound_images=10)


class ContinualJudge(Judge):
    """See :class:`ContinualEvaluation`."""

    def __init__(
        self,
        settings: ContinualEvaluation,
        dataset: DomainDataset,
        teacher: DGM,
        extractor: FeatureExtractor,
        seed: int,
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.extractor = extractor
        self.reference_key = fingerprint(teacher=model_key(teacher), extractor=weights_fingerprint(extractor))
        self.domains = torch.eye(len(dataset.domain_names))
        self.test_images = [
            as_float(dataset.test.of_domain(d).images[: settings.bound_images]) for d in range(len(self.domains))
        ]
        train = [dataset.train.of_domain(d).images for d in range(len(self.domains))]
        test = [dataset.test.of_domain(d).images for d in range(len(self.domains))]
        features = [extract(extractor, images) for images in test]
        few = min(len(images) for images in test) < _ENOUGH
        everything = settings.reference == "all" or (settings.reference == "auto" and few)
        floor = [frechet_distance(extract(extractor, images), own) for images, own in zip(train, features, strict=True)]
        if everything:
            rest = [dataset.validation.of_domain(d).images for d in range(len(self.domains))]
            features = [
                torch.cat([own, extract(extractor, torch.cat(more))])
                for own, more in zip(features, zip(train, rest, strict=True), strict=True)
            ]
        self.features = features
        self.grid_noise = [
            latent_noise(teacher, _ROWS, derive_seed(seed, "grid", d), x) for d, x in enumerate(self.domains)
        ]
        self._known: dict[tuple[str, int], float] = {}
        self.references = {"real vs real: FID of training to test images, mean of the domains": sum(floor) / len(floor)}
        self.notes = self._notes(dataset, everything)

    @override
    def measure(self, subject: Subject) -> dict[str, float]:
        history = subject.history or tuple(subject.model for _ in self.domains)
        # A model that has learned one domain only is measured on it: the others start from this model.
        old = range(max(1, len(history) - 1))
        learned = range(len(history))
        distances = {d: self._distance(subject.model, d) for d in learned}
        values = {f"fid_{d}": distance for d, distance in distances.items()} if len(self.domains) > 2 else {}
        values["fid_old"] = sum(distances[d] for d in old) / len(old)
        if len(history) > 1:
            if subject.history:  # a saved model alone has no past to compare with
                increases = [distances[d] - self._distance(history[d], d) for d in old]
                values["fid_old_increase"] = sum(increases) / len(increases)
            values["fid_new"] = distances[len(history) - 1]
        if subject.infers and type(subject.model).infer is not DGM.infer:
            bounds = {d: self._bound(subject.model, d) for d in learned}
            values["bound_old"] = sum(bounds[d] for d in old) / len(old)
            if len(history) > 1:
                values["bound_new"] = bounds[len(history) - 1]
        shown = torch.cat([self._pictures(subject.model, d) for d in range(len(self.domains))])
        save_grid(shown.numpy(), subject.directory / "samples.png", columns=_COLUMNS)
        return values

    def _distance(self, model: DGM, domain: int) -> float:
        """FID of one domain, computed once: every method needs that of the common first model."""
        key = weights_fingerprint(model), domain
        if key not in self._known:
            seed = derive_seed(self.seed, "samples", domain)
            drawn = drawn_images(model, self.settings.samples, seed, self.domains[domain])
            features = torch.cat([extract(self.extractor, images) for images in drawn])
            self._known[key] = frechet_distance(features, self.features[domain])
        return self._known[key]

    def _bound(self, model: DGM, domain: int) -> float:
        images = self.test_images[domain].to(first_parameter(model).dtype)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "bound", domain))
        rows = [
            importance_weighted_bound(
                model, part, self.domains[domain].to(part.dtype).expand(len(part), -1),
                samples=self.settings.bound_samples, generator=generator,
            )
            for part in images.chunk(-(-len(images) // 100))
        ]  # fmt: skip
        return torch.cat(rows).mean().item()

    def _pictures(self, model: DGM, domain: int) -> Tensor:
        """The first images of a draw, full rows of the picture."""
        x = self.domains[domain].to(first_parameter(model).dtype).expand(_ROWS, -1)
        shown = self.grid_noise[domain]
        noise = {name: like_weights(model, eps) for name, eps in shown.noise.items()}
        drawn = image_targets(model.sample(x=x, noise=noise, laws=shown.laws, output="mean"))
        return drawn[: -(-self.settings.grid // _COLUMNS) * _COLUMNS]

    def _notes(self, dataset: DomainDataset, everything: bool) -> list[str]:
        counts = ", ".join(
            f"{len(features):,} of {name}" for name, features in zip(dataset.domain_names, self.features, strict=True)
        )
        which = "all images of a domain, those that were trained on among them" if everything else "its test images"
        notes = [
            f"FID is measured in the features of {self.extractor.name} between {self.settings.samples:,} images of a "
            f"model in one domain and {which} ({counts}); few images bias it upwards, equally for all methods, and "
            "distances in other features are not comparable.",
            "FID old is the mean over all domains but the last; its increase is that since the method's own model had "
            "just learned each of them. The teacher's row is the first domain right after it was learned.",
            "Images are the means of the last conditional, clamped to [0, 1]; the observation noise is not added. The "
            f"picture has {-(-self.settings.grid // _COLUMNS)} rows per domain, in the order of learning.",
            "Where batch norm uses batch statistics, images are drawn up to 500 of one domain at a time, and the bound "
            "is that of batches of 100 test images, divided by their number.",
        ]
        if isinstance(self.extractor, ClassifierFeatures):
            right = accuracy(self.extractor, dataset.test.images, dataset.test.labels)
            notes.append(f"{self.extractor.name} labels {100 * right:.1f} % of the test images correctly.")
        return notes


def _domains_of(dataset: Dataset | None) -> DomainDataset:
    if not isinstance(dataset, DomainDataset):
        found = "there is no data" if dataset is None else f"{dataset.name!r} is a {type(dataset).__name__}"
        raise RecipeError(f"this evaluation measures a domain at a time, but {found}; use limbeck.data.Domains")
    return dataset
