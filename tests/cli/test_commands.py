"""The commands as a user types them: what they print and what they leave behind."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import limbeck
from limbeck.cli.main import COMMANDS
from limbeck.core.storage import WEIGHTS
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.training.history import History
from limbeck.models import LadderVAE, NetworkClassifier
from tests.tiny import Tiny, built, call, hashes, write_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("limbeck.engine.evaluations.images.image_evaluation.throughput", lambda sample, rows: 1.0)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped recipe, a few steps of each stage."""
    folder = tmp_path_factory.mktemp("dry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limbeck.engine.evaluations.images.image_evaluation.throughput", lambda sample, rows: 1.0)
        patch.chdir(folder)
        assert call("run", "ladder-vae-digits", "--dry-run") == 0
    return folder / "runs" / "ladder-vae-digits" / "dry-run"


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.report.write_report", lambda runs, out: out)


def parts(directory: Path) -> dict[str, Any]:
    return yaml.safe_load((directory / "recipe.yaml").read_text())


class TestHelp:
    def test_costs_nothing(self) -> None:
        code = "import sys; from limbeck.cli.main import main; status = main(['--help']); " \
            "heavy = {'torch', 'lightning', 'jsonargparse', 'rich', 'numpy'} & set(sys.modules); " \
            "sys.stderr.write(' '.join(heavy)); sys.exit(status)"  # fmt: skip
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0
        assert done.stderr == ""
        assert all(command in done.stdout for command in COMMANDS)
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.7

    @pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help"]])
    def test_overview(self, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert call(*words) == 0
        assert capsys.readouterr().out.startswith("usage: limbeck COMMAND")

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["run", "--help"], "--dry-run"),
            (["run", "ladder-vae-digits", "--help"], "--training.learning_rate"),
            (["recipes", "--help"], "ladder-vae-digits"),
            (["distill", "--help"], "--objective"),
            (["sample", "--help"], "--temperature"),
            (["evaluate", "--help"], "--evaluation"),
            (["report", "--help"], "--out"),
        ],
        ids=" ".join,
    )
    def test_of_a_command(self, words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert call(*words) == 0
        found = capsys.readouterr()
        assert told in found.out
        assert found.err == ""

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["--objective.help=limbeck.methods.vanilla"], "--objective.temperature"),
            (["--objective.help", "vanilla"], "--objective.alpha"),
            (["--objective.help"], "limbeck.methods.surrogate"),
            (["--student.help"], "limbeck.models.LadderVAE"),
            (["--student.help", "limbeck.models.LadderVAE"], "--student.levels"),
        ],
    )
    def test_of_a_class(self, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
        """Functions too, and without a teacher."""
        assert call("distill", *words) == 0
        assert expected in capsys.readouterr().out

    def test_offers_no_stand_ins(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("distill", "--help") == 0
        out = capsys.readouterr().out
        assert "limbeck.models.VRNN" in out
        assert not any(name in out for name in ("StandIn", "RecordedTeacher", "CachedTeacher"))

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("--version") == 0
        assert capsys.readouterr().out == f"limbeck {limbeck.__version__}\n"


def test_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("recipes") == 0
    out = capsys.readouterr().out
    assert "ladder-vae-digits" in out


class TestRun:
    def test_everything_is_there(self, dry: Path) -> None:
        methods = ["surrogate-l1", "surrogate", "local", "scratch"]
        for model in ("teacher", *(f"students/{method}/0" for method in methods)):
            names = {path.name for path in (dry / model).iterdir()}
            encoders = {"reconstructions.png"} if model in ("teacher", "students/scratch/0") else set()
            assert names == encoders | {
                "config.json", "model.safetensors", "history.csv", "samples.png", "training.json", "evaluation.json"
            }, model  # fmt: skip
            assert [row["step"] for row in History.read(dry / model / "history.csv").rows] == [1, 2, 3, 4]
        assert "<html" in (dry / "report.html").read_text()
        record = json.loads((dry / "metrics.json").read_text())
        assert record["dry_run"] is True
        assert record["command"] == "limbeck run ladder-vae-digits --dry-run"
        assert [model["method"] for model in record["results"]] == ["teacher", *methods]
        assert all("fid_data" in model["values"] for model in record["results"])
        likelihood = {model["method"] for model in record["results"] if "bound" in model["values"]}
        assert likelihood == {"teacher", "scratch"}
        assert (dry.parents[1] / "cache" / "extractors").is_dir()

    def test_its_recipe_runs_again_to_the_same_weights(self, dry: Path, no_page: None) -> None:
        assert call("run", dry / "recipe.yaml", "--dry-run", "--output=again") == 0
        assert hashes(Path("again/recipe/dry-run")) == hashes(dry)

    def test_overrides(self, no_page: None) -> None:
        path = write_recipe(Path(), baselines={"local": {"objective": {"class_path": "limbeck.methods.local"}}})
        Path("more.yaml").write_text("training: {batch_size: 6}\nteacher_training: {steps: 2}\n")
        status = call(
            "run", path, "--config=more.yaml", "--seed=3", "--seeds=2", "--student.width=5",
            "--objective.latent_weight=1", "--baselines.local.learning_rate=0.1", "--training.steps=3", "--name=mine",
            "--output=elsewhere",
        )  # fmt: skip
        assert status == 0
        run = Path("elsewhere/spots/mine")
        found = parts(run)
        assert found["seed"] == 3
        assert found["student"]["init_args"]["width"] == 5
        assert found["teacher"]["init_args"]["width"] == 8
        assert found["objective"]["init_args"]["latent_weight"] == 1.0
        assert found["baselines"]["local"]["learning_rate"] == 0.1
        assert (found["training"]["steps"], found["training"]["batch_size"]) == (3, 6)
        assert found["teacher_training"]["steps"] == 2
        students = {path.parent.relative_to(run / "students") for path in run.glob("students/*/*/model.safetensors")}
        assert {str(path) for path in students} == {"surrogate/3", "surrogate/4", "local/3", "local/4"}
        assert Tiny.from_pretrained(run / "students/local/4").config["width"] == 5
        rates = {
            model: History.read(run / f"students/{model}/3/history.csv").rows[-1] for model in ("surrogate", "local")
        }
        assert rates["surrogate"]["learning_rate"] == 0.01
        assert rates["local"]["learning_rate"] == 0.1

    def test_seeds_differ(self, no_page: None) -> None:
        assert call("run", write_recipe(Path(), baselines={}), "--seeds=2") == 0
        found = hashes(Path("runs/spots/default"))
        assert len(set(found.values())) == 3

    def test_a_later_seed_is_the_same_alone(self, no_page: None) -> None:
        """Students depend on their own seed, and the teacher on the recipe's."""
        path = write_recipe(Path(), baselines={}, teacher_from="teacher")
        built(width=8).save_pretrained("teacher")
        assert call("run", path, "--seeds=2", "--name=both") == 0
        assert call("run", path, "--seed=1", "--name=alone") == 0
        both, alone = hashes(Path("runs/spots/both")), hashes(Path("runs/spots/alone"))
        assert alone == {name: value for name, value in both.items() if "/1/" in name}

    def test_teacher_that_exists(self, no_page: None) -> None:
        teacher = built(width=8)
        teacher.save_pretrained("teacher")
        before = hashes(Path("teacher"))
        assert call("run", write_recipe(Path(), teacher_from="teacher")) == 0
        assert hashes(Path("teacher")) == before
        assert not Path("runs/spots/default/teacher/model.safetensors").exists()
        assert json.loads(Path("runs/spots/default/metrics.json").read_text())["results"][0]["seed"] is None

    def test_double_precision(self, no_page: None) -> None:
        evaluation = {
            "class_path": "limbeck.engine.ImageEvaluation",
            "init_args": {"samples": 10, "extractor_steps": 2},
        }
        path = write_recipe(Path(), evaluation=evaluation)
        assert call("run", path, "--trainer.precision=64-true") == 0
        for name in ("teacher", "students/surrogate/0", "students/scratch/0"):
            weights = load_file(f"runs/spots/default/{name}/model.safetensors")
            assert {tensor.dtype for tensor in weights.values()} == {torch.float64}

    def test_learned_divergence_is_kept(self, no_page: None) -> None:
        objective = {"class_path": "tests.tiny.learned", "init_args": {"weight": 0.5}}
        assert call("run", write_recipe(Path(), objective=objective, baselines={})) == 0
        found = load_file("runs/spots/default/students/learned/0/objective.safetensors")
        assert [tensor.item() for tensor in found.values()] != [0.0]

    def test_bytes_and_ema(self, no_page: None) -> None:
        path = write_recipe(Path(), data={"class_path": "tests.tiny.Spots", "init_args": {"integers": True}})
        assert call("run", path, "--training.ema=0.9") == 0
        Path("float").mkdir()
        assert call("run", write_recipe(Path("float")), "--training.ema=0.9", "--name=float") == 0
        weights = [Path(f"runs/spots/{name}/students/scratch/0/model.safetensors") for name in ("default", "float")]
        assert weights[0].read_bytes() == weights[1].read_bytes()


USERS = """
import torch
from torch import nn
from torch.distributions import Normal
from limbeck import DGM, Batch, Loss


class Mine(DGM):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 64))

    def generate(self, sites, x=None):
        z = sites.latent("z", sites.standard_normal(2))
        sites.target("y", Normal(self.body(z).view(-1, 1, 8, 8), 0.5))

    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        return Loss.of({"y": (self.body[2].bias.view(1, 8, 8) - batch.y).pow(2).sum() / len(batch)})
"""


def test_own_model_in_the_working_directory(tmp_path: Path) -> None:
    """Through the installed command, which unlike ``python -m`` does not look into the working directory by itself."""
    (tmp_path / "my_models.py").write_text(USERS)
    models = {role: {"class_path": "my_models.Mine", "init_args": {"width": width}} for role, width in
              (("teacher", 5), ("student", 2))}  # fmt: skip
    data = {"class_path": "limbeck.data.Digits", "init_args": {"limit": 20}}
    settings = {"samples": 10, "extractor_steps": 2, "bound_images": 2, "grid": 4}
    evaluation = {"class_path": "limbeck.engine.ImageEvaluation", "init_args": settings}
    write_recipe(tmp_path, data=data, baselines={}, evaluation=evaluation, **models)
    script = "import sys; sys.path = [p for p in sys.path if p not in ('', sys.argv[1])]; del sys.argv[1]; " \
        "from limbeck.cli.main import main; " \
        "sys.exit(main(sys.argv[1:] ) or main(['sample', 'runs/spots/default/students/surrogate/0', '--n=2', " \
        "'--import=my_models']))"  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", script, str(tmp_path), "run", "spots.yaml"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "samples.png").size[0] > 0


class TestDistill:
    WORDS = ("distill", "--training.steps=5", "--training.batch_size=4", "--training.log_every=1")

    @pytest.fixture
    def teacher(self) -> LadderVAE:
        torch.manual_seed(0)
        model = LadderVAE(image_size=8, image_channels=1, levels=2, width=6, latent_channels=2)
        model.save_pretrained("teacher")
        return model

    @pytest.mark.parametrize("form", [["--teacher=teacher"], ["--teacher", "teacher"]], ids=" ".join)
    def test_smaller_student(self, teacher: LadderVAE, form: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        before = hashes(Path("teacher"))
        assert call(*self.WORDS, *form, "--student.width=4", "--out=small") == 0
        student = LadderVAE.from_pretrained("small")
        assert student.config == teacher.config | {"width": 4}
        assert hashes(Path("teacher")) == before
        out = " ".join(capsys.readouterr().out.split())
        assert "generative parameters distilled into" in out
        assert "Student: small" in out
        assert len(History.read("small/history.csv").rows) == 5

    def test_student_starts_fresh_and_the_seed_counts(self, teacher: LadderVAE) -> None:
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            assert call(*self.WORDS, "--teacher=teacher", f"--seed={seed}", f"--out={name}") == 0
        found = [weights_fingerprint(LadderVAE.from_pretrained(name)) for name in "abc"]
        assert found[0] == found[1] != found[2]

    def test_method_and_class(self, teacher: LadderVAE) -> None:
        status = call(
            *self.WORDS, "--teacher=teacher", "--student.class_path=limbeck.models.LadderVAE",
            "--student.init_args.width=3", "--objective=limbeck.methods.local", "--out=local",
        )  # fmt: skip
        assert status == 0
        assert {"y", "z1", "z2"} <= set(History.read("local/history.csv").columns)
        assert LadderVAE.from_pretrained("local").config["width"] == 3

    def test_on_data(self, teacher: LadderVAE) -> None:
        status = call(
            *self.WORDS, "--teacher=teacher", "--student.width=4", "--objective=limbeck.methods.joint",
            "--objective.alpha=0.5", "--data=limbeck.data.Digits", "--data.limit=20",
        )  # fmt: skip
        assert status == 0
        assert "train/y" in History.read("student/history.csv").columns

    @pytest.fixture
    def classifier(self) -> list[str]:
        torch.manual_seed(0)
        settings = {"widths": [4], "channels": 1}
        NetworkClassifier("ConvNet", settings).save_pretrained("teacher")
        data = ["--data=limbeck.data.Digits", "--data.limit=30", "--target=labels", "--condition=images"]
        return [*self.WORDS, "--teacher=teacher", *data]

    def test_the_teachers_outputs_once(self, classifier: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert call(*classifier, "--out=plain") == 0
        assert call(*classifier, "--out=kept", "--teacher_cache={}") == 0
        assert (Path("plain") / WEIGHTS).read_bytes() == (Path("kept") / WEIGHTS).read_bytes()
        assert len(list(Path("kept/teacher").glob("*/manifest.json"))) == 1
        assert not Path("plain/teacher").exists()

    @pytest.mark.parametrize(
        ("left_out", "further", "expected"),
        [
            ("--data", [], "teacher_cache: outputs are kept for rows of data; give data"),
            ("--condition", [], "teacher_cache: the models are given nothing to look up by"),
            ("", ["--training.augmentation.padding=1"], "give training.augmentation.views, a fixed number of them"),
            ("", ["--pairs.count=8"], "not with pairs or teacher_inputs"),
            ("--data", ["--teacher=vae"], "teacher_cache: outputs are kept for rows of data; give data"),
            ("", ["--teacher_cache.limit_bytes=0"], "teacher_cache.limit_bytes must be at least 1, not 0"),
        ],
    )
    def test_outputs_that_cannot_be_kept(
        self,
        classifier: list[str],
        left_out: str,
        further: list[str],
        expected: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        LadderVAE(image_size=8, image_channels=1, levels=2, width=6, latent_channels=2).save_pretrained("vae")
        words = [word for word in classifier if not (left_out and word.startswith(left_out))]
        assert call(*words, "--teacher_cache.dtype=float32", *further) == 2
        told = " ".join(capsys.readouterr().err.split())
        assert expected in told
        assert told.count("teacher_cache") <= 2
        assert not Path("student/teacher").exists()

    def test_finished_is_not_repeated(self, teacher: LadderVAE) -> None:
        words = [*self.WORDS, "--teacher=teacher", "--student.width=4"]
        assert call(*words) == 0
        stamp = Path("student/model.safetensors").stat().st_mtime_ns
        assert call(*words) == 0
        assert Path("student/model.safetensors").stat().st_mtime_ns == stamp

    def test_own_class(self, capsys: pytest.CaptureFixture[str]) -> None:
        built(width=8).save_pretrained("teacher")
        assert call(*self.WORDS, "--teacher=teacher", "--import=tests.tiny", "--student.width=2") == 0
        assert Tiny.from_pretrained("student").config["width"] == 2


class TestSample:
    def test_picture(self, dry: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("sample", dry / "teacher", "--n=6", "--columns=3", "--out=a.png") == 0
        assert "6 samples: a.png" in capsys.readouterr().out
        wide = Image.open("a.png")
        assert call("sample", dry / "teacher", "--n=6", "--columns=2", "--out=b.png") == 0
        assert wide.size[0] > wide.size[1]
        assert Image.open("b.png").size[0] < Image.open("b.png").size[1]

    def test_tensors(self, dry: Path) -> None:
        assert call("sample", dry / "teacher", "--n=5", "--out=a.safetensors") == 0
        assert {name: tuple(value.shape) for name, value in load_file("a.safetensors").items()} == {"y": (5, 1, 8, 8)}

    @pytest.mark.parametrize("ending", ["png", "safetensors"])
    def test_seed_fixes_the_file(self, dry: Path, ending: str) -> None:
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            assert call("sample", dry / "teacher", "--n=4", f"--seed={seed}", f"--out={name}.{ending}") == 0
        found = [Path(f"{name}.{ending}").read_bytes() for name in "abc"]
        assert found[0] == found[1] != found[2]

    def test_temperature(self, dry: Path) -> None:
        for name, temperature in (("cold", 0), ("warm", 1)):
            words = ["sample", dry / "teacher", "--n=8", f"--temperature={temperature}", f"--out={name}.safetensors"]
            assert call(*words) == 0
        spread = {name: load_file(f"{name}.safetensors")["y"].std(0).mean().item() for name in ("cold", "warm")}
        assert spread["cold"] < 1e-6 < spread["warm"]

    def test_output(self, dry: Path) -> None:
        for output in ("mean", "sample"):
            assert call("sample", dry / "teacher", "--n=50", f"--output={output}", f"--out={output}.safetensors") == 0
        mean, sample = (load_file(f"{output}.safetensors")["y"].std().item() for output in ("mean", "sample"))
        assert sample > mean


class TestEvaluate:
    def test_inside_a_run_as_the_run_did(self, dry: Path, capsys: pytest.CaptureFixture[str]) -> None:
        student = dry / "students/local/0"
        picture = (student / "samples.png").read_bytes()
        words = ["evaluate", "--seed", "3", "--evaluation.samples", "20", student]
        assert call(*words, f"--cache={dry.parents[1] / 'cache'}", "--evaluation.extractor_steps=4") == 0
        # The run's page says that its pictures are of the same noise: others stand elsewhere.
        assert (student / "samples.png").read_bytes() == picture != (student / "evaluation/samples.png").read_bytes()
        out = capsys.readouterr().out
        assert f"Pictures: {student / 'evaluation'}" in out
        assert "FID (digits-cnn) to test data" in out
        assert "real vs real" in out
        assert "log-likelihood" not in out

    def test_teacher_of_the_recipe(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Distances to the teacher mean the teacher of the run, also where it came from elsewhere."""
        built(width=8).save_pretrained("elsewhere")
        path = write_recipe(Path(), teacher_from="elsewhere", baselines={})
        monkeypatch.setattr("limbeck.report.write_report", lambda runs, out: out)
        assert call("run", path) == 0
        seen = []
        plain = Tiny.from_pretrained.__func__

        def spying(cls: type, directory: Any, **more: Any) -> Any:
            seen.append(str(directory))
            return plain(cls, directory, **more)

        monkeypatch.setattr("limbeck.core.graph.DGM.from_pretrained", classmethod(spying))
        assert call("evaluate", "runs/spots/default/students/surrogate/0", "--import=tests.tiny") == 0
        assert seen == ["runs/spots/default/students/surrogate/0", "elsewhere"]
        assert "brightness" in capsys.readouterr().out

    def test_numbers_of_the_run(self, capsys: pytest.CaptureFixture[str], no_page: None) -> None:
        """The seed is the one that the run measured with."""
        path = write_recipe(Path(), student={"class_path": "tests.tiny.Tiny"}, baselines={}, seed=7)
        assert call("run", path) == 0
        results = json.loads(Path("runs/spots/default/metrics.json").read_text())["results"]
        (brightness,) = (r["values"]["brightness"] for r in results if r["method"] == "surrogate")
        capsys.readouterr()
        assert call("evaluate", "runs/spots/default/students/surrogate/7", "--evaluation.samples=8") == 0
        assert f"brightness  {brightness:.3f}" in capsys.readouterr().out

    def test_no_teacher(self, dry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A run that lost its teacher is refused; outside a run, nothing is compared with the model itself."""
        import shutil

        copied = shutil.copytree(dry, tmp_path / "copied")
        shutil.rmtree(copied / "teacher")
        assert call("evaluate", copied / "students/local/0") == 2
        error = capsys.readouterr().err
        assert f"{copied / 'teacher'} holds no model" in error
        assert "--teacher=DIR" in error
        few = ["--data=limbeck.data.Digits", "--data.limit=30", "--evaluation.samples=10"]
        few += ["--evaluation.extractor_steps=2", "--cache=cache"]
        alone = shutil.copytree(dry / "students/local/0", tmp_path / "alone")
        assert call("evaluate", alone, *few) == 0
        out = capsys.readouterr().out
        assert "FID (digits-cnn) to test data" in out
        assert "FID (digits-cnn) to teacher" not in out
        assert "What compares with a teacher is left out" in out
        assert call("evaluate", alone, *few, f"--teacher={dry / 'teacher'}") == 0
        assert "FID (digits-cnn) to teacher" in capsys.readouterr().out

    def test_outside(self, capsys: pytest.CaptureFixture[str]) -> None:
        torch.manual_seed(0)
        LadderVAE(image_size=8, image_channels=1, levels=2, width=4, latent_channels=2).save_pretrained("model")
        status = call(
            "evaluate", "model", "--data=limbeck.data.Digits", "--data.limit=30", "--evaluation.samples=10",
            "--evaluation.extractor_steps=2", "--evaluation.bound_images=4", "--bound", "--out=pictures",
        )  # fmt: skip
        assert status == 0
        assert sorted(path.name for path in Path("pictures").iterdir()) == ["reconstructions.png", "samples.png"]
        assert "test log-likelihood bound" in capsys.readouterr().out

    def test_class_as_data_only(self, capsys: pytest.CaptureFixture[str]) -> None:
        built(width=8).save_pretrained("model")
        words = ["evaluate", "--bound", "model", "--data=tests.tiny.Spots", "--evaluation=tests.tiny.Quick"]
        assert call(*words, "--import=tests.tiny") == 0
        assert "brightness" in capsys.readouterr().out


class TestReport:
    def test_one(self, dry: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("report", dry, "--out=page.html") == 0
        assert "surrogate" in capsys.readouterr().out
        assert Path("page.html").read_text().startswith("<!")

    def test_two(self, dry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        import shutil

        other = shutil.copytree(dry, tmp_path / "other")
        record = json.loads((other / "metrics.json").read_text()) | {"name": "other"}
        (other / "metrics.json").write_text(json.dumps(record))
        assert call("report", dry, other) == 0
        page = Path("comparison.html").read_text()
        assert "dry-run" in page
        assert "other" in page

    def test_two_of_one_name(self, dry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Rows say whose they are, and no heading or name is cut where the output is no terminal."""
        import shutil

        other = shutil.copytree(dry, tmp_path / "other")
        capsys.readouterr()
        assert call("report", dry, other) == 0
        out = capsys.readouterr().out
        assert "ladder-vae-digits/dry-run (1)" in out
        assert "ladder-vae-digits/dry-run (2)" in out
        assert "surrogate-l1" in out
        assert "FID (digits-cnn) to test data ↓" in out


def test_pictures_show_what_the_model_draws(dry: Path) -> None:
    assert call("sample", dry / "teacher", "--n=1", "--columns=1", "--out=one.png") == 0
    assert call("sample", dry / "teacher", "--n=1", "--out=one.safetensors") == 0
    picture = np.asarray(Image.open("one.png").convert("L"), dtype=float) / 255
    expected = load_file("one.safetensors")["y"].clamp(0, 1).mean().item()
    assert abs(picture.min() - load_file("one.safetensors")["y"].clamp(0, 1).min().item()) < 0.02
    assert 0 <= expected <= 1


class TestSamplesOfOtherKinds:
    def test_drawings(self, tmp_path: Path) -> None:
        from limbeck.models import VRNN

        torch.manual_seed(0)
        VRNN(steps=6, width=4, features=3, latent_size=2).save_pretrained(tmp_path / "writer")
        assert call("sample", tmp_path / "writer", "--n=4", f"--out={tmp_path / 'grid.png'}") == 0
        with Image.open(tmp_path / "grid.png") as picture:
            assert picture.size[0] > 300
            assert len(picture.convert("RGB").getcolors(1 << 16)) > 2  # lines of colour, not frames alone

    def test_one_domain_of_several(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:

        sizes = {"image_size": 8, "image_channels": 1, "levels": 2, "latent_channels": 2, "width": 3}
        LadderVAE(**sizes, domains=2, batch_statistics=True).save_pretrained(tmp_path / "two")
        LadderVAE(**sizes).save_pretrained(tmp_path / "one")
        for domain in (0, 1):
            out = tmp_path / f"{domain}.safetensors"
            assert call("sample", tmp_path / "two", "--n=4", f"--domain={domain}", f"--out={out}") == 0
        assert (tmp_path / "0.safetensors").read_bytes() != (tmp_path / "1.safetensors").read_bytes()
        for words in ((), ("--domain=2",), ("--domain=-1",)):
            assert call("sample", tmp_path / "two", "--n=4", *words) == 2
            assert "give one from 0 to 1" in capsys.readouterr().err
        assert call("sample", tmp_path / "one", "--n=4", "--domain=0") == 2
        assert "has no domains" in capsys.readouterr().err
