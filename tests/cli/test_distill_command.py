"""``limbeck distill``: a student for a teacher that exists."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limbeck.core.storage import WEIGHTS
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.training.history import History
from limbeck.models import LadderVAE, NetworkClassifier
from tests.tiny import Tiny, built, call, hashes

pytestmark = pytest.mark.usefixtures("quick")


class TestDistill:
    WORDS = ("distill", "--training.steps=5", "--training.batch_size=4", "--training.log_every=1")

    @pytest.fixture
    def teacher(self) -> LadderVAE:
        torch.manual_seed(0)
        model = LadderVAE(image_size=8, image_channels=1, levels=2, width=6, latent_channels=2)
        model.save_pretrained("teacher")
        return model

    @pytest.mark.parametrize("form", [["--teacher=teacher"], ["--teacher", "teacher"]], ids=" ".join)
    def test_a_smaller_student_is_written_and_the_teacher_left_alone(
        self, teacher: LadderVAE, form: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
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

    def test_method_and_class_can_be_chosen(self, teacher: LadderVAE) -> None:
        status = call(
            *self.WORDS, "--teacher=teacher", "--student.class_path=limbeck.models.LadderVAE",
            "--student.init_args.width=3", "--objective=limbeck.methods.local", "--out=local",
        )  # fmt: skip
        assert status == 0
        assert {"y", "z1", "z2"} <= set(History.read("local/history.csv").columns)
        assert LadderVAE.from_pretrained("local").config["width"] == 3

    def test_a_chosen_method_has_its_own_defaults(self, teacher: LadderVAE) -> None:
        """Surrogate and local both have a latent_weight and a latent, with other defaults."""
        words = (*self.WORDS, "--teacher=teacher", "--objective=limbeck.methods.local")
        explicit = ("--objective.latent_weight=1", "--objective.latent=limbeck.divergence.kl")
        assert call(*words, "--out=short") == 0
        assert call(*words, *explicit, "--out=long") == 0
        assert call(*self.WORDS, "--teacher=teacher", *explicit, words[-1], "--out=long-first") == 0
        found = [weights_fingerprint(LadderVAE.from_pretrained(name)) for name in ("short", "long", "long-first")]
        assert found[0] == found[1] == found[2]

    def test_a_method_may_learn_from_data_too(self, teacher: LadderVAE) -> None:
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

    def test_the_teachers_outputs_are_kept_once_for_the_same_student(
        self, classifier: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
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
    def test_outputs_that_cannot_be_kept_are_refused(
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

    def test_a_class_of_ones_own_is_distilled(self, capsys: pytest.CaptureFixture[str]) -> None:
        built(width=8).save_pretrained("teacher")
        assert call(*self.WORDS, "--teacher=teacher", "--import=tests.tiny", "--student.width=2") == 0
        assert Tiny.from_pretrained("student").config["width"] == 2
