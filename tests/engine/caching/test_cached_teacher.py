"""A teacher whose outputs are looked up: the same losses, never another teacher's numbers, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Gamma, Normal, OneHotCategorical

import limbeck
from limbeck.core.delta import Delta
from limbeck.core.divergence import kl, lp
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.methods import scratch
from limbeck.core.objective import Match, Objective
from limbeck.core.sites import Sites
from limbeck.core.trace import Kind
from limbeck.data import Augmentation, Digits
from limbeck.data.caching.row_keys import RowKeys
from limbeck.engine import Pairs, TeacherCache, cached
from limbeck.engine.caching import cached_teacher
from limbeck.engine.caching.cached_laws import dismantle, laid_out, rebuild, stored_order
from limbeck.engine.caching.cached_teacher import CachedTeacher
from limbeck.engine.experiments import stand_ins
from limbeck.engine.experiments.experiment import Experiment
from limbeck.engine.experiments.recipe import Baseline, Recipe
from limbeck.engine.experiments.stage_keys import student_key
from limbeck.engine.settings.batches import Batches
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.stages.progress import Progress
from limbeck.engine.teachers.prepare import prepare
from limbeck.engine.training.fit import fit
from limbeck.errors import ModelError, RecipeError
from limbeck.metrics import RunResults
from tests.fast import Fast
from tests.listening import Recorder
from tests.tiny import Tiny, built, counted, hashes, in_child


class Convolutions(DGM):
    """A classifier of small images: two feature maps and a class; ``latent`` gives it noise."""

    def __init__(self, width: int = 8, latent: bool = False) -> None:
        super().__init__()
        self.latent = latent
        self.first = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, padding=1), nn.ReLU())
        self.head = nn.Linear(2 * width, 4)

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        assert x is not None
        if self.latent:
            x = x + sites.latent("z", sites.standard_normal(1, 8, 8))
        h = sites.deterministic("h[0]", self.first(x))
        h = sites.deterministic("h[1]", self.second(h))
        sites.target("y", Categorical(logits=self.head(h.mean((2, 3))), validate_args=False))

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        law = self.trace(x=batch.x)["y"].distribution
        return Loss.of({"y": -law.log_prob(batch.y).mean()})


def rows(count: int = 40, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Batch(torch.randint(4, (count,), generator=generator), x)


def objective() -> Objective:
    return Objective([Match("h[1]", divergence=lp), Match("y", divergence=kl)], train_weight=1.0)


def options(**changes: Any) -> Training:
    return Training(**{"steps": 12, "batch_size": 8, "learning_rate": 0.01, "log_every": 1} | changes)


def taught(directory: Path, model: DGM | None = None, *, data: Batch | None = None, **changes: Any) -> CachedTeacher:
    """The cached teacher; other arguments are those of ``cached``."""
    given: dict[str, Any] = {"settings": TeacherCache(), "objectives": [objective()], "training": options()} | changes
    return cached(teacher() if model is None else model, rows=rows() if data is None else data,
                  directory=directory, **given)  # fmt: skip


def teacher(seed: int = 0) -> DGM:
    return built(Convolutions, seed).eval()


def history(model: DGM, training: Training | None = None, **changes: Any) -> list[dict[str, float]]:
    """All losses of a training without the clock."""
    student = built(Convolutions, 7)
    fitted = fit(student, objective(), training or options(), teacher=model, data=rows(), seed=3, **changes)
    return [{name: value for name, value in row.items() if name != "seconds"} for row in fitted.history.rows]


def runs(model: CachedTeacher, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each run of the real teacher, from now on."""
    found: list[int] = []
    forward = model.source.generate

    def generate(sites: Sites, x: Tensor | None = None) -> None:
        assert x is not None
        found.append(len(x))
        forward(sites, x)

    monkeypatch.setattr(model.source, "generate", generate)
    return found


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

    def test_in_double_precision(self, tmp_path: Path) -> None:
        trainer = TrainerOptions(precision="64-true")
        assert history(taught(tmp_path, trainer=trainer), trainer=trainer) == history(teacher(), trainer=trainer)

    def test_in_mixed_precision(self, tmp_path: Path) -> None:
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

    def test_views(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    def test_in_any_order_and_number(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = taught(tmp_path)
        asked = runs(found, monkeypatch)
        x = rows().x.float() / 255
        index = torch.tensor([7, 7, 3, 39, 0])
        expected = teacher().trace(x=x[index])
        for name in ("h[1]", "y"):
            assert torch.equal(*(_numbers(trace[name].distribution) for trace in (_kept(found, x[index]), expected)))
        assert not asked

    def test_unknown_ones_are_computed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = taught(tmp_path)
        asked = runs(found, monkeypatch)
        x = rows().x.float() / 255
        x[5] += 0.25
        x[9, 0, 0, 0] = -0.0
        expected = teacher().trace(x=x)
        known = _kept(found, x)
        for name in ("h[1]", "y"):
            assert torch.allclose(*(_numbers(trace[name].distribution) for trace in (known, expected)))
        assert asked == [2]
        assert found.missed == 2

    def test_none_is_known(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        words = Recorder()
        found = taught(tmp_path, progress=words)
        monkeypatch.setattr(cached_teacher, "_TOLD_FROM", 50)
        x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(9))
        said = len(words.messages)
        for _ in range(3):
            assert torch.equal(_kept(found, x)["h[1]"].value, teacher().trace(x=x)["h[1]"].value)
        assert len(words.messages) == said + 1
        assert "augmentation" in words.messages[-1]

    def test_site_that_is_not_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        words = Recorder()
        found = taught(tmp_path, progress=words)
        asked = runs(found, monkeypatch)
        x = rows().x.float() / 255
        assert torch.equal(found.trace(x=x)["h[0]"].value, teacher().trace(x=x)["h[0]"].value)
        assert asked == [40]
        assert "'h[0]'" in words.messages[-1]

    def test_interventions_are_the_teachers(self, tmp_path: Path) -> None:
        x, given = rows(4).x.float() / 255, {"h[1]": torch.zeros(4, 16, 4, 4)}
        pair = [model.trace(x=x, values=given)["y"].distribution.logits for model in (taught(tmp_path), teacher())]
        assert torch.equal(*pair)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.uint8, torch.bool])
    def test_keys_tell_all_rows_apart(self, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(2, (4000, 3, 7), generator=generator).to(dtype)
        first, second = RowKeys()(x)
        distinct = len(torch.unique(x.flatten(1).double(), dim=0))
        assert distinct > 3900
        assert len(first.unique()) == len(second.unique()) == distinct
        # The shape and the type of a row are part of it, its place is not.
        assert not bool((first == RowKeys()(x.view(4000, 21))[0]).any())
        order = torch.randperm(4000, generator=generator)
        assert torch.equal(RowKeys()(x[order])[0], first[order])

    def test_keys_see_every_bit(self) -> None:
        x = torch.rand(1, 5, generator=torch.Generator().manual_seed(0))
        flipped = x.view(torch.int32).repeat(160, 1)
        for number in range(160):
            flipped[number, number // 32] ^= (1 << number % 32) - (1 << 32 if number % 32 == 31 else 0)
        together = torch.cat([x, flipped.view(torch.float32)])
        assert all(len(keys.unique()) == 161 for keys in RowKeys()(together))


class TestNeverStale:
    def test_found_again(self, tmp_path: Path) -> None:
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
        assert torch.allclose(_kept(found, x)["h[1]"].distribution.value, expected, atol=1e-3)
        assert found.missed == 0

    def test_other_code_with_the_same_weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert torch.equal(_kept(found, x)["h[1]"].distribution.value, teacher().trace(x=x)["h[1]"].value)

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
    def test_killed_while_it_fills(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        def interrupted() -> None:
            from limbeck.data.caching import store

            monkeypatch.setattr(store.Writer, "add", counted(store.Writer.add, 4 * after))
            taught(tmp_path)

        assert in_child(interrupted) == -9
        assert list(tmp_path.rglob("*.tmp"))
        found = taught(tmp_path)
        assert not list(tmp_path.rglob("*.tmp"))
        assert history(found) == history(teacher())

    def test_two_processes_at_once(self, tmp_path: Path) -> None:
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
    def test_latents(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"'z' anew in each step.*pairs"):
            taught(tmp_path, built(Convolutions, latent=True))

    def test_nothing_to_look_up_by(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="condition"):
            taught(tmp_path, built(Tiny), data=Batch(torch.rand(4, 1, 8, 8)))

    def test_new_views_each_time(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match=r"augmentation\.views"):
            taught(tmp_path, training=options(augmentation=Augmentation()))

    def test_too_much(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match=r"40 rows take .*float16"):
            taught(tmp_path, settings=TeacherCache(limit_bytes=10_000))
        assert not list(tmp_path.iterdir())

    def test_numbers_too_large(self, tmp_path: Path) -> None:
        model = teacher()
        with torch.no_grad():
            model.head.bias.fill_(0.0)
            model.second[0].bias.fill_(1e6)
        with pytest.raises(ModelError, match=r"'h\[1\]' has numbers.*float16"):
            taught(tmp_path, model, settings=TeacherCache("float16"))

    @pytest.mark.parametrize("given", [{"dtype": "int8"}, {"limit_bytes": 0}])
    def test_settings(self, given: dict[str, Any]) -> None:
        with pytest.raises(RecipeError, match=next(iter(given))):
            TeacherCache(**given)


class TestUse:
    """In a recipe and in one call."""

    def recipe(self, **changes: Any) -> Recipe:
        found: dict[str, Any] = {
            "title": "Digits", "teacher": Convolutions(6), "student": Convolutions(6), "objective": objective(),
            "method": "ours", "baselines": {"scratch": Baseline(scratch())},
            "evaluation": Fast(), "data": Digits(classes=[0, 1, 2, 3]),
            "target": "labels", "condition": "images", "teacher_training": options(), "training": options(), "seeds": 2,
        }  # fmt: skip
        return Recipe(**found | changes)

    def run(self, recipe: Recipe, folder: Path, progress: Progress | None = None) -> RunResults:
        return Experiment(
            recipe, resolved="", name="digits", directory=folder, cache=folder.parent / "cache", command="",
            progress=progress or Progress(),
        ).run()  # fmt: skip

    def test_recipe(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        words = Recorder()
        self.run(self.recipe(), tmp_path / "without")
        self.run(self.recipe(teacher_cache=TeacherCache()), tmp_path / "with", words)
        assert hashes(tmp_path / "with") == hashes(tmp_path / "without")
        # Once for both seeds; what is finished asks for nothing.
        assert [label for label, _, _ in words.stages].count("teacher cache") == 1
        assert words.expected == words.total
        monkeypatch.setattr(stand_ins, "cached", lambda *_, **__: pytest.fail("asked for a cache"))
        self.run(self.recipe(teacher_cache=TeacherCache()), tmp_path / "with")

    def test_few_rows_of_each_seed(self, tmp_path: Path) -> None:
        words = Recorder()
        self.run(self.recipe(per_class=5, teacher_cache=TeacherCache()), tmp_path / "with", words)
        self.run(self.recipe(per_class=5), tmp_path / "without")
        assert hashes(tmp_path / "with") == hashes(tmp_path / "without")
        made = [steps for label, steps, _ in words.stages if label == "teacher cache"]
        assert made == [3, 3]  # 20 rows of a seed in batches of 8
        assert words.expected == words.total

    def test_dry(self, tmp_path: Path) -> None:
        results = self.run(self.recipe(per_class=5, teacher_cache=TeacherCache()).dry(), tmp_path / "run")
        assert results.values("ours", "accuracy")

    def test_fingerprints(self) -> None:
        """Exact outputs make the same student, rounded ones another."""
        caches = (None, TeacherCache(), TeacherCache(limit_bytes=10**9), TeacherCache("float16"))
        keys = [student_key(self.recipe(teacher_cache=cache), "ours", 0, "t", "r") for cache in caches]
        assert keys[0] == keys[1] == keys[2] != keys[3]
        plain = [student_key(self.recipe(teacher_cache=cache), "scratch", 0, "t", "r") for cache in caches]
        assert len(set(plain)) == 1

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"pairs": Pairs(8)}, "leave out pairs"),
            ({"condition": "none"}, "nothing to look up by"),
            ({"training": options(augmentation=Augmentation())}, r"augmentation\.views"),
        ],
    )
    def test_recipes_that_cannot(self, changes: dict[str, Any], words: str) -> None:
        with pytest.raises(RecipeError, match=words):
            self.recipe(teacher_cache=TeacherCache(), **changes)

    def test_in_one_call(self, tmp_path: Path) -> None:
        students = [built(Convolutions, 7) for _ in range(3)]
        given: dict[str, Any] = {"data": rows(), "training": options(), "progress": False}
        limbeck.distill(teacher(), students[0], objective(), **given)
        limbeck.distill(teacher(), students[1], objective(), teacher_cache=TeacherCache(), cache=tmp_path, **given)
        prepared = prepare(teacher(), torch.rand(2, 1, 8, 8))
        limbeck.distill(taught(tmp_path / "own", prepared), students[2], objective(), **given)
        assert len({weights_fingerprint(student) for student in students}) == 1
        assert list(tmp_path.glob("*/manifest.json"))

    def test_in_one_call_with_a_directory(self, tmp_path: Path) -> None:
        given: dict[str, Any] = {"data": rows(), "training": options(), "progress": False, "directory": tmp_path}
        found = [
            limbeck.distill(teacher(), built(Convolutions, 7), objective(), teacher_cache=cache, **given).student
            for cache in (TeacherCache(), None, TeacherCache("float16"))
        ]
        assert list(tmp_path.glob("teacher/*/manifest.json"))
        # Exact outputs are found as what would have been trained without; rounded ones are not.
        kept = [weights_fingerprint(student) for student in found]
        assert kept[0] == kept[1] != kept[2]

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"data": rows()}, "give a directory, or cache="),
            ({"cache": "x"}, "give data"),
            (
                {"cache": "x", "data": rows(), "teacher_inputs": torch.zeros(1, 1, 8, 8)},
                "not with pairs or teacher_inputs",
            ),
        ],
    )
    def test_calls_that_cannot(self, given: dict[str, Any], words: str) -> None:
        with pytest.raises(RecipeError, match=words):
            limbeck.distill(teacher(), built(Convolutions), objective(), teacher_cache=TeacherCache(), **given)


LAWS: list[Callable[[Tensor], Distribution]] = [
    lambda p: Delta(p),
    lambda p: Delta(p, 1),
    lambda p: Categorical(logits=p),
    lambda p: Categorical(probs=p.softmax(1)),
    lambda p: OneHotCategorical(logits=p),
    lambda p: Bernoulli(logits=p),
    lambda p: Bernoulli(probs=p.sigmoid()),
    lambda p: Normal(p, 2.0),
]


class TestLaws:
    @pytest.mark.parametrize("law", LAWS)
    def test_taken_apart_and_rebuilt(self, law: Callable[[Tensor], Distribution]) -> None:
        made = law(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)))
        if hasattr(made, "probs"):
            assert made.probs is not None  # torch computes and keeps the other way to write it
            assert made.logits is not None
        parameters, details = dismantle(made, "y")
        found = rebuild({name: value[2:4].clone() for name, value in parameters.items()}, details)
        assert type(found) is type(made)
        assert (found.batch_shape, found.event_shape) == (torch.Size([2, *made.batch_shape[1:]]), made.event_shape)
        for name in ("value", "loc", "scale", "logits", "probs"):
            if hasattr(made, name):
                assert torch.equal(getattr(found, name), getattr(made, name)[2:4])

    def test_others_are_named(self) -> None:
        with pytest.raises(ModelError, match=r"'y' has the law Gamma"):
            dismantle(Gamma(torch.ones(3), 1.0), "y")

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_layout(self, layout: torch.memory_format) -> None:
        value = torch.rand(2, 3, 4, 5).to(memory_format=layout)
        order = stored_order(value)
        stored = (value if order is None else value.permute(order)).contiguous()
        assert torch.equal(laid_out(stored, order), value)
        assert laid_out(stored, order).stride() == value.stride()


def _kept(model: CachedTeacher, x: Tensor) -> Any:
    """A run that keeps what is stored, so that the teacher need not run for the rest."""
    return model.trace(x=x, keep=lambda name, kind: 3 if name != "h[0]" or kind is Kind.TARGET else 0)


def _numbers(law: Any) -> Tensor:
    found: Tensor = law.value if isinstance(law, Delta) else law.logits
    return found
