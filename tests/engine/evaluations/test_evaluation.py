"""What all evaluations have in common: settings that cannot be used are refused when they are made."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from limbeck.core.loss import Batch
from limbeck.data import Dataset, Digits, Domains, StrokeDataset, StrokeSplit
from limbeck.engine import (
    ChainEvaluation,
    ClassifierEvaluation,
    ContinualEvaluation,
    DensityEvaluation,
    DiffusionEvaluation,
    FlowImageEvaluation,
    FlowTableEvaluation,
    ImageEvaluation,
    SequenceEvaluation,
    StrokeEvaluation,
)
from limbeck.engine.evaluations.evaluation import PARAMETERS, TRAIN_SECONDS, Evaluation, throughput_measure
from limbeck.errors import RecipeError
from limbeck.metrics import RunResults
from tests.tiny import Quick, Tiny, built

KINDS: list[type[Evaluation]] = [
    ChainEvaluation, ClassifierEvaluation, ContinualEvaluation, DensityEvaluation, DiffusionEvaluation,
    FlowImageEvaluation, FlowTableEvaluation, ImageEvaluation, SequenceEvaluation, StrokeEvaluation,
]  # fmt: skip
OF_IMAGES = [ContinualEvaluation, DiffusionEvaluation, FlowImageEvaluation, ImageEvaluation]
COUNTS = [
    (kind, name)
    for kind in KINDS
    for name, known in inspect.signature(kind).parameters.items()
    if known.annotation in ("int", "int | None")
]


@pytest.mark.parametrize("value", [-1, 2.5])
@pytest.mark.parametrize(("kind", "name"), COUNTS)
def test_counts(kind: type[Evaluation], name: str, value: float) -> None:
    told = "at least" if value < 0 else "a whole number"
    with pytest.raises(RecipeError, match=rf"^evaluation\.{name} must be {told}.*not {value}$"):
        kind(**{name: value})


@pytest.mark.parametrize("kind", OF_IMAGES)
def test_extractor(kind: type[Evaluation], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"there is no file .*inceptoin\.pt; check the path"):
        kind(extractor=str(tmp_path / "inceptoin.pt"))  # type: ignore[call-arg]
    with pytest.raises(RecipeError, match=r"extractor_steps must be at least 1, not 0"):
        kind(extractor_steps=0)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", KINDS)
def test_dry(kind: type[Evaluation]) -> None:
    """A reduced evaluation is one that could have been asked for, and the whole one stays as it is."""
    whole = kind()
    dry = whole.dry()
    assert type(dry) is kind
    settings = {name: value for name, value in vars(dry).items() if name in inspect.signature(kind).parameters}
    assert vars(kind(**settings)).items() >= settings.items()
    assert vars(whole) == vars(kind())
    assert vars(dry) != vars(whole)


@pytest.fixture(scope="module")
def data() -> Mapping[type[Evaluation], Dataset]:
    """For the kinds that need data to say what they measure."""
    images = Domains(Digits(), [[0, 1], [2, 3]]).load()
    drawings = StrokeDataset("dots", *(StrokeSplit(torch.tensor([[[0.0, 0.0, 0.0, 1.0]]] * 2)) for _ in range(3)))
    return {**dict.fromkeys(OF_IMAGES, images), StrokeEvaluation: drawings}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_measures(kind: type[Evaluation], data: Mapping[type[Evaluation], Dataset], tmp_path: Path) -> None:
    """They are those that the keys tell, so that records with kinds and older ones, without them, are shown alike."""
    measures = kind().measures(data.get(kind))
    raw = json.loads(RunResults("recipe", "name", "", "", "", measures, []).to_json())
    for measure in raw["measures"]:
        del measure["kind"]
    (tmp_path / "metrics.json").write_text(json.dumps(raw))
    assert RunResults.from_file(tmp_path / "metrics.json").measures == measures


@pytest.mark.parametrize("kind", KINDS)
def test_shared_measures(kind: type[Evaluation], data: Mapping[type[Evaluation], Dataset]) -> None:
    """What several evaluations measure is printed alike."""
    found = {measure.key: measure for measure in kind().measures(data.get(kind))}
    assert found["train_seconds"] == TRAIN_SECONDS
    assert found.get("parameters_generative", PARAMETERS) == PARAMETERS
    speed = found.get("samples_per_second")
    if speed is not None:
        unit, _, note = speed.label.partition(" per second")
        assert speed == throughput_measure(unit, note)


def test_the_score_is_by_default_the_models_own_loss() -> None:
    model, rows = built(Tiny).train(), Batch(torch.rand(300, 1, 8, 8))
    expected = model.eval().loss(rows).total.item()
    model.train()
    assert Quick().score(model, rows) == pytest.approx(expected, rel=1e-5)
    assert model.training
    assert Quick().score(model.double(), rows) == pytest.approx(expected, rel=1e-5)
