"""Table 1's numbers: which distance is whose, against distances worked out here."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Normal

from limbeck.core.bounds import importance_weighted_bound
from limbeck.core.graph import DGM
from limbeck.core.sites import Sites
from limbeck.data import Digits, DomainDataset, DomainSplit
from limbeck.engine import ContinualEvaluation, Subject
from limbeck.engine.evaluations.images.continual_evaluation import ContinualJudge
from limbeck.engine.stages.progress import Progress
from limbeck.errors import RecipeError
from limbeck.metrics import extract, frechet_distance
from tests.zoo import domain_ladder

NAMES = ("dark", "middle", "light")


class Shade(DGM):
    """A picture of one shade a domain, which a single latent varies."""

    def __init__(self, shades: list[float]) -> None:
        super().__init__()
        self.shades = nn.Parameter(torch.tensor(shades))

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        assert x is not None
        z = sites.latent("z", sites.standard_normal(1))
        mean = (x @ self.shades)[:, None] + 0.02 * z
        sites.target("y", Normal(mean[:, :, None, None].expand(-1, 1, 8, 8), 0.1))

    def infer(self, sites: Sites, y: Tensor, x: Tensor | None = None) -> None:
        assert x is not None
        z = (y.mean((2, 3)) - (x @ self.shades)[:, None]) / 0.02
        sites.latent("z", Normal(z, 0.1))


class Brightness(nn.Module):
    """Features that need no training: mean and spread of the pixels of four quarters."""

    num_features = 8
    name = "brightness"

    def forward(self, images: Tensor) -> Tensor:
        quarters = images.unfold(2, 4, 4).unfold(3, 4, 4).flatten(1, 3).flatten(2)
        return torch.cat([quarters.mean(2), quarters.std(2)], 1)


def dataset(rows: int = 40, domains: int = 3) -> DomainDataset:
    def split(rows: int, seed: int) -> DomainSplit:
        generator = torch.Generator().manual_seed(seed)
        number = torch.arange(rows) % domains
        images = (
            0.2 + 0.3 * number[:, None, None, None] + 0.05 * torch.rand(rows, 1, 8, 8, generator=generator)
        ).clamp(0, 1)
        return DomainSplit(images, number, torch.eye(domains)[number])

    return DomainDataset(
        "shades", split(3 * rows, 0), split(rows, 1), split(2 * rows, 2), NAMES[:domains], NAMES[:domains]
    )


def judged(settings: ContinualEvaluation, data: DomainDataset | None = None) -> ContinualJudge:
    return ContinualJudge(settings, data or dataset(), Shade([0.2, 0.5, 0.8]), Brightness(), seed=0)


def models() -> list[Shade]:
    """After each task: the first domain drifts away, the second a little."""
    return [Shade([0.22, 0.0, 0.0]), Shade([0.3, 0.52, 0.0]), Shade([0.45, 0.56, 0.83])]


def distance(model: Shade, domain: int, reference: Tensor, rows: int = 2000) -> float:
    with torch.no_grad():
        drawn = model.sample(x=torch.eye(3)[[domain] * rows], output="mean")["y"].clamp(0, 1)
    extractor = Brightness()
    return frechet_distance(extract(extractor, drawn), extract(extractor, reference))


@pytest.mark.parametrize("reference", ["test", "all"])
def test_the_layout_of_table_1(reference: str, tmp_path: Path) -> None:
    data, history = dataset(), models()
    settings = ContinualEvaluation(samples=2000, reference=reference, grid=8)
    values = judged(settings, data).measure(Subject(history[-1], tmp_path, True, tuple(history)))
    wanted = []
    for d in range(3):
        splits = [data.test] if reference == "test" else [data.test, data.train, data.validation]
        wanted.append(torch.cat([split.of_domain(d).images for split in splits]))
    torch.manual_seed(0)
    final = [distance(history[2], d, wanted[d]) for d in range(3)]
    then = [distance(history[d], d, wanted[d]) for d in range(2)]
    near = {"rel": 0.05, "abs": 1e-3}
    assert values["fid_old"] == pytest.approx((final[0] + final[1]) / 2, **near)
    assert values["fid_old_increase"] == pytest.approx((final[0] - then[0] + final[1] - then[1]) / 2, **near)
    assert values["fid_new"] == pytest.approx(final[2], **near)
    assert [values[f"fid_{d}"] for d in range(3)] == pytest.approx(final, **near)
    assert values["fid_old_increase"] > 0.05 > values["fid_new"]
    keys = {measure.key for measure in settings.measures(data)}
    assert set(values) == keys - {"train_seconds"}
    with Image.open(tmp_path / "samples.png") as picture:
        tall, wide = picture.height / 3, picture.width / 8  # a row of eight for each domain
        assert tall == pytest.approx(wide, rel=0.1)
        shades = [picture.convert("L").getpixel((picture.width // 16, round((d + 0.5) * tall))) for d in range(3)]
        assert shades == sorted(shades)


def test_bounds_are_of_each_domain(tmp_path: Path) -> None:
    data, history = dataset(), models()
    settings = ContinualEvaluation(samples=10, bound_samples=2, bound_images=15)
    judge = judged(settings, data)
    values = judge.measure(Subject(history[-1], tmp_path, True, tuple(history)))
    bounds = []
    for d in range(3):
        images = data.test.of_domain(d).images[:15]
        draws = [importance_weighted_bound(history[-1], images, torch.eye(3)[[d] * 15], samples=2) for _ in range(50)]
        bounds.append(torch.stack(draws).mean().item())
    assert values["bound_old"] == pytest.approx((bounds[0] + bounds[1]) / 2, abs=1.0, rel=0.05)
    assert values["bound_new"] == pytest.approx(bounds[2], abs=1.0, rel=0.05)
    assert abs(values["bound_old"] - values["bound_new"]) > 5.0
    without = judge.measure(Subject(history[-1], tmp_path, False, tuple(history)))
    assert "bound_old" not in without
    assert {key: without[key] for key in ("fid_old", "fid_new")} == {key: values[key] for key in ("fid_old", "fid_new")}


def test_a_model_of_the_first_domain_only_is_where_the_others_start(tmp_path: Path) -> None:
    history = models()
    judge = judged(ContinualEvaluation(samples=500))
    first = judge.measure(Subject(history[0], tmp_path, True, (history[0],)))
    assert set(first) == {"fid_old", "fid_0", "bound_old"}
    assert first["fid_old"] == first["fid_0"]
    second = judge.measure(Subject(history[1], tmp_path, True, tuple(history[:2])))
    assert second["fid_old_increase"] == pytest.approx(second["fid_old"] - first["fid_old"])
    assert second["fid_new"] == second["fid_1"]


def test_two_domains_need_no_columns_of_their_own(tmp_path: Path) -> None:
    data = dataset(domains=2)
    model = Shade([0.2, 0.5])
    settings = ContinualEvaluation(samples=50)
    judge = ContinualJudge(settings, data, model, Brightness(), seed=0)
    values = judge.measure(Subject(model, tmp_path, True, (model, model)))
    assert set(values) == {"fid_old", "fid_old_increase", "fid_new", "bound_old", "bound_new"}
    assert values["fid_old_increase"] == 0.0
    assert [measure.key for measure in settings.measures(data)] == [*values, "train_seconds"]


def test_without_tasks_every_domain_was_learned_at_once(tmp_path: Path) -> None:
    model = models()[-1]
    values = judged(ContinualEvaluation(samples=50)).measure(Subject(model, tmp_path, True))
    assert "fid_old_increase" not in values  # it has no past to compare with
    assert {"fid_0", "fid_1", "fid_2", "fid_new"} <= set(values)


@pytest.mark.parametrize(("rows", "everything"), [(40, True), (750, False)])
def test_few_test_images_are_joined_by_the_others(rows: int, everything: bool) -> None:
    data = dataset(rows)
    judge = judged(ContinualEvaluation(samples=50), data)
    counts = [len(features) for features in judge.features]
    wanted = [data.test, data.train, data.validation] if everything else [data.test]
    assert counts == [sum(len(split.of_domain(d)) for split in wanted) for d in range(3)]
    said = f"{counts[0]:,} of dark, {counts[1]:,} of middle, {counts[2]:,} of light"
    assert said in judge.notes[0]
    assert ("all images of a domain" in judge.notes[0]) is everything


def test_the_first_models_distance_is_worked_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, history, calls = judged(ContinualEvaluation(samples=50)), models(), []
    kept = Shade.generate
    monkeypatch.setattr(Shade, "generate", lambda self, sites, x=None: (calls.append(x), kept(self, sites, x))[1])
    judge.measure(Subject(history[0], tmp_path, False, (history[0],)))
    once = len(calls)
    judge.measure(Subject(history[0], tmp_path, False, (history[0],)))
    assert len(calls) == once + 3  # the pictures alone


def test_a_ladder_vae_with_batch_statistics_is_measured(tmp_path: Path) -> None:
    torch.manual_seed(0)
    history = tuple(domain_ladder(4).eval() for _ in range(3))
    settings = ContinualEvaluation(samples=101).dry()
    values = [
        ContinualJudge(settings, dataset(), history[0], Brightness(), seed=0).measure(
            Subject(history[-1], tmp_path, True, history)
        )
        for _ in range(2)
    ]
    assert values[0] == values[1]
    assert all(abs(value) < float("inf") for value in values[0].values())
    double = copy.deepcopy(history[0]).double()  # a teacher of another precision, as loaded by teacher_from
    loaded = ContinualJudge(settings, dataset(), double, Brightness(), seed=0)
    assert loaded.measure(Subject(history[-1], tmp_path, True, history)) == values[0]


def test_the_extractor_is_the_datas_own_classifier(tmp_path: Path) -> None:
    evaluation = ContinualEvaluation(samples=20, extractor_steps=3)
    judge = evaluation.judge(dataset(), Shade([0.2, 0.5, 0.8]), tmp_path, 0, Progress())
    assert judge.extractor.name == "shades-cnn"
    assert "shades-cnn" in evaluation.measures(dataset())[0].label
    assert any("% of the test images correctly" in note for note in judge.notes)
    assert evaluation.steps == 3
    assert dataclasses.asdict(evaluation.measures(dataset())[0])["better"] == "lower"


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"limbeck\.data\.Domains"):
        ContinualEvaluation().measures(Digits().load())
    with pytest.raises(RecipeError, match="there is no data"):
        ContinualEvaluation().judge(None, Shade([0.0]), tmp_path, 0, Progress())
    for wrong in ({"samples": 1}, {"bound_samples": 0}, {"bound_images": 0}, {"grid": 0}, {"grid": 501}):
        with pytest.raises(RecipeError, match=next(iter(wrong))):
            ContinualEvaluation(**wrong)
    with pytest.raises(RecipeError, match="auto, test or all"):
        ContinualEvaluation(reference="train")
