"""Measuring classifiers: the predictive distribution against an exact one, and every number of the table."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Independent, Normal, OneHotCategorical

from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.data import ImageDataset, ImageSplit
from limbeck.engine import ClassifierEvaluation, Subject, predict
from limbeck.engine.evaluations.classifiers import classifier_evaluation
from limbeck.engine.stages.progress import Progress
from limbeck.errors import ModelError, RecipeError
from limbeck.metrics import throughput
from limbeck.models import VIB, MLPClassifier
from tests.tiny import built


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch) -> None:
    """A second of timing for every model would be most of the time of these tests."""
    monkeypatch.setattr(
        classifier_evaluation, "throughput", lambda sample, rows, seconds: throughput(sample, rows, seconds=0.01)
    )


class Coin(DGM):
    """One bit chooses one of two laws of the class; both depend on the image's brightness."""

    def __init__(self, wrapped: bool = False, family: type = Categorical) -> None:
        super().__init__()
        self.wrapped, self.family = wrapped, family
        self.logits = nn.Parameter(torch.tensor([[2.0, 0.0, -1.0], [-3.0, 1.0, 0.5]]))
        self.calls = 0

    def generate(self, sites, x=None) -> None:
        self.calls += 1
        bit = sites.latent("z", Bernoulli(probs=0.25 * torch.ones(sites.batch_size, 1, dtype=self.logits.dtype)))
        law = self.family(logits=self.logits[bit[:, 0].long()] * x.flatten(1).mean(1, keepdim=True))
        sites.target("y", Independent(law, 0) if self.wrapped else law)

    def exact(self, x: Tensor) -> Tensor:
        brightness = x.flatten(1).mean(1)[:, None]
        one, other = (torch.softmax(row * brightness, 1) for row in self.logits.detach())
        return 0.75 * one + 0.25 * other


class Other(DGM):
    """A model that is no classifier."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.weight = nn.Parameter(torch.zeros(3))

    def generate(self, sites, x=None) -> None:
        if self.what == "gaussian":
            sites.target("y", Normal(sites.zeros(3), 1.0))
        if self.what == "grid":
            sites.target("y", Categorical(logits=sites.zeros(4, 3)))
        if self.what == "two":
            sites.target("y1", Categorical(logits=sites.zeros(3)))
            sites.target("y2", Categorical(logits=sites.zeros(3)))


def images(rows: int = 60) -> Tensor:
    return torch.rand(rows, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def dataset(classes: int = 3, rows: int = 60) -> ImageDataset:
    labels = torch.arange(rows) % classes
    split = ImageSplit((255 * images(rows)).to(torch.uint8), labels)
    return ImageDataset("squares", split, split, split, tuple(str(k) for k in range(classes)))


def vib(seed: int = 0, **arguments) -> VIB:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return VIB(**{"image_size": 4, "hidden": 8, "latent_size": 3, "classes": 3, **arguments}).eval()


# ------------------------------------------------------------------------------------------------------- predictions


@pytest.mark.parametrize("family", [Categorical, OneHotCategorical])
@pytest.mark.parametrize("wrapped", [False, True])
def test_predictions_converge_to_the_mean_probability(family: type, wrapped: bool) -> None:
    model = Coin(wrapped, family)
    found = predict(model, images(), draws=2000, generator=torch.Generator().manual_seed(1))
    assert found.dtype == torch.float64
    assert found.exp().sum(1).tolist() == pytest.approx([1.0] * 60)
    # Five standard errors of a mean of 2,000 bits.
    assert (found.exp() - model.exact(images())).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 2000)


def test_one_draw_is_one_component() -> None:
    model = Coin()
    found = predict(model, images(), draws=1, generator=torch.Generator().manual_seed(1)).exp()
    brightness = images().flatten(1).mean(1)[:, None]
    components = torch.stack([torch.softmax(row * brightness, 1) for row in model.logits.detach()])
    assert (components - found).abs().amax(2).amin(0).max() < 1e-6


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_batches_are_only_batches(batch_size: int) -> None:
    model = vib(stochastic=False)
    expected = torch.log_softmax(model.trace(x=images())["y"].distribution.logits.detach().double(), 1)
    torch.testing.assert_close(predict(model, images(), batch_size=batch_size), expected, atol=1e-6, rtol=0)


def test_a_seed_fixes_predictions_and_the_global_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (predict(vib(), images(), generator=torch.Generator().manual_seed(k)) for k in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_without_latents_one_run_is_enough(monkeypatch) -> None:
    calls = []
    model, noisy = vib(stochastic=False), vib()
    for each in (model, noisy):
        monkeypatch.setattr(each, "generate", lambda *a, f=each.generate, **k: (calls.append(1), f(*a, **k))[1])
    predict(model, images(), draws=12)
    assert len(calls) == 2  # one to see what the model is
    predict(noisy, images(), draws=12)
    assert len(calls) == 2 + 13


@pytest.mark.parametrize(
    ("what", "message"), [("gaussian", "Categorical"), ("grid", "Categorical"), ("two", "y1, y2"), ("none", "none")]
)
def test_no_classifier(what: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        predict(Other(what), images())


# ---------------------------------------------------------------------------------------------------------- the judge


def judged(settings: ClassifierEvaluation, teacher: DGM, model: DGM, folder: Path, data=None) -> dict[str, float]:
    judge = settings.judge(data or dataset(), teacher, folder, 7, Progress())
    return judge.measure(Subject(model, folder, True))


def test_every_number(tmp_path) -> None:
    teacher, model = vib(0, stochastic=False), vib(1, stochastic=False)
    values = judged(ClassifierEvaluation(), teacher, model, tmp_path)
    x, labels = dataset().test.images.float() / 255, dataset().test.labels
    p, q = (torch.softmax(m.trace(x=x)["y"].distribution.logits.double(), 1).detach() for m in (teacher, model))
    assert values["nll"] == pytest.approx(-q[range(60), labels].log().mean().item(), rel=1e-6)
    assert values["accuracy"] == pytest.approx(100 * (q.argmax(1) == labels).double().mean().item())
    assert values["agreement"] == pytest.approx(100 * (q.argmax(1) == p.argmax(1)).double().mean().item())
    assert values["kl_teacher"] == pytest.approx((p * (p / q).log()).sum(1).mean().item(), rel=1e-4)
    gap = (q.max(1).values.mean() - (q.argmax(1) == labels).double().mean()).abs().item()
    assert judged(ClassifierEvaluation(bins=1), teacher, model, tmp_path)["ece"] == pytest.approx(gap, abs=1e-6)
    assert values["parameters_generative"] == sum(parameter.numel() for parameter in model.parameters())
    assert values["samples_per_second"] > 0
    measures = {measure.key for measure in ClassifierEvaluation().measures(dataset())}
    assert set(values) | {"parameters_objective", "train_seconds"} == measures


def test_the_teacher_against_itself(tmp_path) -> None:
    plain = judged(ClassifierEvaluation(), vib(stochastic=False), vib(stochastic=False), tmp_path)
    assert plain["kl_teacher"] == pytest.approx(0.0, abs=1e-12)
    assert plain["agreement"] == 100.0
    few, many = (judged(ClassifierEvaluation(draws), Coin(), Coin(), tmp_path)["kl_teacher"] for draws in (2, 200))
    assert 0 < many < 0.1 * few


def test_the_same_noise_for_every_model(tmp_path) -> None:
    settings = ClassifierEvaluation()
    judge = settings.judge(dataset(), vib(), tmp_path, 7, Progress())
    first, again = (judge.measure(Subject(vib(1), tmp_path, True)) for _ in range(2))
    for values in (first, again):
        values.pop("samples_per_second")
    assert first == again
    other = settings.judge(dataset(), vib(), tmp_path, 8, Progress()).measure(Subject(vib(1), tmp_path, True))
    assert other["nll"] != first["nll"]
    assert other["nll"] == pytest.approx(first["nll"], rel=0.05)


def test_the_diagram_is_a_picture(tmp_path) -> None:
    judged(ClassifierEvaluation(), vib(), vib(1), tmp_path)
    with Image.open(tmp_path / "samples.png") as image:
        assert min(image.size) > 300
        assert len(image.convert("RGB").getcolors(100_000)) > 10


def test_certain_teachers_are_compared(tmp_path) -> None:
    """A class that the teacher rules out adds nothing to the divergence."""
    teacher, model = vib(stochastic=False), vib(1, stochastic=False)
    with torch.no_grad():
        teacher.classifier.bias[0] = -math.inf
    assert math.isfinite(judged(ClassifierEvaluation(), teacher, model, tmp_path)["kl_teacher"])


def test_other_classes_than_the_teacher(tmp_path) -> None:
    """Nothing is compared with a teacher of other classes; classes that the data have and the model lacks are told."""
    values = judged(ClassifierEvaluation(), vib(classes=4), vib(), tmp_path)
    assert {"accuracy", "nll", "ece"} <= set(values)
    assert not {"kl_teacher", "agreement"} & set(values)
    assert not {"kl_teacher", "agreement"} & set(judged(ClassifierEvaluation(compare=False), vib(1), vib(), tmp_path))
    with pytest.raises(ModelError, match="has 2 classes, but the labels of the test rows go up to 2"):
        judged(ClassifierEvaluation(), vib(), vib(classes=2), tmp_path)


def test_rows_and_dry(tmp_path) -> None:
    judge = ClassifierEvaluation(rows=12).judge(dataset(), vib(), tmp_path, 0, Progress())
    assert judge.notes[0].startswith("Measured on 12 test images")
    assert list(judge.references.values()) == [pytest.approx(100 / 3)]
    dry = ClassifierEvaluation(12, 10, None).dry()
    assert (dry.draws, dry.bins, dry.rows) == (2, 10, 200)
    assert ClassifierEvaluation(1, rows=5).dry().rows == 5
    other = ClassifierEvaluation().judge(dataset(), vib(3), tmp_path, 0, Progress())
    assert other.reference_key != judge.reference_key


def test_data_without_labels(tmp_path) -> None:
    with pytest.raises(RecipeError, match="labelled images"):
        ClassifierEvaluation().judge(None, vib(), tmp_path, 0, Progress())


@pytest.mark.parametrize("name", ["draws", "bins", "rows"])
def test_impossible_settings(name: str) -> None:
    with pytest.raises(RecipeError, match=name):
        ClassifierEvaluation(**{name: 0})


def test_a_time_without_end_and_a_device_that_is_none() -> None:
    with pytest.raises(RecipeError, match="timing must be a positive number of seconds, not inf"):
        ClassifierEvaluation(timing=math.inf)
    with pytest.raises(RecipeError, match=r"evaluation\.device must be auto, cpu, cuda, .*not 'gpux'"):
        ClassifierEvaluation(device="gpux")


def test_scores_count_errors_first_then_likelihood() -> None:
    evaluation = ClassifierEvaluation(draws=1)
    model = built(MLPClassifier, inputs=2, classes=2, widths=[])
    assert isinstance(model, MLPClassifier)
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    rows = Batch(torch.tensor([0, 1, 0, 0]), x)

    def score(scale: float) -> float:
        with torch.no_grad():
            model.head.bias.zero_()
            model.head.weight.copy_(scale * torch.eye(2))
        return evaluation.score(model, rows)

    # One error at any positive scale; too sure of it is worse, but never as bad as another error.
    assert 0.25 < score(1.0) < score(10.0) < score(1000.0) < 0.5
    assert 0.75 < score(-1.0) < score(-1000.0) < 1.0
