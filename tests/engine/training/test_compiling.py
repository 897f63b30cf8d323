"""Compiled steps: the same losses, few compilations, trainings that continue, and what happens where it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from limbeck import methods
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Match, Objective
from limbeck.core.schedule import Ramp
from limbeck.engine.settings.options import Training
from limbeck.engine.stages.fingerprints import weights_fingerprint
from limbeck.engine.training import compiling
from limbeck.engine.training.fit import Fitted, fit
from limbeck.errors import CompilationError, MatchError, NonFiniteLossError
from limbeck.models import HelmholtzMachine, LadderVAE
from limbeck.models.wrapped.network_classifier import NetworkClassifier
from tests.listening import Interrupting, Recorder
from tests.tiny import LearnedScale, NotANumber, Tiny, built, call, rows, write_recipe

ROOT = Path(__file__).parents[3]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> CompileCounter:
    """Steps are compiled as always, but what comes out is run operation by operation; counts the programs."""
    counter = CompileCounter()
    monkeypatch.setattr(compiling, "BACKEND", counter)
    return counter


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    torch.compiler.reset()


def options(**changes: Any) -> Training:
    return Training(**{"steps": 30, "batch_size": 8, "learning_rate": 0.01, "log_every": 1, "compile": True} | changes)


def ladder(width: int) -> LadderVAE:
    return LadderVAE(image_size=8, image_channels=1, levels=2, width=width, latent_channels=2, warm_up=0.5)


def network(width: int) -> NetworkClassifier:
    return NetworkClassifier("ConvNet", settings={"widths": [width, width], "classes": 3, "channels": 1})


def ramp() -> Objective:
    return methods.surrogate(latent_weight=Ramp(0.0, 1.0, begin=0.2, finish=0.6))


def learned() -> Objective:
    return Objective([Match(divergence=LearnedScale())])


def labelled() -> Batch:
    return Batch(torch.arange(24) % 3, rows().y)


def helmholtz(hidden: int) -> HelmholtzMachine:
    return HelmholtzMachine(hidden=hidden)


PAIRS: dict[str, tuple[Callable[[int], DGM], Callable[[], Objective], Batch | None]] = {
    "helmholtz": (helmholtz, lambda: methods.surrogate(latent_weight=1.0), None),
    "warm-up of a ladder": (ladder, lambda: methods.joint(0.5), rows()),
    "ramp": (Tiny, ramp, None),
    "learned divergence": (Tiny, learned, None),
    "no teacher": (Tiny, methods.scratch, rows()),
}


def trained(name: str, student: DGM | None = None, **arguments: Any) -> tuple[DGM, Fitted]:
    kind, objective, data = PAIRS[name]
    student = built(kind, 1, **width_of(kind, 3)) if student is None else student
    arguments = {"options": options(), "data": data, "teacher": built(kind, **width_of(kind, 8)).eval()} | arguments
    return student, fit(student, objective(), arguments.pop("options"), **arguments)


def width_of(kind: Callable[..., DGM], width: int) -> dict[str, int]:
    return {"hidden" if kind is helmholtz else "width": width}


def totals(found: Fitted) -> list[float]:
    return [row["total"] for row in found.history.rows]


class TestLosses:
    @pytest.mark.parametrize("name", PAIRS)
    def test_are_those_without(self, name: str, programs: CompileCounter) -> None:
        _, plain = trained(name, options=options(compile=False))
        assert programs.frame_count == 0
        told = Recorder()
        _, compiled = trained(name, progress=told)
        assert totals(compiled) == pytest.approx(totals(plain), rel=1e-5)
        assert [text for text in told.messages if "compil" in text] == [
            "training: compiling the step; until that is done, nothing moves"
        ]
        # The progress is another in each of 30 steps; a ramp has three sides, to be compiled on their own.
        assert programs.frame_count == (3 if name == "ramp" else 1)

    def test_more_trainings_than_torch_compiles_one_function(self, programs: CompileCounter) -> None:
        with torch._dynamo.config.patch(recompile_limit=3):
            for _ in range(4):
                trained("no teacher", options=options(steps=2))
        assert programs.frame_count == 4

    def test_validation_and_a_moving_average(self, programs: CompileCounter) -> None:
        found = [
            trained("no teacher", validation=rows(8), options=options(compile=wanted, validate_every=7, ema=0.9))[1]
            for wanted in (False, True)
        ]
        assert found[1].validation == pytest.approx(found[0].validation, rel=1e-5)
        assert found[1].best_step == found[0].best_step
        assert programs.frame_count == 1


class TestContinuing:
    def test_bit_for_bit(self, tmp_path: Path, programs: CompileCounter) -> None:
        self.check("ramp", tmp_path)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["helmholtz", "warm-up of a ladder"])
    def test_with_the_real_compiler(self, name: str, tmp_path: Path) -> None:
        whole = self.check(name, tmp_path)
        if name == "helmholtz":  # of the ladder's noise some is left out, so the rest comes from elsewhere
            _, plain = trained(name, options=options(compile=False))
            assert totals(whole) == pytest.approx(totals(plain), rel=1e-4)

    def check(self, name: str, directory: Path) -> Fitted:
        settings = options(checkpoint_every=2)
        expected, whole = trained(name, options=settings)
        with pytest.raises(InterruptedError):
            trained(name, options=settings, directory=directory, progress=Interrupting(17))
        torch.compiler.reset()  # another process knows nothing of the first
        student, found = trained(name, options=settings, directory=directory)
        assert found.resumed_at == 16
        assert weights_fingerprint(student) == weights_fingerprint(expected)
        return whole


class Deciding(Tiny):
    """What it does depends on what it draws: no one program says it."""

    def likelihood(self, z: Tensor) -> torch.distributions.Normal:
        return super().likelihood(z if float(z.detach().mean()) > 0 else 2.0 * z)


class TestWhereItCannotBe:
    def test_decisions_by_values_run_uncompiled_and_say_so_once(self, programs: CompileCounter) -> None:
        told = Recorder()
        found = [
            trained("no teacher", built(Deciding), options=options(compile=wanted), progress=told)[1]
            for wanted in (False, True)
        ]
        assert totals(found[1]) == totals(found[0])
        assert len([text for text in told.messages if "training: the step runs uncompiled" in text]) == 1
        assert programs.frame_count == 0

    def test_hooks_of_a_wrapped_network(self, programs: CompileCounter) -> None:
        found = []
        for wanted in (False, True):
            student, teacher = built(network, 1, width=3), built(network, width=6).eval()
            objective = methods.transfer(["h[*]:vid", "y:kd"])
            found.append(fit(student, objective, options(compile=wanted, steps=4), teacher=teacher, data=labelled()))
        assert totals(found[1]) == totals(found[0])
        assert found[1].history.columns == found[0].history.columns

    def test_mistakes_are_told_as_they_are(self, programs: CompileCounter) -> None:
        with pytest.raises(MatchError, match="nothing"):
            fit(built(), Objective([Match("nothing")]), options(), teacher=built(width=8))

    def test_numbers_that_are_none(self, programs: CompileCounter) -> None:
        with pytest.raises(NonFiniteLossError, match=r"The teacher's site 'y' has 512 of 512 non-finite values"):
            trained("ramp", teacher=built(NotANumber, width=8))

    def test_no_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compiling, "BACKEND", failing)
        with pytest.raises(CompilationError, match=r"training\.compile: .*OSError: no compiler here.*g\+\+") as caught:
            trained("no teacher")
        assert "\n" not in str(caught.value)

    def test_no_compiler_is_told_before_a_teacher_is_trained(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(compiling, "BACKEND", failing)
        write_recipe(tmp_path)
        assert call("run", "spots.yaml", "--training.compile=true") == 1
        message = capsys.readouterr().err
        assert "limbeck: error: training.compile: torch could not compile" in message
        assert "Traceback" not in message
        assert not list(tmp_path.rglob("*.safetensors"))

    @pytest.mark.slow
    def test_a_machine_without_one(self, tmp_path: Path) -> None:
        write_recipe(tmp_path)
        found = subprocess.run(
            [sys.executable, "-m", "limbeck", "run", "spots.yaml", "--training.compile=true"],
            cwd=tmp_path, capture_output=True, text=True, timeout=120,
            env=os.environ | {"PYTHONPATH": str(ROOT), "CXX": "/no/such/compiler", "CUDA_VISIBLE_DEVICES": "",
                              "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        )  # fmt: skip
        assert found.returncode == 1
        assert "limbeck: error: training.compile: torch could not compile the step (InvalidCxxCompiler" in found.stderr
        assert "Traceback" not in found.stderr


def failing(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
    raise OSError("no compiler here\nand more about it")


def test_a_recipe_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: CompileCounter) -> None:
    """The key of the recipe, of the teacher's training and of the command line."""
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path, teacher_training={"steps": 3, "batch_size": 8, "compile": True})
    assert call("run", "spots.yaml", "--training.compile=true", "--training.steps=3") == 0
    assert programs.frame_count == 1 + 3  # the check beforehand, then teacher, student and scratch
