"""Stages: what identifies them, and that nothing is repeated, mixed up or lost."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from limbeck import methods
from limbeck.core.coupling import IndependentNoise, SharedNoise, SharedValues
from limbeck.core.divergence import FeatureDistance, kl, kl_monte_carlo, wasserstein2
from limbeck.core.match import Match
from limbeck.core.objective import Objective
from limbeck.core.trace import Kind
from limbeck.engine.options import Training
from limbeck.engine.progress import SilentProgress
from limbeck.engine.stages import (
    Stage,
    describe_model,
    describe_objective,
    fingerprint,
    locked,
    weights_fingerprint,
)
from limbeck.errors import StorageError
from tests.tiny import LearnedScale, Tiny, built, in_child, rising


class Listener(SilentProgress):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


class TestFingerprint:
    def test_order_does_not_matter_but_content_does(self) -> None:
        assert fingerprint(a=1, b={"c": 2, "d": 3}) == fingerprint(b={"d": 3, "c": 2}, a=1)
        parts = [{"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {"a": None}, {"a": [1]}, {"a": Training()}]
        assert len({fingerprint(**part) for part in parts}) == len(parts)

    def test_dataclasses_by_their_fields(self) -> None:
        assert fingerprint(a=Training(steps=5)) == fingerprint(a=dataclasses.asdict(Training(steps=5)))

    def test_of_something_without_a_stable_form(self) -> None:
        with pytest.raises(TypeError, match="cannot be part of a fingerprint"):
            fingerprint(a=object())

    def test_weights_bit_for_bit(self) -> None:
        model = built(norm=True)
        before = weights_fingerprint(model)
        assert before == weights_fingerprint(built(norm=True))
        with torch.no_grad():
            model.body[0].bias[1].copy_(torch.nextafter(model.body[0].bias[1], torch.tensor(9.0)))
        assert weights_fingerprint(model) != before

    def test_buffers_and_precision_count(self) -> None:
        model = built(norm=True)
        before = weights_fingerprint(model)
        model.body[1].running_mean += 1
        assert weights_fingerprint(model) != before
        half, single = nn.Linear(1, 1).half(), nn.Linear(1, 1)
        for model in (half, single):
            nn.init.zeros_(model.weight)
            nn.init.zeros_(model.bias)
        assert weights_fingerprint(half) != weights_fingerprint(single)

    def test_model(self) -> None:
        assert describe_model(built()) == describe_model(built(seed=1))
        assert describe_model(built()) != describe_model(built(width=5))
        assert describe_model(Tiny(4)) == describe_model(Tiny(width=4))

    def test_code_beside_the_model_in_its_package_counts(self, tmp_path, monkeypatch) -> None:
        """A model is made of helpers: when one of them changes, so do the weights that come out."""
        monkeypatch.syspath_prepend(tmp_path)
        for name, place in {"first": "one", "same": "one", "changed": "two"}.items():
            package = tmp_path / name
            package.mkdir()
            (package / "__init__.py").write_text("")
            (package / "parts.py").write_text(f"def head():\n    return '{place}'\n")
            (package / "unrelated.py").write_text(f"'{name}'\n")
            (package / "model.py").write_text(
                "from limbeck.core.graph import DGM\nfrom .parts import head\n\n"
                "class Model(DGM):\n    def generate(self, sites, x=None):\n        head()\n"
            )
        code = {}
        for name in ("first", "same", "changed"):
            code[name] = describe_model(importlib.import_module(f"{name}.model").Model())["code"]
        assert code["first"] == code["same"] != code["changed"]


OBJECTIVES = {
    "surrogate": methods.surrogate(),
    "another weight": methods.surrogate(0.5),
    "another divergence": methods.surrogate(target=wasserstein2),
    "another divergence of latents": methods.surrogate(latent=kl),
    "no latents": methods.surrogate(0.0),
    "local": methods.local(),
    "marginalized": methods.marginalized(3),
    "more draws": methods.marginalized(4),
    "with posteriors": methods.surrogate(posterior_weight=1.0),
    "of means": methods.surrogate(posterior_weight=1.0, inferred_from="mean"),
    "of values": methods.surrogate(posterior_weight=1.0, share="values"),
    "with reconstructions": methods.surrogate(posterior_weight=1.0, reconstruction_weight=1.0),
    "own bound": methods.own_bound(),
    "own bound on means": methods.own_bound(replay="mean"),
    "beside its own bound": methods.surrogate(own_bound_weight=1.0),
    "mapped": methods.mapped(),
    "mapped at random": methods.mapped("random"),
    "by another seed": methods.mapped("random", seed=1),
    "learned map": methods.mapped("learned"),
    "continual": methods.continual(),
    "continual, local": methods.continual_local(),
    "replay": methods.replay(),
    "lgm": methods.replay_consistent(),
    "denoising student of order 1": methods.denoising_student(order=1),
    "few step": methods.few_step(),
    "few step from states": methods.few_step(from_states=True),
    "few step with features": methods.few_step(feature_weight=1.0),
    "with features of a layer": methods.few_step(feature_weight=1.0, features=FeatureDistance(layers=["blocks.0"])),
    "consistency": methods.consistency(),
    "progressive": methods.progressive(),
    "progressive from fewer steps": methods.progressive(most=8),
    "matching": methods.distribution_matching(),
    "matching other levels": methods.distribution_matching(low=0.1),
    "sharpened": methods.sharpened(),
    "sharpened at other levels": methods.sharpened(high=0.9),
    "scratch": methods.scratch(),
    "joint": methods.joint(0.5),
    "schedule": Objective([Match(weight=rising)]),
    "with arguments": Objective([Match(divergence=functools.partial(kl_monte_carlo, samples=3))]),
    "with other arguments": Objective([Match(divergence=functools.partial(kl_monte_carlo, samples=4))]),
    "learned": Objective([Match(divergence=LearnedScale(), kind=Kind.TARGET)]),
    "one site": Objective([Match("y")]),
    "renamed": Objective([Match("y", "x")]),
    "mapping": Objective([Match({"y": "y"})]),
    "kind": Objective([Match("y", kind=Kind.TARGET)]),
    "coupling": Objective([Match("y")], SharedValues()),
    "coupling with arguments": Objective([Match("y")], IndependentNoise(2)),
    "weight of all": Objective([Match("y")], SharedNoise(), weight=2.0),
}

_DESCRIBE = """
import json
from tests.engine.test_stages import OBJECTIVES
from limbeck.engine.stages import describe_objective, fingerprint
print(json.dumps({name: fingerprint(o=describe_objective(objective)) for name, objective in OBJECTIVES.items()}))
"""


class TestObjective:
    def test_every_difference_counts(self) -> None:
        found = {fingerprint(objective=describe_objective(objective)) for objective in OBJECTIVES.values()}
        assert len(found) == len(OBJECTIVES)

    def test_weights_of_a_learned_divergence_count(self) -> None:
        one, two = OBJECTIVES["learned"], Objective([Match(divergence=LearnedScale(), kind=Kind.TARGET)])
        assert describe_objective(one) == describe_objective(two)
        with torch.no_grad():
            two.divergences[0].raw += 1
        assert describe_objective(one) != describe_objective(two)

    def test_lambdas_are_told_apart(self) -> None:
        one, two = (Objective([Match(weight=weight)]) for weight in (lambda p: p, lambda p: 1 - p))
        assert describe_objective(one) != describe_objective(two)

    def test_closures_are_told_apart(self) -> None:
        def to(end: float):
            return lambda progress: end * progress

        one, two, same = (Objective([Match(weight=to(end))]) for end in (1.0, 2.0, 1.0))
        assert describe_objective(one) != describe_objective(two)
        assert describe_objective(one) == describe_objective(same)

    def test_same_in_another_process(self) -> None:
        root = Path(__file__).parents[2]
        done = subprocess.run([sys.executable, "-c", _DESCRIBE], cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        expected = {name: fingerprint(o=describe_objective(objective)) for name, objective in OBJECTIVES.items()}
        assert json.loads(done.stdout) == expected


class TestStage:
    def test_life(self, tmp_path: Path) -> None:
        listener, folder = Listener(), tmp_path / "a" / "b"
        stage = Stage(folder, "training", "key")
        assert stage.result is None
        assert not stage.begun
        stage.begin(listener)
        assert stage.begun
        assert stage.result is None
        stage.finish({"seconds": 3.0})
        again = Stage(folder, "training", "key")
        assert again.result == {"seconds": 3.0}
        assert Stage(folder, "training", "another").result is None
        assert listener.messages == []

    def test_going_on_keeps_what_is_there(self, tmp_path: Path) -> None:
        Stage(tmp_path / "a", "training", "key").begin(Listener())
        (tmp_path / "a" / "last.ckpt").write_text("half way")
        Stage(tmp_path / "a", "training", "key").begin(Listener())
        assert (tmp_path / "a" / "last.ckpt").read_text() == "half way"

    def test_results_of_other_settings_are_moved_aside(self, tmp_path: Path) -> None:
        folder, listener = tmp_path / "student", Listener()
        for key in ("one", "two", "one", "two"):
            stage = Stage(folder, "training", key)
            assert stage.result is None
            stage.begin(listener)
            (folder / "model.safetensors").write_text(key)
            stage.finish({})
        kept = [path for path in tmp_path.iterdir() if path != folder]
        assert sorted((path / "model.safetensors").read_text() for path in kept) == ["one", "one", "two"]
        assert len(listener.messages) == 3
        assert all("is kept as student.replaced-" in text for text in listener.messages)

    @pytest.mark.parametrize("content", ["", "{", '{"key": "mi', "[1, 2]", "null"])
    def test_damaged_record(self, tmp_path: Path, content: str) -> None:
        folder = tmp_path / "student"
        folder.mkdir()
        (folder / "training.json").write_text(content)
        (folder / "last.ckpt").write_text("of unknown origin")
        stage = Stage(folder, "training", "mine")
        assert stage.result is None
        stage.begin(Listener())
        assert not (folder / "last.ckpt").exists()
        assert stage.begun
        aside = next(path for path in tmp_path.iterdir() if path != folder)
        assert (aside / "last.ckpt").exists()

    def test_model_without_record_is_not_overwritten(self, tmp_path: Path) -> None:
        built().save_pretrained(tmp_path / "mine")
        Stage(tmp_path / "mine", "training", "key").begin(Listener())
        assert Tiny.from_pretrained(tmp_path / "mine.replaced-unknown")

    def test_working_directory_is_not_moved(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        built().save_pretrained(tmp_path / "mine")
        monkeypatch.chdir(tmp_path / "mine")
        with pytest.raises(StorageError, match="choose another directory"):
            Stage(Path(), "training", "key").begin(Listener())
        assert (tmp_path / "mine" / "model.safetensors").exists()

    def test_remains_of_a_killed_write_are_removed(self, tmp_path: Path) -> None:
        stage = Stage(tmp_path / "a", "training", "key")
        stage.begin(Listener())
        (tmp_path / "a" / ".limbeck-0123.tmp").write_bytes(b"half")
        stage.begin(Listener())
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["training.json"]

    def test_path_through_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="is a file, not a directory"):
            Stage(tmp_path / "file" / "a", "training", "key").begin(Listener())

    def test_other_processes_wait(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOCAL_RANK", "1")
        stage = Stage(tmp_path / "a", "training", "key")

        def main_process() -> None:
            monkeypatch.setenv("LOCAL_RANK", "0")
            stage.begin(Listener())

        monkeypatch.setattr("limbeck.engine.stages.time.sleep", lambda seconds: in_child(main_process))
        stage.begin(Listener())
        assert stage.begun

    def test_other_processes_do_not_wait_for_the_dead(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOCAL_RANK", "1")
        parents = iter([1234, 1234, 1])
        monkeypatch.setattr("limbeck.engine.stages.os.getppid", lambda: next(parents))
        with pytest.raises(StorageError, match="main process ended"):
            Stage(tmp_path / "a", "training", "key").begin(Listener())
        assert not (tmp_path / "a").exists()


class TestLocked:
    def test_only_one_at_a_time(self, tmp_path: Path) -> None:
        def second() -> int:
            try:
                with locked(tmp_path / "run"):
                    return 0
            except StorageError as error:
                return 7 if "another process is working" in str(error) else 8

        with locked(tmp_path / "run"):
            assert in_child(second) == 7
        assert in_child(second) == 0

    def test_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("")
        with pytest.raises(StorageError, match="run"), locked(tmp_path / "run"):
            pass


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    order: list[str] = []
    held = threading.Event()

    def hold() -> None:
        with locked(tmp_path / "shared"):
            held.set()
            time.sleep(0.3)
            order.append("first")

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with locked(tmp_path / "shared", wait=True):
        order.append("second")
    holder.join()
    assert order == ["first", "second"]
