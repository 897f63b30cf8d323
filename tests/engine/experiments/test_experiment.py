"""A run directory over several commands: what is in it belongs together, whatever was tried in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from limbeck.core.methods import scratch
from limbeck.engine.experiments.recipe import Baseline, Recipe
from limbeck.engine.experiments.rehearsal import rehearse
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.errors import RecipeError
from limbeck.metrics import RunResults
from tests.tiny import Quick, Spots, Tiny, built, call, hashes, learned, write_recipe

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


def test_a_method_without_a_name_is_called_by_its_function() -> None:
    """A table must not speak of one method and show another."""
    path = write_recipe(Path(), baselines={})
    for objective, name in [("limbeck.methods.local", "local"), ("tests.tiny.learned", "learned")]:
        assert call("run", path, f"--objective={objective}", "--dry-run", f"--name={name}") == 0
        record = RunResults.from_file(f"runs/spots/{name}-dry-run/metrics.json")
        assert record.methods == ["teacher", name]
    assert call("run", path, "--dry-run", "--method=mine") == 0
    assert RunResults.from_file("runs/spots/dry-run/metrics.json").methods == ["teacher", "mine"]


def test_a_loaded_teacher_says_that_the_recipes_settings_had_no_effect(capsys: pytest.CaptureFixture[str]) -> None:
    path = write_recipe(Path(), baselines={})
    built(width=7).save_pretrained("elsewhere")
    assert call("run", path, "--teacher_from=elsewhere", "--teacher_training.steps=999", "--dry-run") == 0
    note = next(n for n in RunResults.from_file("runs/spots/dry-run/metrics.json").notes if "elsewhere" in n)
    assert "differ from the recipe's in width=7;" in note
    assert "teacher_training had no effect" in note
    assert "had no effect" in (Path("runs/spots/dry-run") / "log.txt").read_text()


def test_what_does_not_fit_is_found_before_the_teacher_is_trained(
    trained: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """One step of each method is tried on a few rows."""
    path = write_recipe(Path(), student={"class_path": "tests.tiny.OneWay"}, baselines={})
    assert call("run", path, "--objective.posterior_weight=1") == 2
    assert "'surrogate': OneWay has no inference program" in capsys.readouterr().err
    assert not trained
    assert not Path("runs/spots/default/recipe.yaml").exists()


def test_a_rehearsal_leaves_everything_as_it_is() -> None:
    plain = {"teacher": built(norm=True), "student": built(seed=1, norm=True), "objective": scratch()}
    recipe = Recipe("Spots", **plain, evaluation=Quick(), data=Spots(), baselines={"learned": Baseline(learned())})
    before = [weights_fingerprint(part) for part in (recipe.teacher, recipe.student)]
    state, spots = torch.random.get_rng_state(), Spots().load()
    rehearse(recipe, spots, spots)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [weights_fingerprint(part) for part in (recipe.teacher, recipe.student)] == before


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


def test_a_dry_run_has_a_directory_of_its_own(trained: list[int]) -> None:
    """So that it replaces nothing in the run of the same name."""
    path = write_recipe(Path())
    assert call("run", path, "--name=mine") == 0
    before = hashes(Path("runs/spots/mine"), "**/*.*")
    assert call("run", path, "--name=mine", "--dry-run") == 0
    assert hashes(Path("runs/spots/mine"), "**/*.*") == before
    assert Path("runs/spots/mine-dry-run/metrics.json").is_file()


@pytest.mark.parametrize("name", ["", ".", "..", "a/../../b", "w/o labels", "a\\b", "a\nb", " a", 201 * "a"])
@pytest.mark.parametrize("of", ["method", "baseline"])
def test_a_method_is_named_like_a_folder(name: str, of: str) -> None:
    """Its students are kept in one."""
    plain = {"teacher": built(), "student": built(), "objective": scratch(), "evaluation": Quick(), "data": Spots()}
    named = {"method": name} if of == "method" else {"baselines": {name: Baseline(scratch())}}
    with pytest.raises(RecipeError, match="give it another name"):
        Recipe("Spots", **plain, **named)
    Recipe("Spots", **plain, method="a.b (c), über=1")
