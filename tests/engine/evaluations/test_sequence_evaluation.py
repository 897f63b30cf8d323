"""The measures of sequence models on a set small enough to enumerate."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical

from limbeck.core.graph import DGM
from limbeck.core.sites import Sites
from limbeck.data import Digits, SequenceDataset, SequenceSplit
from limbeck.engine import SequenceEvaluation, Subject
from limbeck.engine.evaluations.sequence_evaluation import SequenceJudge
from limbeck.engine.stages.progress import Progress
from limbeck.errors import ModelError, RecipeError
from limbeck.models import Autoregressive

X = torch.eye(2)
ANSWERS = [[(1, 0), (2, 1)], [(2, 2)]]  # two right sequences for the first input, one (given twice) for the second


def dataset() -> SequenceDataset:
    inputs = X[[0, 1, 0, 1]]
    tokens = torch.tensor([(1, 0), (2, 2), (2, 1), (2, 2)])
    part = SequenceSplit(inputs, tokens)
    return SequenceDataset("words", part, part, part, symbols=("", "a", "b"))


def built(seed: int, width: int = 6) -> Autoregressive:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Autoregressive(length=2, tokens=3, inputs=2, width=width)
        for parameter in model.parameters():
            parameter.data *= 2.0
    return model.eval()


def table(model: Autoregressive, row: int) -> dict[tuple[int, ...], float]:
    """Probability of every sequence given an input."""
    every = list(itertools.product(range(3), repeat=2))
    with torch.no_grad():
        y, x = torch.tensor(every), X[[row]].expand(9, 2)
        log_p: Tensor = torch.log_softmax(model.logits(y, x), -1).gather(2, y[:, :, None]).sum((1, 2))
    return dict(zip(every, log_p.double().exp().tolist(), strict=True))


def judged(teacher: Autoregressive, **settings: int) -> SequenceJudge:
    judge = SequenceEvaluation(**settings).judge(dataset(), teacher, Path(), 0, Progress())
    assert isinstance(judge, SequenceJudge)
    return judge


def test_measures_against_enumeration() -> None:
    teacher, student = built(0), built(1)
    draws = 4000
    values = judged(teacher, beam_size=9, samples=draws).measure(Subject(student, Path(), True))
    p, q = [table(teacher, row) for row in (0, 1)], [table(student, row) for row in (0, 1)]

    divergence = sum(p[row][y] * math.log(p[row][y] / q[row][y]) for row in (0, 1) for y in p[row]) / 2
    assert divergence > 0.05
    assert values["kl_teacher"] == pytest.approx(divergence, rel=0.05)
    likelihood = -sum(math.log(q[row][y]) for row, y in ((0, (1, 0)), (1, (2, 2)), (0, (2, 1)), (1, (2, 2)))) / 4
    assert values["nll"] == pytest.approx(likelihood, rel=1e-5)
    modes = [max(q[row], key=q[row].__getitem__) for row in (0, 1)]
    assert values["right_beam"] == pytest.approx(50 * sum(modes[row] in ANSWERS[row] for row in (0, 1)))
    assert values["mode_probability"] == pytest.approx(sum(q[row][modes[row]] for row in (0, 1)) / 2, rel=1e-5)
    taught = [max(p[row], key=p[row].__getitem__) for row in (0, 1)]
    assert values["agreement"] == pytest.approx(50 * sum(modes[row] == taught[row] for row in (0, 1)))
    right = sum(q[row][y] for row in (0, 1) for y in ANSWERS[row]) / 2
    assert values["right_drawn"] == pytest.approx(100 * right, abs=100 * 4 * math.sqrt(0.25 / (2 * draws)))
    assert values["parameters_generative"] == sum(parameter.numel() for parameter in student.parameters())


def test_the_teacher_against_itself() -> None:
    teacher = built(0)
    values = judged(teacher).measure(Subject(teacher, Path(), True))
    assert values["kl_teacher"] == 0.0
    assert values["agreement"] == 100.0


def test_a_student_in_double_precision() -> None:
    teacher = built(0)
    values = judged(teacher).measure(Subject(built(0).double(), Path(), True))
    assert values["kl_teacher"] == pytest.approx(0.0, abs=1e-6)
    assert judged(built(0).double()).measure(Subject(teacher, Path(), True))["agreement"] == 100.0


def test_a_perfect_model_has_the_entropy_of_the_answers() -> None:
    ((label, entropy),) = judged(built(0)).references.items()
    assert next(m.label for m in SequenceEvaluation().measures(None) if m.key == "nll") in label  # stands under it
    assert entropy == pytest.approx(0.5 * math.log(2))  # one of two for half of the rows, certain for the others


def test_every_value_has_its_column() -> None:
    evaluation, teacher = SequenceEvaluation(), built(0)
    values = judged(teacher).measure(Subject(teacher, Path(), True))
    assert {*values, "train_seconds"} == {measure.key for measure in evaluation.measures(dataset())}


class Trap(DGM):
    """Greed finds (1, 0), which is right for one input; the most probable sequence is (2, 0), never right."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.tensor([0.0, 0.6, 0.4]).log()
        self.second = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.3, 0.2], [0.9, 0.1, 0.0]]).log()

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        first = sites.target("y[0]", Categorical(logits=self.first.expand(sites.batch_size, 3)))
        sites.target("y[1]", Categorical(logits=self.second[first]))


def test_greed_differs_from_a_beam() -> None:
    trap = Trap()
    values = SequenceEvaluation().judge(dataset(), trap, Path(), 0, Progress()).measure(Subject(trap, Path(), True))
    assert (values["right_greedy"], values["right_beam"]) == (50.0, 0.0)
    assert values["mode_probability"] == pytest.approx(0.36)


def test_the_dry_run_is_small() -> None:
    dry = SequenceEvaluation(samples=50).dry()
    assert (dry.beam_size, dry.samples, dry.inputs) == (2, 1, 20)
    judge = SequenceEvaluation(inputs=1).judge(dataset(), built(0), Path(), 0, Progress())
    assert len(judge.x) == 1
    assert len(judge.tokens) == 2


def test_refusals() -> None:
    with pytest.raises(RecipeError, match=r"needs sequences"):
        SequenceEvaluation().judge(Digits().load(), built(0), Path(), 0, Progress())
    with pytest.raises(RecipeError, match=r"evaluation\.samples must be at least 1, not 0"):
        SequenceEvaluation(samples=0)
    longer = Autoregressive(length=3, tokens=3, inputs=2)
    with pytest.raises(ModelError, match=r"3 targets, but the sequences 2 tokens"):
        judged(longer).measure(Subject(longer, Path(), True))
    with pytest.raises(ModelError, match=r"has 3 targets, but its teacher 2"):
        judged(built(0)).measure(Subject(longer, Path(), True))
