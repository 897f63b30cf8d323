r"""Distilling an inference program on what the teacher generates, without data.

With q the inference programs, the teacher's samples y and its posterior draws tie the encoders together:

.. math:: E_{y \sim p_T} KL(q_T(\epsilon | y) || q_S(\epsilon | y))
          = E_{y \sim p_T, \epsilon \sim q_T} \sum_i KL(q_T(\epsilon_i | \epsilon_{<i}, y) ||
          q_S(\epsilon_i | \epsilon_{<i}, y))

and, on the same codes, the reconstructions: :math:`KL(p_T(y' | \epsilon) || p_S(y' | \epsilon))`. So a student that
never sees data learns to encode, to reconstruct and to compute bounds. The posteriors are compared in units of the
*noise*: a student that shares its teacher's noise need not have latents of the same scale or meaning, so its decoder
could not use a code in the teacher's latents. A Gaussian posterior N(m, s) of a latent whose prior conditional is
N(mu, sigma) is N((m - mu) / sigma, s / sigma) in noise, provided that mu and sigma are known: the equation holds where
an inference program draws each latent after those that its prior depends on. Drawn from the bottom up, the sum over
conditionals is no longer this KL, though 0 only where they agree; in units of the latents' values the order does not
matter.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor
from torch.distributions import Distribution, Normal

from limbeck.choices import check_choice
from limbeck.core.coupling.coupling import Coupling, Request, needs_data, prepare_coupling
from limbeck.core.coupling.replay import KEEP, Replay, generated
from limbeck.core.coupling.shared import SharedNoise
from limbeck.core.frozen import frozen
from limbeck.core.graph import DGM
from limbeck.core.reparam.base_law import base_law
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_VALUE, Keep, Kind, Trace, keep_fields
from limbeck.errors import MatchError

__all__ = ["Share", "WithPosterior"]

Share = Literal["noise", "values"]
"""What the codes of student and teacher have in common."""

_SUFFIX = "|y"
_REBUILT = Kind.RECONSTRUCTION
_NOTHING = Trace({}, 0)
_CODE_AND_TARGETS = keep_fields(KEEP_DISTRIBUTION | KEEP_VALUE, Kind.LATENT, Kind.TARGET)


@dataclass(frozen=True)
class WithPosterior:
    """Another coupling, and in addition both inference programs on what the teacher generated.

    The student's inference program is given the teacher's code, so that each of its conditionals is compared by itself.
    The sites are of kind ``POSTERIOR`` and are called ``"z1|y"``, in both traces. The outputs that both models decode
    from the code can be compared too, since codes of observations are not typical of the prior on which the decoders
    are coupled: these sites are of kind ``RECONSTRUCTION`` and are called ``"y|y"``.

    Attributes:
        inner: couples the generative programs.
        inferred_from: what both models encode: ``"sample"``, draws from the teacher's law of y; or ``"mean"``, the
            means of its last conditionals, where the output noise is a tolerance that the data do not have.
        share: ``"noise"``: codes are shared, and posteriors compared, in units of each model's own prior conditional,
            which fits a student that shares noise. ``"values"``: as they are, which fits one that shares values.
            Latents that are not Gaussian, in prior and posterior, share their values in any case.
    """

    inner: Coupling = field(default_factory=SharedNoise)
    inferred_from: Replay = "sample"
    share: Share = "noise"

    def __post_init__(self) -> None:
        check_choice(MatchError, "inferred_from", self.inferred_from, Replay)
        check_choice(MatchError, "share", self.share, Share)

    @property
    def runs_inference(self) -> bool:
        """See :class:`~limbeck.core.coupling.Observing`."""
        return True

    @property
    def needs_data(self) -> bool:
        """See :class:`~limbeck.core.coupling.Observing`."""
        return needs_data(self.inner)

    def prepare(self, teacher: DGM, student: DGM, x: Tensor | None = None) -> None:
        """See :class:`~limbeck.core.coupling.Preparable`."""
        prepare_coupling(self.inner, teacher, student, x)

    def __call__(self, teacher: DGM, student: DGM, request: Request) -> tuple[Trace, Trace]:
        """Run both, both ways; see :class:`~limbeck.core.coupling.Coupling`."""

        def keep(name: str, kind: Kind) -> int:
            return request.keep_teacher(name, kind) | (KEEP[self.inferred_from] if kind is Kind.TARGET else 0)

        def name_of(name: str) -> str:
            return _bare(request.rename(name + _SUFFIX, Kind.POSTERIOR))

        taught, learned = self.inner(teacher, student, dataclasses.replace(request, keep_teacher=keep))
        targets = generated(taught, self.inferred_from)
        y, x = teacher.join_targets(targets), request.x
        rebuilt = any(request.keep_teacher(name + _SUFFIX, _REBUILT) for name in targets)
        decodes = rebuilt or self.share == "noise"
        with frozen(teacher):
            code = teacher.trace_inference(y, x, generator=request.generator)
            decoded = _decoded(teacher, x, {**code.values, **targets}, {}) if decodes else _NOTHING
        noise = _in_noise(code, decoded) if self.share == "noise" else {}
        values = {name_of(name): value for name, value in code.values.items() if name not in noise}
        own = _NOTHING
        if decodes:
            seen = {request.rename(name, Kind.TARGET): value for name, value in targets.items()}
            own = _decoded(student, x, values | seen, {name_of(name): eps for name, eps in noise.items()})
            values = own.values
        # An empty mapping, not None: a latent that the teacher does not infer must be an error, not a fresh draw.
        inferred = student.trace_inference(y, x, noise={}, values=values, generator=request.generator)
        for trace, prior, names in ((code, decoded, noise), (inferred, own, map(name_of, noise))):
            for name in names:
                trace[name].distribution = _relative(trace[name].distribution, prior[name].distribution)
        taught = _beside(taught, code, decoded, request.keep_teacher)
        return taught, _beside(learned, inferred, own, request.keep_student(taught))


def _decoded(model: DGM, x: Tensor | None, values: dict[str, Tensor], noise: dict[str, Tensor]) -> Trace:
    """The generative program along a code that is given by its values or its noise."""
    return model.trace(x=x, values=values, noise=noise, keep=_CODE_AND_TARGETS)


def _beside(trace: Trace, code: Trace, decoded: Trace, keep: Keep) -> Trace:
    """A run, and beside it the sites of the code and of the targets decoded from it that are to be kept."""
    for kind, sites in ((Kind.POSTERIOR, code.of_kind(Kind.LATENT)), (_REBUILT, decoded.of_kind(Kind.TARGET))):
        wanted = {site.name: site for site in sites if keep(site.name + _SUFFIX, kind)}
        names = [site.name for site in sites]
        trace = trace.beside(Trace(wanted, trace.batch_size, names), _SUFFIX, kind)
    return trace


def _in_noise(code: Trace, prior: Trace) -> dict[str, Tensor]:
    """The noise with which the prior would draw a code; for its Gaussian latents."""
    noise = {}
    for name, site in code.items():
        unit = _gaussian(prior[name].distribution)
        if unit is not None and _gaussian(site.distribution) is not None:
            noise[name] = (site.kept_value() - unit.loc) / unit.scale
    return noise


def _relative(law: Distribution | None, unit: Distribution | None) -> Normal:
    """A Gaussian in standard deviations from the mean of another."""
    own, other = _gaussian(law), _gaussian(unit)
    if own is None or other is None:
        raise MatchError("a latent is Gaussian in the teacher and not in the student; use share='values'")
    return Normal((own.loc - other.loc) / other.scale, own.scale / other.scale, validate_args=False)


def _gaussian(law: Distribution | None) -> Normal | None:
    base = base_law(law)
    return base if isinstance(base, Normal) else None


def _bare(name: str) -> str:
    if not name.endswith(_SUFFIX):
        raise MatchError(f"a match of posteriors must give the student's site {_SUFFIX!r} at its end, not {name!r}")
    return name.removesuffix(_SUFFIX)
