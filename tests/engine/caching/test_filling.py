"""Filling a teacher cache: never another teacher's numbers, whatever happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.core.divergence import kl
from limbeck.core.loss import Batch
from limbeck.core.objective import Match, Objective
from limbeck.core.sites import Sites
from limbeck.data import Augmentation
from limbeck.engine import TeacherCache
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.options import TrainerOptions
from limbeck.errors import ModelError, RecipeError
from tests.engine.caching.cached_convolutions import Convolutions, history, kept_of, options, rows, taught, teacher
from tests.listening import Recorder
from tests.tiny import Tiny, built, counted, in_child


class TestNeverStale:
    def test_the_same_outputs_are_found_again(self, tmp_path: Path) -> None:
        taught(tmp_path)
        words = Recorder()
        assert not taught(tmp_path, progress=words).missed
        assert not words.messages
        assert [done for _, _, done in words.stages] == [5]

    @pytest.mark.parametrize("changed", ["weights", "rows", "transform", "dtype", "precision", "views"])
    def test_anything_else_is_made_anew(self, tmp_path: Path, changed: str) -> None:
        taught(tmp_path)
        model, data, given = teacher(), rows(), dict[str, Any]()
        if changed == "weights":
            next(model.parameters()).data.flatten()[0] += 1e-6
        elif changed == "rows":
            data.x[3, 0, 2, 2] ^= 1
        elif changed == "transform":
            data = Batch(data.y, data.x.float() / 255 - 0.5)
        elif changed == "dtype":
            given["settings"] = TeacherCache("float16")
        elif changed == "precision":
            given["trainer"] = TrainerOptions(precision="64-true")
        else:
            given["training"] = options(augmentation=Augmentation(padding=0, views=1))
        words = Recorder()
        found = taught(tmp_path, model, data=data, progress=words, **given)
        assert words.stages == [("teacher cache", 5, 0)]
        assert len(list(tmp_path.iterdir())) == 2
        training = given.get("training", options())
        x = next(Batches(data, 40, 0, training.augmentation).everything()).x
        x = x.to(next(found.source.parameters()).dtype)
        expected = found.source.trace(x=x)["h[1]"].value
        assert torch.allclose(kept_of(found, x)["h[1]"].distribution.value, expected, atol=1e-3)
        assert found.missed == 0

    def test_other_code_with_the_same_weights_is_noticed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        taught(tmp_path)
        original = Convolutions.generate

        def generate(self: Convolutions, sites: Sites, x: Tensor | None = None) -> None:
            assert x is not None
            original(self, sites, 1.1 * x)

        monkeypatch.setattr(Convolutions, "generate", generate)
        words = Recorder()
        found = taught(tmp_path, progress=words)
        assert "is not what the teacher says" in words.messages[0]
        x = rows().x.float() / 255
        assert torch.equal(kept_of(found, x)["h[1]"].distribution.value, teacher().trace(x=x)["h[1]"].value)

    def test_another_objective_adds_what_it_needs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = taught(tmp_path, objectives=[Objective([Match("y", divergence=kl)])])
        assert set(before.store.columns) == {"keys", "y.logits"}
        kept = before.store.path("y.logits").stat().st_ino
        after = taught(tmp_path)
        assert set(after.store.columns) == {"keys", "y.logits", "h[1].value"}
        assert before.store.path("y.logits").stat().st_ino == kept
        assert history(after) == history(teacher())

    @pytest.mark.parametrize("how", ["flipped", "short", "gone", "manifest"])
    def test_damage_is_mended(self, tmp_path: Path, how: str) -> None:
        store = taught(tmp_path).store
        path = store.path("h[1].value")
        if how == "flipped":
            raw = bytearray(path.read_bytes())
            raw[100] ^= 1
            path.write_bytes(raw)
        elif how == "short":
            path.write_bytes(path.read_bytes()[:-4])
        elif how == "gone":
            path.unlink()
        else:
            (store.directory / "manifest.json").write_text("{")
        words = Recorder()
        found = taught(tmp_path, progress=words)
        assert ("manifest.json" if how == "manifest" else path.name) in words.messages[0]
        assert "made again" in words.messages[0]
        assert history(found) == history(teacher())

    @pytest.mark.parametrize("after", [1, 3])
    def test_a_cache_whose_filling_was_killed_is_filled_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
    ) -> None:
        def interrupted() -> None:
            from limbeck.data.caching import store

            monkeypatch.setattr(store.Writer, "add", counted(store.Writer.add, 4 * after))
            taught(tmp_path)

        assert in_child(interrupted) == -9
        assert list(tmp_path.rglob("*.tmp"))
        found = taught(tmp_path)
        assert not list(tmp_path.rglob("*.tmp"))
        assert history(found) == history(teacher())

    def test_processes_may_fill_it_at_once(self, tmp_path: Path) -> None:
        import multiprocessing

        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=taught, args=(tmp_path,)) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0, 0]
        words = Recorder()
        assert history(taught(tmp_path, progress=words)) == history(teacher())
        assert not words.messages


class TestRefused:
    def test_latents_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"'z' anew in each step.*pairs"):
            taught(tmp_path, built(Convolutions, latent=True))

    def test_models_without_input_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="condition"):
            taught(tmp_path, built(Tiny), data=Batch(torch.rand(4, 1, 8, 8)))

    def test_new_views_each_time_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match=r"augmentation\.views"):
            taught(tmp_path, training=options(augmentation=Augmentation()))

    def test_more_than_the_limit_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match=r"40 rows take .*float16"):
            taught(tmp_path, settings=TeacherCache(limit_bytes=10_000))
        assert not list(tmp_path.iterdir())

    def test_numbers_too_large_for_half_precision_are_refused(self, tmp_path: Path) -> None:
        model = teacher()
        with torch.no_grad():
            model.head.bias.fill_(0.0)
            model.second[0].bias.fill_(1e6)
        with pytest.raises(ModelError, match=r"'h\[1\]' has numbers.*float16"):
            taught(tmp_path, model, settings=TeacherCache("float16"))
