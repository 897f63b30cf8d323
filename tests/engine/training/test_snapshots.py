"""Where a student knows what the teacher sees: what is looked at and when, and that looking changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from limbeck.core.delta import Delta
from limbeck.core.divergence import VID, ObservationModel, kl
from limbeck.core.loss import Batch
from limbeck.core.methods import combined, scratch, transfer
from limbeck.core.objective import Match, Objective
from limbeck.core.objective.likelihood_maps import likelihood_maps
from limbeck.data import Digits
from limbeck.engine import ClassifierEvaluation, TeacherCache, Training
from limbeck.engine.evaluations.heat_maps import save_likelihoods
from limbeck.engine.experiments.experiment import Experiment
from limbeck.engine.experiments.likelihoods_without_transfer import Finished, likelihood_steps, without_transfer
from limbeck.engine.experiments.recipe import Baseline, Recipe
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.training.fit import fit
from limbeck.engine.training.snapshots import SHOWN, SNAPSHOTS, read_snapshots, shown_images
from limbeck.engine.training.variances import learned_variances
from limbeck.errors import DivergenceError, RecipeError
from limbeck.models import NetworkClassifier
from limbeck.report.page import render_report
from limbeck.report.runs import read_run
from tests.listening import Recorder
from tests.tiny import built, counted, in_child


def network(seed: int = 0, width: int = 4) -> NetworkClassifier:
    settings = {"widths": [width, 2 * width], "channels": 1, "halved": [1]}
    found = built(NetworkClassifier, seed, network="ConvNet", settings=settings)
    assert isinstance(found, NetworkClassifier)
    return found


def rows(count: int = 24) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.randint(10, (count,), generator=generator), torch.rand(count, 1, 8, 8, generator=generator))


def vid() -> Objective:
    return transfer(["h[*]:vid", "logits->penultimate:vid-lp"])


class Pixelwise(ObservationModel):
    """An observation model that knows one variance and takes the student's own map for the mean."""

    def size(self, p: Distribution, q: Distribution) -> None:
        assert isinstance(p, Delta)
        self.alpha = nn.Parameter(torch.zeros(p.value.shape[1]))

    @property
    def variances(self) -> Tensor:
        self.check_sized()
        return self.alpha.exp().detach()

    def log_likelihood(self, p: Distribution, q: Distribution) -> Tensor:
        self.check_sized()
        assert isinstance(p, Delta)
        assert isinstance(q, Delta)
        scale = self.alpha.mul(0.5).exp().view(-1, 1, 1)
        return Normal(q.value, scale).log_prob(p.value).sum(1)

    def forward(self, p: Distribution, q: Distribution) -> Tensor:
        return -self.log_likelihood(p, q).flatten(1).sum(1)


class Lookalike(nn.Module):
    """Says something else by the same names."""

    variances = torch.ones(3)

    def log_likelihood(self, *_: Any) -> Tensor:
        raise AssertionError

    def forward(self, p: Distribution, q: Distribution) -> Tensor:
        assert isinstance(p, Delta)
        return p.value.flatten(1).square().sum(1)


def options(**changes: Any) -> Training:
    return Training(**{"steps": 8, "batch_size": 8, "learning_rate": 0.01, "checkpoint_every": 2} | changes)


def trained(directory: Path, objective: Objective | None = None, **changes: Any) -> NetworkClassifier:
    student = network(1)
    training = options(**{"snapshots": (0.0, 0.5, 1.0)} | changes)
    fit(student, objective or vid(), training, teacher=network(0, 6).eval(), data=rows(), directory=directory)
    return student


class TestMaps:
    def test_sum_over_all_places_is_the_rows_likelihood(self) -> None:
        teacher, student = network(0, 6).eval(), network(1).eval()
        objective = transfer(["h[*]:vid(normalize=False, positions=None)"])
        x = rows(6).x
        assert x is not None
        objective.prepare(teacher, student, x)
        found = likelihood_maps(objective.eval(), teacher, student, x)
        assert {site: tuple(one.likelihood.shape) for site, one in found.items()} == {
            "h[0]": (6, 8, 8),
            "h[1]": (6, 4, 4),
        }
        total = sum(one.likelihood.sum((1, 2)).mean() for one in found.values())
        terms = objective(teacher, student, batch=Batch(rows(6).y, x)).terms
        expected = sum(term for name, term in terms.items() if "vid" in name) / 10.0
        assert total.item() == pytest.approx(-expected.item(), rel=1e-4)
        trace = teacher.trace(x=x)
        assert torch.allclose(found["h[1]"].magnitude, trace["h[1]"].value.abs().mean(1))

    def test_looking_moves_nothing(self) -> None:
        teacher, student = network(0, 6).eval(), network(1).train()
        objective, x = vid(), rows(4).x
        assert x is not None
        objective.prepare(teacher, student, x)
        before = weights_fingerprint(student), weights_fingerprint(objective), torch.get_rng_state()
        likelihood_maps(objective, teacher, student, x)
        assert (weights_fingerprint(student), weights_fingerprint(objective)) == before[:2]
        assert torch.equal(torch.get_rng_state(), before[2])
        assert student.training

    def test_without_observation_models(self) -> None:
        teacher, student, x = network().eval(), network(1), rows(2).x
        assert x is not None
        assert likelihood_maps(Objective([Match("y", divergence=kl)]), teacher, student, x) == {}
        assert likelihood_maps(scratch(), teacher, student, x) == {}

    def test_a_users_own_observation_model_and_what_only_looks_like_one(self) -> None:
        teacher, student, x = network(0, 4).eval(), network(1, 4).eval(), rows(3).x
        assert x is not None
        objective = Objective([Match("h[0]", divergence=Pixelwise()), Match("h[1]", divergence=Lookalike())])
        objective.prepare(teacher, student, x)
        found = likelihood_maps(objective, teacher, student, x)
        assert list(found) == ["h[0]"]
        mean, value = student.trace(x=x)["h[0]"].value, teacher.trace(x=x)["h[0]"].value
        assert mean is not None
        assert value is not None
        torch.testing.assert_close(found["h[0]"].likelihood, Normal(mean, 1.0).log_prob(value).sum(1))
        assert learned_variances(objective) == {"h[0]": [1.0] * 4}
        nested = combined({"sum": combined({"part": objective, "data": scratch()})})
        assert list(likelihood_maps(nested, teacher, student, x)) == ["h[0]"]

    def test_a_template_is_one_too(self) -> None:
        """Before anything is sized, a recipe must know of which methods pictures will be drawn."""
        assert isinstance(VID(), ObservationModel)
        with pytest.raises(DivergenceError, match="has no parameters yet"):
            _ = VID().variances


class TestTraining:
    def test_when_and_what(self, tmp_path: Path) -> None:
        trained(tmp_path)
        found = read_snapshots(tmp_path / SNAPSHOTS)
        assert found is not None
        images, magnitudes, times = found
        assert torch.equal(images, shown_images(rows()))
        assert len(images) == SHOWN
        assert list(times) == [0.0, 0.5, 1.0]
        assert all(list(one) == ["h[0]", "h[1]"] == list(magnitudes) for one in times.values())
        means = [one["h[1]"].mean().item() for one in times.values()]
        assert means[0] < means[1] < means[2]

    def test_the_student_is_the_same(self, tmp_path: Path) -> None:
        students = [trained(tmp_path / "with"), trained(tmp_path / "without", snapshots=())]
        assert len({weights_fingerprint(student) for student in students}) == 1
        assert options(snapshots=(0.5,)).essential() == options().essential()
        assert not (tmp_path / "without" / SNAPSHOTS).exists()

    def test_nothing_to_see(self, tmp_path: Path) -> None:
        trained(tmp_path, transfer(["y:kd"]))
        assert not (tmp_path / SNAPSHOTS).exists()

    def test_continued(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted() -> None:
            monkeypatch.setattr(Objective, "forward", counted(Objective.forward, 6))
            trained(tmp_path / "killed")

        assert in_child(interrupted) == -9
        trained(tmp_path / "killed")
        trained(tmp_path / "whole")
        assert (tmp_path / "killed" / SNAPSHOTS).read_bytes() == (tmp_path / "whole" / SNAPSHOTS).read_bytes()

    @pytest.mark.parametrize("fractions", [(-0.1,), (0.5, 1.5)])
    def test_fractions(self, fractions: tuple[float, ...]) -> None:
        with pytest.raises(RecipeError, match="snapshots"):
            options(snapshots=fractions)


class TestAfterwards:
    def recipe(self, **changes: Any) -> Recipe:
        plain = Training(steps=4, batch_size=16, log_every=1)
        found: dict[str, Any] = {
            "title": "Digits", "teacher": network(width=6), "student": network(), "objective": transfer(["h[*]:vid"]),
            "method": "vid", "baselines": {"kd": Baseline(transfer(["y:kd"])), "scratch": Baseline(scratch())},
            "evaluation": ClassifierEvaluation(draws=1, timing=0.001, rows=50), "data": Digits(), "target": "labels",
            "condition": "images", "teacher_training": plain, "per_class": 5, "teacher_cache": TeacherCache(),
            "training": Training(steps=4, batch_size=16, log_every=1, snapshots=(0.0, 1.0)),
        }  # fmt: skip
        return Recipe(**found | changes)

    def test_in_a_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def run() -> Recorder:
            steps = Recorder()
            Experiment(
                self.recipe(), resolved="", name="digits", directory=tmp_path / "run", cache=tmp_path / "cache",
                command="", progress=steps,
            ).run()  # fmt: skip
            return steps

        steps = run()
        assert steps.expected == steps.total == 4 * 5 + 4
        folder = tmp_path / "run/students/vid/0"
        picture = (folder / "likelihoods.png").read_bytes()
        assert Image.open(folder / "likelihoods.png").size[1] > 200
        assert not list((tmp_path / "run/students/kd").rglob("likelihoods.png"))
        model = read_run(tmp_path / "run").of("vid")[0]
        assert "likelihoods" in model.others
        assert "Where a student knows what the teacher sees" in render_report([tmp_path / "run"])
        # Neither trained nor fitted again.
        from limbeck.engine.experiments import likelihoods_without_transfer, training_stage

        for module in (likelihoods_without_transfer, training_stage):
            monkeypatch.setattr(module, "fit", lambda *_, **__: pytest.fail("again"))
        run()
        assert (folder / "likelihoods.png").read_bytes() == picture

    def test_who_is_compared(self) -> None:
        assert without_transfer(self.recipe(), "vid") == "scratch"
        wider = Baseline(scratch(), student=network(width=5))
        assert without_transfer(self.recipe(baselines={"scratch": wider}), "vid") is None
        assert likelihood_steps(self.recipe(baselines={"scratch": wider})) == 0
        assert likelihood_steps(self.recipe()) == 4
        assert likelihood_steps(self.recipe(training=options())) == 0

    def test_parts_of_a_sum_count(self) -> None:
        both = combined({"kd": transfer(["y:kd"]), "vid": transfer(["h[*]:vid"])})
        assert likelihood_steps(self.recipe(objective=both)) == 4

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"objective": transfer(["y:kd"])}, "no match learns an observation model, as vid does"),
            ({"tasks": "images", "teacher_cache": None, "per_class": None}, "with tasks none are drawn"),
        ],
        ids=["nothing to see", "tasks"],
    )
    def test_what_has_no_effect_is_refused(self, changes: dict[str, Any], told: str) -> None:
        with pytest.raises(RecipeError, match=f"training.snapshots has no effect: {told}"):
            self.recipe(**changes)

    def test_a_finished_model_stays_as_it_is(self) -> None:
        model = network(1)
        finished = Finished(model).train()
        assert not any(module.training for module in finished.modules())
        before, objective = weights_fingerprint(finished), transfer(["h[*]:vid"])
        fit(finished, objective, options(), teacher=network(0, 6).eval(), data=rows())
        assert weights_fingerprint(finished) == before
        assert weights_fingerprint(model) == weights_fingerprint(finished.source)
        assert all(parameter.requires_grad for parameter in model.parameters())


def test_picture_in_colour_and_of_one_value(tmp_path: Path) -> None:
    flat = {"h": torch.zeros(1, 2, 2)}
    save_likelihoods(tmp_path / "x.png", torch.rand(1, 3, 8, 8), flat, {1.0: flat})
    assert Image.open(tmp_path / "x.png").size[0] > 100
