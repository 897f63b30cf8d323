"""Recording a teacher: what is stored is what it does, what is reused, and which teachers are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.data.pairs.layout import encode
from limbeck.engine.pairs.record import record
from limbeck.errors import ModelError, RecipeError
from tests.engine.pairs.recordings import BATCH, everything, pairs, recorded
from tests.listening import Recorder
from tests.sampler import Hierarchy, Sampler
from tests.tiny import built, hashes


class TestContent:
    @pytest.mark.parametrize(("dtype", "error"), [("uint8", 0.5 / 255), ("float16", 3e-4), ("float32", 1e-6)])
    def test_teacher_makes_the_stored_from_the_noise_again(self, tmp_path: Path, dtype: str, error: float) -> None:
        teacher = built(Sampler)
        found = everything(recorded(tmp_path, teacher, dtype=dtype, states=["x[*]"]))
        again = teacher.trace(noise={"x_T": found["x_T"].noise})
        assert (again["x_0"].distribution.mean - found["x_0"].distribution.mean).abs().max() <= error + 1e-6
        assert torch.equal(again["x_0"].distribution.scale, found["x_0"].distribution.scale)
        for name in ("x[2]", "x[1]"):
            assert torch.allclose(again[name].value, found[name].value, atol=2e-3)
        assert list(found) == list(again)

    def test_bytes_are_the_rounded_means(self, tmp_path: Path) -> None:
        teacher = built(Sampler)
        replayed = recorded(tmp_path, teacher, dtype="uint8")
        means = teacher.trace(noise={"x_T": everything(replayed)["x_T"].noise})["x_0"].distribution.mean
        stored = replayed.recorded.store.read("x_0", range(replayed.pages))
        assert (stored != encode(means, "uint8")).float().mean() < 0.01  # on the edge between two levels

    def test_several_latents_and_targets_are_stored(self, tmp_path: Path) -> None:
        teacher = built(Sampler, extra=True)
        found = everything(recorded(tmp_path, teacher))
        again = teacher.trace(noise={name: found[name].noise for name in ("x_T", "e")})
        for name in ("x_0", "n"):
            assert torch.allclose(again[name].distribution.mean, found[name].distribution.mean, atol=1e-2)
        assert found["n"].distribution.scale.unique().item() == pytest.approx(0.1)

    def test_pairs_belong_to_their_inputs(self, tmp_path: Path) -> None:
        """Every class is asked for as often as it is among the inputs, and pairs belong to theirs."""
        teacher = built(Sampler, classes=3)
        inputs = torch.eye(3)[torch.tensor([0, 1, 1, 2])]
        replayed = recorded(tmp_path, teacher, count=400, inputs=inputs)
        with replayed.reading(0, 400) as x:
            found = replayed.trace(x=x)
        again = teacher.trace(x=x, noise={"x_T": found["x_T"].noise})
        assert torch.allclose(again["x_0"].distribution.mean, found["x_0"].distribution.mean, atol=1e-3)
        assert 150 < x[:, 1].sum() < 250

    def test_noise_is_standard_normal_and_never_repeats(self, tmp_path: Path) -> None:
        noise = everything(recorded(tmp_path, count=2000, shard_rows=2000))["x_T"].noise.flatten(1)
        assert abs(noise.mean()) < 0.03
        assert abs(noise.std() - 1) < 0.02
        assert len(torch.unique(noise, dim=0)) == 2000

    def test_another_seed_is_another_recording(self, tmp_path: Path) -> None:
        a, b = (everything(recorded(tmp_path, seed=seed))["x_T"].noise for seed in (0, 1))
        assert not torch.isclose(a, b).any(0).any()
        assert len(list(tmp_path.iterdir())) == 2

    def test_an_independent_law_keeps_its_shape(self, tmp_path: Path) -> None:
        law = everything(recorded(tmp_path, built(Sampler, family="independent")))["x_0"].distribution
        assert (law.batch_shape, law.event_shape) == ((60,), (1, 4, 4))

    def test_global_noise_and_modes_are_left_alone(self, tmp_path: Path) -> None:
        teacher = built(Sampler).train()
        torch.manual_seed(3)
        recorded(tmp_path, teacher)
        drawn = torch.rand(1)
        torch.manual_seed(3)
        assert torch.equal(drawn, torch.rand(1))
        assert teacher.training


class TestKey:
    @pytest.mark.parametrize(
        "changes",
        [
            {"dtype": "uint8"},
            {"states": ["x[1]"]},
            {"page_rows": 8},
            {"batch_size": 16},
            {"shard_rows": 32},
            {"seed": 5},
        ],
    )
    def test_other_settings_are_recorded_anew(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        recorded(tmp_path)
        teacher = built(Sampler)
        recorded(tmp_path, teacher, **changes)
        assert len(list(tmp_path.iterdir())) == 2
        assert teacher.runs

    def test_another_teacher_is_recorded_anew(self, tmp_path: Path) -> None:
        recorded(tmp_path)
        recorded(tmp_path, built(Sampler, seed=1))
        recorded(tmp_path, built(Sampler, steps=2))
        assert len(list(tmp_path.iterdir())) == 3

    @pytest.mark.parametrize("changes", [{}, {"count": 30}, {"workers": 2}])
    def test_the_same_pairs_are_reused(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        recorded(tmp_path)
        teacher = built(Sampler)
        recorded(tmp_path, teacher, **changes)
        assert teacher.runs == []

    def test_more_pairs_are_added_to_those_there_are(self, tmp_path: Path) -> None:
        few = everything(recorded(tmp_path, count=32))["x_0"].distribution.mean
        before = hashes(tmp_path)
        teacher, told = built(Sampler), Recorder()
        many = everything(recorded(tmp_path, teacher, count=64, progress=told))["x_0"].distribution.mean
        assert torch.equal(many[:32], few)
        assert teacher.runs == [BATCH] * 4
        assert told.stages == [("pairs", 8, 4)]
        assert before.items() <= hashes(tmp_path).items()


class Blown(Sampler):
    def step(self, *arguments: Any) -> torch.Tensor:
        return super().step(*arguments) * (torch.inf if sum(self.runs) > 30 else 1.0)


class TestRefusals:
    @pytest.mark.parametrize(
        ("teacher", "match"),
        [
            (Hierarchy, "the latent 'z1' is not standard normal given all others; leave pairs out"),
            (lambda: Sampler(family="wide"), "target 'x_0' is Normal.* only a Gaussian of one fixed scale"),
        ],
    )
    def test_teachers_that_cannot_be_recorded_are_refused(self, tmp_path: Path, teacher: Any, match: str) -> None:
        with pytest.raises(ModelError, match=match):
            record(teacher(), pairs(), tmp_path)

    def test_an_unknown_state_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"no deterministic site 'x\[7\]'; it has: x\[2\], x\[1\]"):
            recorded(tmp_path, states=["x[7]"])

    def test_pairs_that_are_not_finite_are_named(self, tmp_path: Path) -> None:
        """Infinity becomes not a number at the next step: the law of the target notices or, unchecked, we do."""
        with pytest.raises(ModelError, match=r"numbers that are not finite.*, in the pairs 24 to 31"):
            recorded(tmp_path, built(Blown))

    def test_numbers_too_large_for_half_precision_are_named(self, tmp_path: Path) -> None:
        teacher = built(Sampler)
        teacher.network.weight.data.mul_(1e4)
        with pytest.raises(ModelError, match=r"'x\[1\]' has numbers that are not finite or too large for float16, in"):
            recorded(tmp_path, teacher, states=["x[*]"])

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"count": 0}, "pairs.count must be at least 1"),
            ({"held_out": -1}, "pairs.held_out must not be negative"),
            ({"shard_rows": 10}, "multiple of pairs.page_rows, but 10 is none of 4"),
            ({"dtype": "int4"}, "pairs.dtype must be uint8"),
        ],
    )
    def test_impossible_settings_are_refused(self, changes: dict[str, Any], match: str) -> None:
        with pytest.raises(RecipeError, match=match):
            pairs(**changes)
