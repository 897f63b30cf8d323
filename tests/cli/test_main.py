"""Which commands there are, and their help, which comes at once."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import limbeck
from limbeck.cli.main import COMMANDS
from tests.tiny import call

pytestmark = pytest.mark.usefixtures("quick")


class TestHelp:
    def test_help_imports_nothing_heavy(self) -> None:
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
    def test_the_overview_comes_without_words_too(self, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
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
    def test_a_command_tells_its_options(self, words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
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
    def test_a_class_or_a_function_tells_its_arguments(
        self, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Functions too, and without a teacher."""
        assert call("distill", *words) == 0
        assert expected in capsys.readouterr().out

    def test_stand_ins_are_not_offered(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("distill", "--help") == 0
        out = capsys.readouterr().out
        assert "limbeck.models.VRNN" in out
        assert not any(name in out for name in ("StandIn", "RecordedTeacher", "CachedTeacher"))

    @pytest.mark.parametrize("option", ["pairs", "teacher_cache", "training.augmentation"])
    def test_options_of_distill_tell_theirs_without_a_teacher(
        self, option: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            call("distill", f"--{option}.help")
        assert ended.value.code == 0
        assert f"--{option}." in capsys.readouterr().out

    def test_help_of_a_recipe_has_the_fields_of_its_own_classes(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("run", "vib-digits", "--help") == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "width of the two hidden layers. (type: int, default: 64)" in out
        assert all(f"--{key} of this recipe: The arguments of" in out for key in ("teacher", "data", "evaluation"))
        assert "limbeck.methods.sequence_level" in out
        assert not any(mark in out for mark in ("``", "<class", ":class:", "Path to a configuration file"))
        assert "null for all rows" in out

    def test_no_class_of_tensors_is_offered_for_a_divergence(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("run", "vib-digits", "--objective.help=surrogate") == 0
        out = capsys.readouterr().out
        assert "--objective.target TARGET" in out
        assert "torch." not in out
        assert "subclass of Tensor" not in out

    def test_help_of_baselines(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            call("run", "vib-digits", "--baselines.help")
        assert "StandIn" not in capsys.readouterr().out
        for option, expected in (("baselines.objective", "methods.surrogate"), ("teacher_data", "data.Digits")):
            assert call("run", "vib-digits", f"--{option}.help") == 0
            assert f"limbeck.{expected}" in capsys.readouterr().out

    def test_a_reader_who_has_enough_is_no_error(self) -> None:
        """As in ``limbeck recipes | head -1``, with a reader that is gone before the first line."""
        read, write = os.pipe()
        os.close(read)
        code = "import sys; from limbeck.cli.main import main; sys.exit(main(['run', '--help']) or 0)"
        ended = subprocess.run(
            [sys.executable, "-u", "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
        os.close(write)
        assert (ended.returncode, ended.stderr) == (141, "")

    def test_the_version_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("--version") == 0
        assert capsys.readouterr().out == f"limbeck {limbeck.__version__}\n"


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("recipes") == 0
    out = capsys.readouterr().out
    assert "ladder-vae-digits" in out
    assert 0 < out.index("flow-power ") < out.index("flow-power-maf ")


def test_a_home_directory_after_an_equals_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shell leaves it as it is, and a student would be in a directory whose name is a tilde."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert call("distill", "--teacher=~/mine") == 1
    assert f"{tmp_path / 'mine'} is not a directory" in capsys.readouterr().err
    assert call("report", "~none") == 1
    assert "~none" in capsys.readouterr().err
