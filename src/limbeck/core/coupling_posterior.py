r"""Distilling an inference program on what the teacher generates, without data.

With q the inference programs, the teacher's samples y and its posterior draws tie the encoders together:

.. math:: E_{y \sim p_T} KL(q_T(\epsilon | y) || q_S(\epsilon | y))
          = E_{y \sim p_T, \epsilon \sim q_T} \sum_i KL(q_T(\epsilon_i | \epsilon_{<i}, y) ||
          q_S(\epsilon_i | \epsilon_{<i}, y))

A student that never sees data so learns to encode, reconstruct and score. What is compared is a posterior over the
*noise*: a student that shares its teacher's noise need not have latents of the same scale or meaning, and a code that
the teacher's decoder understands would be misread by the student's. A Gaussian posterior N(m, s) of a latent whose
prior conditional is N(mu, sigma) is N((m - mu) / sigma, s / sigma) in noise.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from limbeck.core.coupling import Coupling, Preparable, Request, SharedNoise, frozen
from limbeck.core.graph import DGM
from limbeck.core.replay import KEEP, Replay, check_replay, generated
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_NOTHING, KEEP_VALUE, Keep, Kind, Trace
from limbeck.errors import MatchError

__all__ = ["Share", "WithPosterior"]

Share = Literal["noise", "values"]
"""What a student's code has in common with its teacher's."""

_SUFFIX = "|y"


@dataclass(frozen=True)
class WithPosterior:
    """Another coupling, and beside it both inference programs on what the teacher generated.

    The student's inference sees the teacher's code, so each of its conditionals is compared alone. The sites are of
    kind ``POSTERIOR`` and are called ``"z1|y"``, in both traces.

    Attributes:
        inner: how the generative programs are tied.
        inferred_from: what both models encode: ``"sample"``, draws from the teacher's law of y; or ``"mean"``, the
            means of its last conditionals, where the output noise is a tolerance that the data do not have.
        share: ``"noise"``: both posteriors are told, and compared, in units of each model's own prior conditional, as
            fits a student that shares noise. ``"values"``: as they are, as fits one that shares values. Latents that
            are not Gaussian, in prior and posterior, share their values in any case.
    """

    inner: Coupling = field(default_factory=SharedNoise)
    inferred_from: Replay = "sample"
    share: Share = "noise"

    def __post_init__(self) -> None:
        check_replay("inferred_from", self.inferred_from)
        if self.share not in ("noise", "values"):
            raise MatchError(f"share must be noise or values, not {self.share!r}")

    @property
    def runs_inference(self) -> bool:
        """Tells the engine that the student's inference program is trained."""
        return True

    def prepare(self, teacher: DGM, student: DGM, x: Tensor | None = None) -> None:
        """See :class:`~limbeck.core.coupling.Preparable`."""
        if isinstance(self.inner, Preparable):
            self.inner.prepare(teacher, student, x)

    def __call__(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """Run both, both ways; see :class:`~limbeck.core.coupling.Coupling`."""

        def keep(name: str, kind: Kind) -> int:
            return request.keep_teacher(name, kind) | (KEEP[self.inferred_from] if kind is Kind.TARGET else 0)

        def name_of(name: str) -> str:
            return _bare(request.rename(name + _SUFFIX, Kind.POSTERIOR))

        taught, learned = self.inner(teacher, student, dataclasses.replace(request, keep_teacher=keep))
        targets = generated(taught, self.inferred_from)
        y, x = teacher.join_targets(targets), request.x
        wanted = _of_posterior(request.keep_teacher, KEEP_VALUE | (KEEP_DISTRIBUTION if self.share == "noise" else 0))
        with frozen(teacher):
            code = teacher.trace_inference(y, x, keep=wanted, generator=request.generator)
            prior = _priors(teacher, x, {**code.values, **targets}, {}) if self.share == "noise" else None
        noise = {} if prior is None else _in_noise(code, prior)
        values = {name_of(name): value for name, value in code.values.items() if name not in noise}
        own_prior = None
        if noise:
            seen = {request.rename(name, Kind.TARGET): value for name, value in targets.items()}
            shared = {name_of(name): eps for name, eps in noise.items()}
            own_prior = _priors(student, x, {**values, **seen}, shared)
            values = own_prior.values
        merged = taught.beside(code, _SUFFIX)
        inferred = student.trace_inference(
            y,
            x,
            # An empty mapping, not None: a latent that the teacher does not infer must be an error, not a fresh draw.
            noise={},
            values=values,
            keep=_of_posterior(request.keep_student(merged)),
            generator=request.generator,
        )
        for trace, units, names in ((code, prior, noise), (inferred, own_prior, map(name_of, noise))):
            for name in names:
                if units is not None and name in trace:
                    trace[name].distribution = _relative(trace[name].distribution, units[name].distribution)
        return taught.beside(code, _SUFFIX), learned.beside(inferred, _SUFFIX)


def _priors(model: DGM, x: Tensor | None, values: dict[str, Tensor], noise: dict[str, Tensor]) -> Trace:
    """The latents' prior conditionals, and their values, along a code that is given by its values or its noise."""
    return model.trace(x=x, values=values, noise=noise, keep=_latents)


def _latents(name: str, kind: Kind) -> int:
    return KEEP_DISTRIBUTION | KEEP_VALUE if kind is Kind.LATENT else KEEP_NOTHING


def _in_noise(code: Trace, prior: Trace) -> dict[str, Tensor]:
    """The noise that a code is drawn with from the prior; of its Gaussian latents."""
    noise = {}
    for name, site in code.items():
        unit = _gaussian(prior[name].distribution)
        if unit is not None and _gaussian(site.distribution) is not None:
            assert site.value is not None
            noise[name] = (site.value - unit.loc) / unit.scale
    return noise


def _relative(law: Distribution | None, unit: Distribution | None) -> Normal:
    """A Gaussian in standard deviations from the mean of another."""
    own, other = _gaussian(law), _gaussian(unit)
    if own is None or other is None:
        raise MatchError("a latent is Gaussian in the teacher and not in the student; use share='values'")
    return Normal((own.loc - other.loc) / other.scale, own.scale / other.scale, validate_args=False)


def _gaussian(law: Distribution | None) -> Normal | None:
    while isinstance(law, Independent):
        law = law.base_dist
    return law if isinstance(law, Normal) else None


def _of_posterior(keep: Keep, also: int = 0) -> Keep:
    return lambda name, kind: also | keep(name + _SUFFIX, Kind.POSTERIOR)


def _bare(name: str) -> str:
    if not name.endswith(_SUFFIX):
        raise MatchError(f"a match of posteriors must give the student's site {_SUFFIX!r} at its end, not {name!r}")
    return name.removesuffix(_SUFFIX)
