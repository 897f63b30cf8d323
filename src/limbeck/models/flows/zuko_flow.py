"""Any flow of zuko as a graph of sites, with zuko's own numbers and weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor
from torch.distributions import Distribution
from typing_extensions import override

from limbeck.core.reparam.base_law import base_law
from limbeck.errors import ModelError
from limbeck.files import atomic_write_bytes
from limbeck.models.flows.bijection import Level, Standardize
from limbeck.models.flows.flow import Flow
from limbeck.models.flows.zuko_parts import (
    ZukoStep,
    check_places,
    constructor,
    constructor_settings,
    follow,
    grouped,
    turns,
)
from limbeck.models.sizes import check_at_least, check_positive

__all__ = ["ZukoFlow"]


class ZukoFlow(Flow):
    """A flow of the library zuko (Rozet et al.), unchanged; needs ``pip install 'limbeck[flows]'``.

    Each autoregressive, coupling or elementwise transform is a step; what zuko puts between them (soft clipping,
    rotations) belongs to the step before. The latents have the flow's own base law, and the columns of a flow without
    rotations or permutations stay in their places.

    The inverse is exact for MAF, NSF, NCSF, NICE and RealNVP; it is found by bisection for NAF, UNAF, SOSPF, BPF and GF
    (to about 1e-6, and within [-10, 10] before each step), and by an ODE solver for CNF (to its tolerances). That of an
    autoregressive step takes as many passes, one after the other, as it has columns, or ``passes`` if that is given.

    The scales of MAF, NICE and RealNVP are bounded by ``slope`` (1e-3) alone, and multiply over columns and steps: of a
    trained MAF's inverse a few rows in a thousand fly far beyond the data, and their gradients with them, by many
    powers of ten. A loss that passes gradients through it must leave those rows out, or compare latents of samples.

    Args:
        flow: name of a class of ``zuko.flows``.
        features: number of columns.
        standardize: whether columns are standardised first; likelihoods stay those of the data in their own units.
        context: columns of the conditioning input ``x``; 0 without one.
        transforms: number of steps; ``None`` leaves it to zuko, and so below.
        hidden_features: widths of the hidden layers of each step's network.
        **settings: the class's further arguments, such as ``passes=2`` or ``bins=16``; an ``activation`` by the name of
            its class in ``torch.nn``. In a recipe they stand under ``dict_kwargs``.

    Raises:
        ModelError: zuko is missing, has no such flow, or does not take these settings.

    Example:
        >>> import torch
        >>> maf = ZukoFlow("MAF", features=3, transforms=2, hidden_features=[8])
        >>> maf.trace_inference(torch.zeros(4, 3))
        Trace(h[0][1]: deterministic, u[0]: latent, log_prob: deterministic)
        >>> bool((maf.log_prob(torch.zeros(4, 3)) == maf.flow().log_prob(torch.zeros(4, 3))).all())
        True
    """

    flow: Any

    def __init__(
        self,
        flow: str = "MAF",
        features: int = 2,
        standardize: bool = False,
        context: int = 0,
        transforms: int | None = None,
        hidden_features: Sequence[int] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        check_positive(self, features=features, transforms=1 if transforms is None else transforms)
        check_at_least(self, 0, context=context)
        for width in hidden_features or ():
            check_positive(self, hidden_features=width)
        kind = constructor(flow)
        common = {"context": context or None, "transforms": transforms, "hidden_features": hidden_features}
        settings |= {name: value for name, value in common.items() if value is not None}
        try:
            built = kind(features=features, **constructor_settings(settings))
        except (TypeError, ValueError, AssertionError) as error:
            raise ModelError(f"zuko.flows.{flow} does not take these settings: {error}") from None
        self.context = context
        self._hold(built, features, standardize)

    @classmethod
    def wrap(cls, flow: Any, *, features: int | None = None, standardize: bool = False) -> Self:
        """A flow that is built already; it is shared, not copied. It can be saved with :meth:`save_zuko` only.

        Args:
            flow: an instance of ``zuko.flows.Flow``.
            features: number of columns; needed only if the base law depends on the conditioning input.
            standardize: as for the class.
        """
        if not (hasattr(flow, "transform") and hasattr(flow, "base")):
            raise ModelError(f"a {type(flow).__name__} is no flow of zuko's: it has no transform and base")
        model = cls.__new__(cls, flow)
        Flow.__init__(model)
        if features is None:
            try:
                features = flow.base(None).event_shape[0]
            except (TypeError, AttributeError, RuntimeError):
                raise ModelError(
                    f"the base law of this {type(flow).__name__} depends on the conditioning input, so it does not "
                    "tell the number of columns; give ZukoFlow.wrap(flow, features=NUMBER)"
                ) from None
        model._hold(flow, features, standardize)
        return model

    def _hold(self, flow: Any, features: int, standardize: bool) -> None:
        self.flow = flow
        self.standardize = Standardize(features) if standardize else None
        self.features = features
        # In a tuple, which does not register them a second time: state_dict() has zuko's own names under "flow.".
        self._steps = tuple(ZukoStep(group) for group in grouped(flow.transform))
        self._levels = (Level(list(self._steps), [self.standardize] if self.standardize is not None else []),)

    @property
    @override
    def levels(self) -> Sequence[Level]:
        return self._levels

    @property
    @override
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.features,),)

    @property
    @override
    def keeps_columns(self) -> bool:
        return not turns(self._steps)

    @override
    def latent_law(self, level: int, batch_size: int, like: Tensor, x: Tensor | None = None) -> Distribution:
        """The flow's base; see :class:`~limbeck.models.Flow`."""
        whole: Distribution = self.flow.base(x)
        base = base_law(whole)
        elementwise = not base.event_shape and base.batch_shape[-1:] == (self.features,)
        law: Distribution = base.expand((batch_size, self.features)) if elementwise else whole.expand((batch_size,))
        return law

    @override
    def log_prob(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        """See :class:`~limbeck.models.Flow`; without standardisation these are zuko's own numbers, to the bit."""
        if self.standardize is not None:
            return super().log_prob(y, x)
        self._check(y, x)
        density: Tensor = self.flow(x).log_prob(y)
        return density

    @override
    def inherit(self, teacher: Flow) -> None:
        """Take over permutations, rotations and random orders; see :func:`limbeck.models.flows.zuko_parts.follow`.

        Args:
            teacher: a flow of zuko's, or one that keeps its columns in their places.

        Raises:
            MatchError: the coordinates of the two differ and cannot be made the same, as those of a trained flow.
        """
        if isinstance(teacher, ZukoFlow):
            if self.adapted:
                check_places(self._steps, teacher._steps)
            follow(self._steps, teacher._steps)
        else:
            super().inherit(teacher)

    @override
    def save_pretrained(self, directory: str | Path) -> None:
        """See :class:`~limbeck.DGM`; a flow that was handed to :meth:`wrap` has no constructor to write down."""
        if not isinstance(self.config["flow"], str):
            raise ModelError(
                f"this {type(self.flow).__name__} was built outside, so how is not known; build it as "
                f"ZukoFlow({type(self.flow).__name__!r}, features={self.features}, ...), or keep its weights with "
                "save_zuko(path)"
            )
        super().save_pretrained(directory)

    def save_zuko(self, path: str | Path) -> None:
        """Write the weights under zuko's own names, for use without this library.

        They are what ``flow.load_state_dict(safetensors.torch.load_file(path))`` takes.

        Args:
            path: the file, usually ``*.safetensors``.

        Raises:
            ModelError: the flow standardises, which zuko's does not.
            StorageError: the file cannot be written.
        """
        if self.standardize is not None:
            raise ModelError(
                "this flow standardises its columns, which is not among zuko's weights; build it with "
                "standardize=False and train it on standardised data, or use save_pretrained"
            )
        tensors = {name: tensor.detach().clone().contiguous() for name, tensor in self.flow.state_dict().items()}
        atomic_write_bytes(Path(path), dump_tensors(tensors))

    @classmethod
    def from_weights(cls, path: str | Path, flow: str = "MAF", features: int = 2, **settings: Any) -> Self:
        """A flow with weights of zuko's, as ``safetensors.torch.save_file(flow.state_dict(), path)`` writes them.

        Args:
            path: the file.
            flow: as for the class.
            features: as for the class.
            **settings: as for the class: those that the flow was built with.

        Returns:
            The flow, in eval mode, in the dtype of the weights.

        Raises:
            ModelError: the file is missing or corrupt, or holds other weights than such a flow has.
        """
        path = Path(path)
        try:
            tensors = load_tensors(path.read_bytes())
        except FileNotFoundError:
            raise ModelError(f"{path} is missing; give a file of zuko's weights") from None
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is not a readable file of weights ({error}); save it again") from None
        model = cls(flow, features, **settings)
        own = model.flow.state_dict()
        _check_fit(path, flow, own, tensors)
        dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), None)
        model.to(dtype).flow.load_state_dict(tensors)
        return model.eval()


def _check_fit(path: Path, flow: str, own: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Refuse weights of another flow, in words that name the first difference."""
    missing, stray = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    shapes = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    if missing or stray:
        told = f"{missing[0]!r} is missing" if missing else f"{stray[0]!r} is not part of it"
        more = len(missing) + len(stray) - 1
        raise ModelError(
            f"{path} does not fit zuko.flows.{flow} with these settings: {told}"
            f"{f', and {more} more names differ' if more else ''}; give the number of transforms and hidden layers "
            "that the flow was built with"
        )
    if shapes:
        name = shapes[0]
        raise ModelError(
            f"{path} does not fit zuko.flows.{flow} with these settings: {name!r} has shape "
            f"{tuple(tensors[name].shape)} in the file and {tuple(own[name].shape)} in the flow; give the features, "
            "context and hidden_features that the flow was built with"
        )
