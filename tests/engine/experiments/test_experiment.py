"""A run directory over several commands: what is in it belongs together, whatever was tried in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from limbeck.engine.stages.fingerprints import weights_fingerprint
from tests.tiny import Tiny, built, call, hashes, write_recipe

RUN = Path("runs/spots/default")
TEACHERS = {
    "trained": "--seeds=1",
    "untrained": "--teacher_training=null",
    "given": "--teacher_from=elsewhere",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("limbeck.report.write_report", lambda runs, out: out)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every step of a training."""
    from limbeck.engine.training.module import StudentModule

    steps: list[int] = []
    plain = StudentModule.training_step
    monkeypatch.setattr(StudentModule, "training_step", lambda *words: (steps.append(1), plain(*words))[1])
    return steps


def test_another_teacher_in_the_same_run(trained: list[int]) -> None:
    """One that is trained, as it is constructed, or from elsewhere: none of them is taken for another."""
    path = write_recipe(Path())
    built(seed=3, width=8).save_pretrained("elsewhere")
    found = {}
    for kind, word in TEACHERS.items():
        assert call("run", path, word) == 0
        found[kind] = hashes(RUN, "teacher/*")
    weights, history = "teacher/model.safetensors", "teacher/history.csv"
    assert found["trained"][weights] != found["untrained"][weights]
    assert history in found["trained"]
    assert not {weights, history} & found["given"].keys()
    assert history not in found["untrained"]
    trained.clear()
    for kind, word in TEACHERS.items():
        assert call("run", path, word) == 0
        assert hashes(RUN, "teacher/*").get(weights) == found[kind].get(weights)
    assert not trained


def test_the_same_given_teacher_is_measured_once() -> None:
    path = write_recipe(Path(), teacher_training=None)
    assert call("run", path) == 0
    stamp = (RUN / "teacher" / "evaluation.json").stat().st_mtime_ns
    assert call("run", path) == 0
    assert (RUN / "teacher" / "evaluation.json").stat().st_mtime_ns == stamp
    assert not list(RUN.glob("*.replaced-*"))


@pytest.mark.parametrize(
    "mistake",
    ["--data.broken=nan", "--trainer.precision=banana", "--trainer.strategy=ddp_spawn", "--condition=colour"],
)
def test_a_mistake_changes_nothing(mistake: str, trained: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    """It is told of before the recipe is written down and before anything that is finished is moved."""
    path = write_recipe(Path())
    assert call("run", path) == 0
    before = hashes(RUN, "**/*.*")
    trained.clear()
    assert call("run", path, "--evaluation.samples=7", mistake) != 0
    after = hashes(RUN, "**/*.*")
    assert {name for name in before | after if before.get(name) != after.get(name)} <= {"log.txt"}
    assert yaml.safe_load((RUN / "recipe.yaml").read_text())["evaluation"]["init_args"]["samples"] == 8
    assert not trained


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("damage", [Path.unlink, truncate])
@pytest.mark.parametrize("name", ["teacher", "students/surrogate/0"])
def test_a_finished_model_that_is_lost(
    name: str, damage: Callable[[Path], None], trained: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_recipe(Path())
    assert call("run", path) == 0
    expected = weights_fingerprint(Tiny.from_pretrained(RUN / name))
    damage(RUN / name / "model.safetensors")
    trained.clear()
    capsys.readouterr()
    assert call("run", path) == 0
    assert weights_fingerprint(Tiny.from_pretrained(RUN / name)) == expected
    assert len(trained) == 12
    assert " ".join(capsys.readouterr().err.split()).count("it is trained again") == 1
