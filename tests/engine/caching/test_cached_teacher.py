"""A teacher whose outputs are looked up: the same losses, by row, in any precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limbeck.data import Augmentation
from limbeck.engine import TeacherCache
from limbeck.engine.caching import cached_teacher
from limbeck.engine.settings.options import TrainerOptions
from limbeck.engine.teachers.prepare import prepare
from tests.engine.caching.cached_convolutions import history, kept_of, numbers_of, options, rows, runs, taught, teacher
from tests.listening import Recorder


class TestTraining:
    @pytest.mark.parametrize("prepared", [False, True])
    def test_same_losses_bit_for_bit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: bool) -> None:
        # A prepared teacher has its channels last, and so do its features: sums over them are in another order.
        real = prepare(teacher(), torch.rand(2, 1, 8, 8)) if prepared else teacher()
        found, expected = taught(tmp_path, real), history(real)
        asked = runs(found, monkeypatch)
        assert history(found) == expected
        assert sum(asked) == found.missed == 0
        assert found.rows_requested == 12 * 8

    def test_same_losses_in_double_precision(self, tmp_path: Path) -> None:
        trainer = TrainerOptions(precision="64-true")
        assert history(taught(tmp_path, trainer=trainer), trainer=trainer) == history(teacher(), trainer=trainer)

    def test_same_losses_in_mixed_precision(self, tmp_path: Path) -> None:
        trainer = TrainerOptions(precision="bf16-mixed")
        found = taught(tmp_path, trainer=trainer)
        assert found.store.columns["h[1].value"].dtype == "bfloat16"
        assert history(found, trainer=trainer) == history(teacher(), trainer=trainer)

    def test_half_precision_is_near(self, tmp_path: Path) -> None:
        half = history(taught(tmp_path, settings=TeacherCache("float16")))
        exact = history(teacher())
        assert half != exact
        for one, other in zip(half, exact, strict=True):
            assert one["total"] == pytest.approx(other["total"], rel=1e-2)

    def test_views_are_looked_up_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        training = options(augmentation=Augmentation(padding=1, views=2), steps=25)
        found, expected = taught(tmp_path, training=training), history(teacher(), training)
        asked = runs(found, monkeypatch)
        assert history(found, training) == expected
        assert not asked
        assert found.store.rows == 80

    def test_draws_as_many_random_numbers(self, tmp_path: Path) -> None:
        found, x = taught(tmp_path), rows().x.float() / 255
        with torch.random.fork_rng():
            torch.manual_seed(0)
            real = teacher().trace(x=x)
            after = torch.rand(1)
            torch.manual_seed(0)
            replayed = found.trace(x=x)
            assert torch.equal(torch.rand(1), after)
        assert (list(replayed), list(replayed.declared)) == (list(real), list(real.declared))
        for name, site in real.items():
            assert (replayed[name].kind, replayed[name].law) == (site.kind, site.law)
            assert torch.equal(replayed[name].value, site.value)


class TestRows:
    def test_rows_are_found_in_any_order_and_number(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = taught(tmp_path)
        asked = runs(found, monkeypatch)
        x = rows().x.float() / 255
        index = torch.tensor([7, 7, 3, 39, 0])
        expected = teacher().trace(x=x[index])
        for name in ("h[1]", "y"):
            assert torch.equal(
                *(numbers_of(trace[name].distribution) for trace in (kept_of(found, x[index]), expected))
            )
        assert not asked

    def test_unknown_rows_are_computed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = taught(tmp_path)
        asked = runs(found, monkeypatch)
        x = rows().x.float() / 255
        x[5] += 0.25
        x[9, 0, 0, 0] = -0.0
        expected = teacher().trace(x=x)
        known = kept_of(found, x)
        for name in ("h[1]", "y"):
            assert torch.allclose(*(numbers_of(trace[name].distribution) for trace in (known, expected)))
        assert asked == [2]
        assert found.missed == 2

    def test_it_is_told_once_when_no_row_is_known(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        words = Recorder()
        found = taught(tmp_path, progress=words)
        monkeypatch.setattr(cached_teacher, "_TOLD_FROM", 50)
        x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(9))
        said = len(words.messages)
        for _ in range(3):
            assert torch.equal(kept_of(found, x)["h[1]"].value, teacher().trace(x=x)["h[1]"].value)
        assert len(words.messages) == said + 1
        assert "augmentation" in words.messages[-1]

    def test_a_site_that_is_not_kept_is_computed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        words = Recorder()
        found = taught(tmp_path, progress=words)
        asked = runs(found, monkeypatch)
        x = rows().x.float() / 255
        assert torch.equal(found.trace(x=x)["h[0]"].value, teacher().trace(x=x)["h[0]"].value)
        assert asked == [40]
        assert "'h[0]'" in words.messages[-1]

    def test_interventions_are_left_to_the_teacher(self, tmp_path: Path) -> None:
        x, given = rows(4).x.float() / 255, {"h[1]": torch.zeros(4, 16, 4, 4)}
        pair = [model.trace(x=x, values=given)["y"].distribution.logits for model in (taught(tmp_path), teacher())]
        assert torch.equal(*pair)
