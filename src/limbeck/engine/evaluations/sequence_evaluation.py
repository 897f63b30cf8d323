"""Measuring models of token sequences: divergence from the teacher, likelihood, right answers, size and speed."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from typing_extensions import override

from limbeck.core.coupling.beam import beam_search
from limbeck.core.divergence import kl
from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.core.trace import Kind, Trace
from limbeck.data import Dataset, SequenceDataset
from limbeck.engine.evaluations.evaluation import (
    PARAMETERS,
    TRAIN_SECONDS,
    Evaluation,
    Judge,
    Subject,
    parameter_counts,
    throughput_measure,
)
from limbeck.engine.settings.checks import check_whole
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.progress import Progress
from limbeck.engine.stages.seeding import derive_seed
from limbeck.errors import ModelError, RecipeError
from limbeck.metrics import Measure, throughput

__all__ = ["SequenceEvaluation"]


class SequenceEvaluation(Evaluation):
    """KL from the teacher over whole sequences, test NLL, and how often decoded sequences are right.

    For models of ``target: tokens`` given ``condition: inputs`` whose targets are the tokens, one categorical site
    each, and that have no latents. A decoded sequence is right if it is one of the test sequences of its input.

    Args:
        beam_size: of the beam search.
        samples: sequences drawn per input, for the divergence and for the share of right ones.
        inputs: test inputs to measure on; ``None`` for all.
    """

    def __init__(self, beam_size: int = 5, samples: int = 8, inputs: int | None = None) -> None:
        check_whole(1, "evaluation.", beam_size=beam_size, samples=samples)
        if inputs is not None:
            check_whole(1, "evaluation.", inputs=inputs)
        self.beam_size = beam_size
        self.samples = samples
        self.inputs = inputs

    @override
    def measures(self, dataset: Dataset | None) -> list[Measure]:
        return [
            Measure("kl_teacher", "KL from the teacher", "lower", 4, "nats per sequence"),
            Measure("nll", "test NLL", "lower", 4, "nats per sequence"),
            Measure("right_beam", f"right, beam of {self.beam_size}", "higher", 2, "%"),
            Measure("right_greedy", "right, greedy", "higher", 2, "%"),
            Measure("right_drawn", "right, drawn", "higher", 2, "%"),
            Measure("mode_probability", "probability of the decoded mode", "neither", 3),
            Measure("agreement", "same mode as the teacher", "higher", 2, "%"),
            PARAMETERS,
            throughput_measure("sequences"),
            TRAIN_SECONDS,
        ]

    @override
    def judge(self, dataset: Dataset | None, teacher: DGM, cache: Path, seed: int, progress: Progress) -> SequenceJudge:
        """See :class:`Evaluation`.

        Raises:
            RecipeError: the data are not sequences.
        """
        if not isinstance(dataset, SequenceDataset):
            raise RecipeError(
                "SequenceEvaluation needs sequences: give the recipe data of sequences, target: tokens and "
                "condition: inputs"
            )
        return SequenceJudge(self, dataset, teacher, seed)

    @override
    def dry(self) -> Self:
        return self._with(beam_size=min(2, self.beam_size), samples=1, inputs=min(20, self.inputs or 20))


class SequenceJudge(Judge):
    """See :class:`SequenceEvaluation`."""

    def __init__(self, settings: SequenceEvaluation, dataset: SequenceDataset, teacher: DGM, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.reference_key = model_key(teacher)
        inputs, tokens = dataset.test.inputs, dataset.test.tokens
        flat, self.owner = torch.unique(inputs.flatten(1), dim=0, return_inverse=True)
        flat = flat[: settings.inputs]
        kept = self.owner < len(flat)
        self.x = flat.view(-1, *inputs.shape[1:])
        self.owner, self.tokens, self.rows = self.owner[kept], tokens[kept], inputs[kept]
        self.answers: list[set[tuple[int, ...]]] = [set() for _ in flat]
        for owner, row in zip(self.owner.tolist(), self.tokens.tolist(), strict=True):
            self.answers[owner].add(tuple(row))
        self.drawn_x = self.x.repeat_interleave(settings.samples, dim=0)
        with torch.no_grad():
            self.teacher_trace = teacher.trace(x=_for(teacher, self.drawn_x), generator=self._generator("teacher"))
        self.teacher_mode = self._mode(teacher, settings.beam_size)[0]
        answers = sum(map(len, self.answers)) / len(self.answers)
        self.references = {"test NLL of a perfect model: entropy of the answers given the input": self._entropy()}
        self.notes = [
            f"Measured on {len(self.x):,} test inputs with {len(self.tokens):,} sequences, {answers:.1f} different "
            "ones per input; a decoded sequence is right if it is one of them, to the last symbol.",
            f"The KL of whole sequences is the sum over tokens of the KL of their conditionals on {settings.samples} "
            "sequences per input drawn by the teacher, the same for every model.",
        ]

    @override
    def measure(self, subject: Subject) -> dict[str, float]:
        model, settings = subject.model, self.settings
        mode, probability = self._mode(model, settings.beam_size)
        if mode.shape != self.teacher_mode.shape:
            raise ModelError(
                f"{type(model).__name__} has {mode.shape[1]} targets, but its teacher {self.teacher_mode.shape[1]}; "
                "sequences of both must have one length"
            )
        greedy, _ = self._mode(model, 1)
        with torch.no_grad():
            drawn = _tokens(model.trace(x=_for(model, self.drawn_x), generator=self._generator("samples")))
        owner = torch.arange(len(self.x)).repeat_interleave(settings.samples)
        given = _for(model, self.rows)
        return {
            "kl_teacher": self._divergence(model),
            "nll": self._nll(model),
            "right_beam": 100 * self._right(mode, torch.arange(len(mode))),
            "right_greedy": 100 * self._right(greedy, torch.arange(len(greedy))),
            "right_drawn": 100 * self._right(drawn, owner),
            "mode_probability": probability.mean().item(),
            "agreement": 100 * (mode == self.teacher_mode).all(1).double().mean().item(),
            **parameter_counts(model),
            "samples_per_second": throughput(lambda rows: model.sample(x=given[:rows]), min(100, len(given))),
        }

    @torch.no_grad()
    def _divergence(self, model: DGM) -> float:
        learned = model.trace(x=_for(model, self.drawn_x), values=self.teacher_trace.values)
        total = torch.zeros((), dtype=torch.float64)
        for name, site in self.teacher_trace.items():
            if site.kind is Kind.TARGET:
                total += kl(site.kept_distribution(), learned[name].kept_distribution()).double().mean()
        return float(total)

    @torch.no_grad()
    def _nll(self, model: DGM) -> float:
        names = [site.name for site in self.teacher_trace.of_kind(Kind.TARGET)]
        if len(names) != self.tokens.shape[1]:
            raise ModelError(f"the teacher has {len(names)} targets, but the sequences {self.tokens.shape[1]} tokens")
        trace = model.trace(x=_for(model, self.rows), values=dict(zip(names, self.tokens.unbind(1), strict=True)))
        mean: float = trace.log_prob(Kind.TARGET).double().mean().item()
        return -mean

    def _mode(self, model: DGM, size: int) -> tuple[Tensor, Tensor]:
        best, score = beam_search(model, size, x=_for(model, self.x))
        return torch.stack(list(best.values()), dim=1), score.exp()

    def _right(self, tokens: Tensor, owner: Tensor) -> float:
        found: list[bool] = [
            tuple(row) in self.answers[one] for row, one in zip(tokens.tolist(), owner.tolist(), strict=True)
        ]
        return sum(found) / len(found)

    def _entropy(self) -> float:
        """Mean over test rows of -log of the share that their sequence has among those of their input."""
        both, inverse, count = torch.unique(
            torch.cat([self.owner[:, None], self.tokens], dim=1), dim=0, return_inverse=True, return_counts=True
        )
        share: Tensor = count.double() / torch.bincount(self.owner)[both[:, 0]]
        return -share.log()[inverse].mean().item()

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, purpose))


def _for(model: DGM, x: Tensor) -> Tensor:
    """Inputs in a model's precision."""
    return x.to(first_parameter(model, x).dtype) if x.is_floating_point() else x


def _tokens(trace: Trace) -> Tensor:
    """Targets in the order of the program, shape (rows, length)."""
    return torch.stack(list(trace.targets.values()), dim=1)
