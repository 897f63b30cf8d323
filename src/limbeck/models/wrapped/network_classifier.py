"""Any network as a directed model: chosen activations are deterministic sites, the class a target ([V] Sec. 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from typing_extensions import override

from limbeck.core.first_parameter import first_parameter
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.sites import Sites
from limbeck.errors import ModelError
from limbeck.models.inputs import check_numbers, class_loss
from limbeck.models.wrapped.building import build
from limbeck.models.wrapped.module_paths import check_path, penultimate_path
from limbeck.models.wrapped.taps import PENULTIMATE, Taps

__all__ = ["NetworkClassifier"]

Features = Sequence[str] | Mapping[str, str]

_AUTO = "auto"
_RESERVED = {PENULTIMATE, "logits", "y"}


class NetworkClassifier(DGM):
    """A classifier that is any ``nn.Module``, unchanged, with some of its activations as sites.

    [V] Sec. 2 pairs layers of two networks. Here every feature is a deterministic site, the output of a module of the
    network; ``penultimate`` is what its last linear layer reads, ``logits`` what the network returns, and the target
    ``y`` the class, Categorical. So every method and divergence of the library works on it, and a feature that is given
    (:meth:`limbeck.DGM.trace` with ``values``) takes the place of the module's own output.

    Nothing is left on the network between runs, and it may be compiled (``network.compile()``, ``torch.compile``). A
    module whose output is a feature must run once a forward pass, return one tensor, and have it left alone: an
    in-place operation after it, such as ``nn.ReLU(inplace=True)``, would change what was looked at. Each is told as an
    error that names the module.

    Args:
        network: how it is built: the name of one in :mod:`limbeck.models.networks`, or ``"package.module:name"`` of a
            class or an annotated function of your own that is imported already.
        settings: the arguments that it is built with.
        features: module paths whose outputs are sites, under their own names; or site names to module paths. By default
            the network's own ``feature_paths``, as ``h[0]``, ``h[1]``, ...
        penultimate: path of the linear layer whose input is the site ``penultimate``; ``"auto"`` for the last linear
            layer there is, if it runs once in a forward pass; ``None`` for no such site.
        normalize: whether inputs are standardised by the mean and deviation of each channel of the training data, which
            are kept with the weights.

    Raises:
        ModelError: there is no such network, it has no such module, or a feature has the name of another site.

    Example:
        >>> model = NetworkClassifier("MLP", {"hidden": 8, "image_size": 4, "channels": 1}, features=["layers.1.relu"])
        >>> model.eval().trace(x=torch.zeros(2, 1, 4, 4))
        Trace(layers.1.relu: deterministic, penultimate: deterministic, logits: deterministic, y: target)
    """

    mean: Tensor
    deviation: Tensor
    adapted: Tensor

    def __init__(
        self,
        network: str,
        settings: dict[str, Any] | None = None,
        features: list[str] | dict[str, str] | None = None,
        penultimate: str | None = _AUTO,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self._hold(build(network, settings or {}), features, penultimate, normalize)

    @classmethod
    def wrap(
        cls,
        module: nn.Module,
        features: Features | None = None,
        penultimate: str | None = _AUTO,
        normalize: bool = False,
        *,
        network: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Self:
        """A network that is built already; it is shared, not copied.

        Args:
            module: takes x and returns logits, shape (batch, classes).
            features: as for the class.
            penultimate: as for the class.
            normalize: as for the class.
            network: how it was built, as for the class; without, the model cannot be saved by :meth:`save_pretrained`,
                only its network by your own means.
            settings: the arguments that it was built with.

        Raises:
            ModelError: it has no such module.
        """
        kept = dict(features) if isinstance(features, Mapping) else None if features is None else list(features)
        told: Any = module if network is None else network
        model = cls.__new__(cls, told, settings, kept, penultimate, normalize)
        DGM.__init__(model)
        model._hold(module, features, penultimate, normalize)
        return model

    def _hold(self, module: nn.Module, features: Features | None, penultimate: str | None, normalize: bool) -> None:
        self.network = module
        self.normalize = normalize
        if features is None:
            features = {f"h[{i}]": path for i, path in enumerate(getattr(module, "feature_paths", ()))}
        paths = dict(features) if isinstance(features, Mapping) else {path: path for path in features}
        taken = sorted(_RESERVED & paths.keys())
        if taken:
            raise ModelError(
                f"a feature cannot be called {taken[0]!r}, which every NetworkClassifier has; name it otherwise: "
                f"features={{'h': {paths[taken[0]]!r}}}"
            )
        for path in paths.values():
            check_path(module, path)
        self.features = paths
        self._guessed = penultimate == _AUTO
        self.penultimate = penultimate_path(module) if self._guessed else penultimate
        if self.penultimate is not None and not self._guessed:  # a guess may be the network itself
            check_path(module, self.penultimate)
        if normalize:
            self.register_buffer("mean", torch.zeros(()))
            self.register_buffer("deviation", torch.ones(()))
            self.register_buffer("adapted", torch.tensor(False))
            self.register_load_state_dict_pre_hook(_shape_as_saved)  # type: ignore[no-untyped-call]

    @override
    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        """Declare features, ``penultimate``, ``logits`` and the class of ``x``, shape (batch, ...)."""
        with Taps(sites, self.network, self.features, self.penultimate, self._guessed) as taps:
            output = self._logits(x)
        taps.check()
        logits = sites.deterministic("logits", output)
        sites.target("y", Categorical(logits=logits, validate_args=False))

    @override
    def loss(self, batch: Batch, *, progress: float = 1.0) -> Loss:
        """Cross-entropy of the labels, in nats.

        Args:
            batch: ``x`` of shape (batch, ...), ``y`` the classes, int64 of shape (batch,).
            progress: not used.

        Returns:
            The single term ``y``.
        """
        return Loss.of({"y": class_loss(self, self._logits(batch.x), batch.y)})

    @override
    def adapt(self, batch: Batch) -> None:
        """Set the constants of the standardisation from rows of data; a constant channel is only centred."""
        if not self.normalize or bool(self.adapted) or batch.x is None:
            return
        deviation, mean = torch.std_mean(batch.x.transpose(0, 1).flatten(1), 1, correction=0)
        self.mean, self.deviation = mean, torch.where(deviation > 0, deviation, 1.0)
        self.adapted.fill_(True)

    @override
    def save_pretrained(self, directory: str | Path) -> None:
        """See :class:`~limbeck.DGM`; for a network that was built outside, :meth:`wrap` must be told how."""
        if not isinstance(self.config["network"], str):
            raise ModelError(
                f"this {type(self.network).__name__} was built outside, so how is not known; say it with "
                "wrap(..., network='package.module:name', settings={...}), or keep the network's own state_dict"
            )
        super().save_pretrained(directory)

    def standardize(self, mean: Sequence[float], deviation: Sequence[float]) -> Self:
        """Set the constants of the standardisation, as a network that was trained elsewhere expects its inputs.

        Args:
            mean: of each channel.
            deviation: of each channel.

        Returns:
            The model itself.

        Raises:
            ModelError: it was not built with ``normalize``, or the numbers do not fit each other.
        """
        if not self.normalize:
            raise ModelError(
                "constants of a standardisation are given, but the model has none; build it with normalize"
            )
        if not len(mean) == len(deviation) > 0 or not min(deviation) > 0.0:
            raise ModelError(f"a mean and a positive deviation of each channel are needed, not {mean} and {deviation}")
        like = first_parameter(self)
        self.mean, self.deviation = (like.new_tensor(values) for values in (mean, deviation))
        self.adapted.fill_(True)
        return self

    @override
    def start_from(self, source: DGM) -> None:
        """Take over a network's weights; all of them, or all but those of the last layer if its classes are others.

        So a network that was trained for one task is the start of one for another: fine-tuning.

        Args:
            source: a model with a network of the same architecture.

        Raises:
            ModelError: other weights do not fit either.
        """
        found = source.state_dict() if isinstance(source, NetworkClassifier) else {}
        own = self.state_dict()
        head = {f"network.{self.penultimate}.{name}".replace("..", ".") for name in ("weight", "bias")}
        unlike = {name for name in own.keys() & found.keys() if own[name].shape != found[name].shape}
        unlike -= {"mean", "deviation"}  # their sizes are set by data
        if own.keys() != found.keys() or not unlike <= head:
            raise ModelError(
                f"{type(self.network).__name__} cannot start from the weights of "
                f"{type(getattr(source, 'network', source)).__name__}: only the last layer may differ; give both one "
                "architecture, or start: random"
            )
        self.load_state_dict({name: tensor for name, tensor in found.items() if name not in unlike}, strict=False)

    @property
    @override
    def taps(self) -> frozenset[str]:
        """See :class:`~limbeck.DGM`: the modules whose outputs are features."""
        return frozenset(f"network.{path}" for path in self.features.values())

    @override
    def split_targets(self, y: Tensor, x: Tensor | None = None) -> dict[str, Tensor]:
        """The class is the only target; see :class:`~limbeck.DGM`."""
        return {"y": y}

    def _logits(self, x: Tensor | None) -> Tensor:
        if x is None:
            raise ModelError("a NetworkClassifier needs something to classify; give x, or condition in a recipe")
        if x.dtype == torch.uint8:  # other integers can be what a network looks up in a table
            check_numbers(self, "x", x)
        if self.normalize:
            mean, deviation = (of.reshape(-1, *[1] * (x.ndim - 2)) for of in (self.mean, self.deviation))
            x = (x - mean) / deviation
        output = self.network(x)
        output = getattr(output, "logits", output)
        if not isinstance(output, Tensor) or output.ndim != 2:
            got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
            raise ModelError(
                f"{type(self.network).__name__} must return logits of shape (batch, classes), not {got}; wrap it in a "
                "module that does"
            )
        # Under autocast they come in half precision, in which the sum of a softmax is no probability.
        return output.to(torch.promote_types(output.dtype, torch.float32))


def _shape_as_saved(model: Any, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """How many channels there are is known only when a model has seen data."""
    for name in ("mean", "deviation"):
        if prefix + name in state:
            setattr(model, name, getattr(model, name).new_empty(state[prefix + name].shape))
