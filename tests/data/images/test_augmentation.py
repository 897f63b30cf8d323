"""Views of images against slicing by hand; which view a row has in a training; a few rows of every class."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from limbeck import methods
from limbeck.core.loss import Batch
from limbeck.core.sites import Sites
from limbeck.data import Augmentation, take_per_class
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.options import Training
from limbeck.engine.training.fit import fit
from limbeck.errors import DataError, RecipeError
from limbeck.models import MLPClassifier
from tests.tiny import STEPS, call, hashes, write_recipe


def images(rows: int, channels: int = 3, height: int = 6, width: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (rows, channels, height, width), generator=generator, dtype=torch.uint8)


def by_hand(image: Tensor, padding: int, fill: str, down: int, right: int, mirrored: int) -> Tensor:
    _, height, width = image.shape
    mode = "constant" if fill == "zeros" else "reflect"
    padded = F.pad(image[None].double(), (padding,) * 4, mode=mode)[0]
    view = padded[:, down : down + height, right : right + width]
    return (view.flip(2) if mirrored else view).to(image.dtype)


class TestViews:
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
    @pytest.mark.parametrize("fill", ["zeros", "reflect"])
    @pytest.mark.parametrize("padding", [0, 1, 4])
    def test_each_row_is_cropped_and_mirrored_as_drawn(self, padding: int, fill: str, dtype: torch.dtype) -> None:
        augmentation, rows = Augmentation(padding, fill=fill), images(12).to(dtype)
        draws = augmentation.draw(12, torch.Generator().manual_seed(1))
        assert draws[:, 2].unique().tolist() == [0, 1]
        views = augmentation(rows, draws)
        assert views.dtype == dtype
        for image, view, draw in zip(rows, views, draws):
            assert torch.equal(view, by_hand(image, padding, fill, *draw.tolist()))

    def test_in_the_middle_and_not_mirrored_nothing_changes(self) -> None:
        rows = images(4)
        for fill in ("zeros", "reflect"):
            assert torch.equal(Augmentation(3, fill=fill)(rows, torch.tensor([[3, 3, 0]] * 4)), rows)

    def test_rows_do_not_depend_on_each_other_and_stay_as_they_are(self) -> None:
        augmentation, rows = Augmentation(2), images(5)
        kept, draws = rows.clone(), augmentation.draw(5)
        whole = augmentation(rows, draws)
        assert all(torch.equal(augmentation(rows[i : i + 1], draws[i : i + 1])[0], whole[i]) for i in range(5))
        assert torch.equal(rows, kept)

    def test_every_place_and_side_is_as_likely_as_the_others(self) -> None:
        draws = Augmentation(padding=1).draw(18_000, torch.Generator().manual_seed(0))
        cells = (draws[:, 0] * 6 + draws[:, 1] * 2 + draws[:, 2]).bincount()
        assert len(cells) == 18
        # Each of the 18 cells is binomial with mean 1000 and deviation 31; 130 is beyond four deviations.
        assert (cells - 1000).abs().max() < 130

    def test_without_flip_the_crops_are_the_same(self) -> None:
        both, still = (Augmentation(2, flip).draw(50, torch.Generator().manual_seed(0)) for flip in (True, False))
        assert torch.equal(both[:, :2], still[:, :2])
        assert still[:, 2].sum() == 0

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"padding": -1}, "padding must not be negative"),
            ({"views": 0}, "views must be at least 1, not 0"),
            ({"fill": "edge"}, "zeros or reflect, not 'edge'"),
            ({"padding": 0, "flip": False}, "nothing is changed"),
        ],
    )
    def test_impossible_settings(self, settings: dict, words: str) -> None:
        with pytest.raises(RecipeError, match=words):
            Augmentation(**settings)

    def test_what_cannot_be_augmented(self) -> None:
        with pytest.raises(DataError, match=r"rows have shape \(3, 7\)"):
            Augmentation()(torch.zeros(3, 7), torch.zeros(3, 3, dtype=torch.long))
        with pytest.raises(DataError, match="5 pixels cannot be taken from the reflection of an image of 6x5"):
            Augmentation(5, fill="reflect")(images(1), torch.zeros(1, 3, dtype=torch.long))


def rows(count: int) -> Batch:
    """Images that tell their row and label from any of their pixels."""
    return Batch(
        torch.arange(count), (1 + torch.arange(count, dtype=torch.uint8))[:, None, None, None].expand(-1, 1, 6, 6)
    )


class TestTraining:
    def test_labels_stay_with_their_images_and_bytes_become_floats(self) -> None:
        batch = Batches(rows(20), 7, 0, Augmentation(2))(3)
        assert batch.x.dtype == torch.float32
        assert torch.equal((batch.x.amax((1, 2, 3)) * 255).round().long(), batch.y + 1)
        assert (batch.x == 0).any()

    def test_a_step_does_not_depend_on_those_before(self) -> None:
        expected = [Batches(rows(10), 4, 0, Augmentation(2))(step).x for step in range(9)]
        batches = Batches(rows(10), 4, 0, Augmentation(2))
        for step in (5, 2, 8, 0, 3, 7, 1, 6, 4):
            assert torch.equal(batches(step).x, expected[step])

    def test_the_order_is_that_without_augmentation(self) -> None:
        plain, varied = Batches(rows(10), 4, 0), Batches(rows(10), 4, 0, Augmentation(2))
        assert all(torch.equal(plain(step).y, varied(step).y) for step in range(6))

    @pytest.mark.parametrize("world", [2, 4])
    def test_processes_share_the_views_of_one(self, world: int) -> None:
        batches = Batches(rows(10), 8, 0, Augmentation(2))
        for step in range(5):
            parts = torch.cat([batches(step, rank, world).x for rank in range(world)])
            assert torch.equal(parts, batches(step).x)

    def views(self, seed: int, views: int | None, epochs: int) -> list[Tensor]:
        """The images of each epoch in the order of the rows."""
        batches = Batches(rows(12), 12, seed, Augmentation(2, views=views))
        found = (batches(epoch) for epoch in range(epochs))
        return [batch.x[batch.y.argsort()] for batch in found]

    def test_every_epoch_and_seed_has_views_of_its_own(self) -> None:
        every = self.views(0, None, 3) + self.views(1, None, 3)
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(every, 2))

    @pytest.mark.parametrize("count", [1, 3])
    def test_a_fixed_number_of_views_returns_for_every_seed(self, count: int) -> None:
        found = self.views(0, count, 2 * count + 1)
        for epoch, images in enumerate(found):
            assert torch.equal(images, found[epoch % count])
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(found[:count], 2))
        assert all(torch.equal(a, b) for a, b in zip(found, self.views(7, count, 2 * count + 1)))

    def test_images_that_are_the_target(self) -> None:
        data = rows(6)
        alone = Batches(Batch(data.x), 6, 0, Augmentation(2))(0)
        given = Batches(Batch(data.x, torch.eye(6)), 6, 0, Augmentation(2))(0)
        assert alone.x is None
        assert torch.equal(alone.y, given.y)
        assert torch.equal(given.x.sum(1), torch.ones(6))
        assert (alone.y == 0).any()

    def test_rows_that_are_no_images(self) -> None:
        with pytest.raises(DataError, match=r"shape \(5,\), \(\); leave training.augmentation out"):
            Batches(Batch(torch.arange(3), torch.rand(3, 5)), 2, 0, Augmentation())

    def test_teacher_and_student_see_the_same_view_and_validation_none(self) -> None:
        torch.manual_seed(0)
        teacher, student = (Watching(36, 12, [4]) for _ in range(2))
        data = rows(12)
        options = Training(steps=4, batch_size=8, augmentation=Augmentation(2), validate_every=2)
        fit(student, methods.vanilla(), options, teacher=teacher, data=data, validation=data, seed=3)
        pairs = [(a, b) for a, b in zip(teacher.seen, student.seen)]
        assert len(pairs) >= 4
        assert all(torch.equal(a, b) for a, b in pairs)
        assert all((x == 0).any() for x in student.seen)
        assert student.measured
        assert all((x > 0).all() for x in student.measured)


def test_recipes_and_command_lines_set_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"class_path": "tests.tiny.Spots"}
    path = write_recipe(tmp_path, data=data, baselines={}, training=STEPS | {"augmentation": {"padding": 3}})
    words = ("--teacher_training.augmentation.padding=1", "--training.augmentation.views=2", "--name=one")
    assert call("run", path, *words) == 0
    written = tmp_path / "runs/spots/one/recipe.yaml"
    found = yaml.safe_load(written.read_text())
    assert found["teacher_training"]["augmentation"] == {"padding": 1, "flip": True, "fill": "zeros", "views": None}
    assert found["training"]["augmentation"] == {"padding": 3, "flip": True, "fill": "zeros", "views": 2}
    assert call("run", written, "--name=again") == 0
    assert call("run", written, "--name=other", "--teacher_training.augmentation=null") == 0
    one, again, other = (
        hashes(tmp_path, f"runs/*/{name}/teacher/model.safetensors").values() for name in ("one", "again", "other")
    )
    assert list(one) == list(again) != list(other)


class Watching(MLPClassifier):
    """Remembers what it was asked about."""

    def __init__(self, inputs: int, classes: int, widths: list[int]) -> None:
        super().__init__(inputs, classes, widths)
        self.seen: list[Tensor] = []
        self.measured: list[Tensor] = []

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        self.seen.append(x)
        super().generate(sites, x)

    def loss(self, batch: Batch, *, progress: float = 1.0):
        if not self.training:
            self.measured.append(batch.x)
        return super().loss(batch, progress=progress)


class TestRowsPerClass:
    @given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 20))
    @settings(max_examples=40, deadline=None)
    def test_as_many_of_each_class_in_ascending_order(self, classes: int, count: int, seed: int) -> None:
        labels = torch.arange(classes).repeat(6)
        found = take_per_class(labels, count, seed)
        assert labels[found].bincount().tolist() == [count] * classes
        assert found.tolist() == sorted(set(found.tolist()))
        more = take_per_class(labels, count + 1, seed)
        assert set(found.tolist()) <= set(more.tolist())

    def test_seeds_differ_and_every_row_can_be_chosen(self) -> None:
        labels = torch.tensor([0, 1] * 5)
        assert torch.equal(take_per_class(labels, 2, 4), take_per_class(labels, 2, 4))
        found = {row for seed in range(40) for row in take_per_class(labels, 1, seed).tolist()}
        assert found == set(range(10))

    def test_sorted_by_class_on_disk(self) -> None:
        labels = torch.arange(3).repeat_interleave(4)
        assert labels[take_per_class(labels, 3, 0)].tolist() == [0] * 3 + [1] * 3 + [2] * 3

    def test_too_few(self) -> None:
        labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
        with pytest.raises(DataError, match=r"4 rows of each class .* class 1 has 3, class 2 has 2; ask for at most 2"):
            take_per_class(labels, 4, 0)
        with pytest.raises(DataError, match=r"class 1 \(bird\) has 3, class 2 has 2;"):
            take_per_class(labels, 4, 0, ["fish", "bird", "2"])
        with pytest.raises(DataError, match="class 2 has 1 and 2 more"):
            take_per_class(torch.arange(5), 2, 0)
        with pytest.raises(DataError, match="at least 1, not 0"):
            take_per_class(labels, 0, 0)
