"""Making a frozen teacher fast: batch norms folded into the layers before them, images stored channels last."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.distributions import Distribution
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from limbeck.core.copying import copied
from limbeck.core.graph import DGM
from limbeck.core.trace import Trace

__all__ = ["prepare"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

_Pair = tuple[str, str]
"""Names of a layer and of the batch norm that is all that reads its output."""


@torch.no_grad()
def prepare(teacher: DGM, x: Tensor | None = None) -> DGM:
    """A copy of a teacher that gives the same distributions in less time.

    In eval mode a batch norm is a fixed affine map, which is multiplied into the convolution or linear layer before it;
    convolutions of images run in the channels-last layout. Which norms can be folded is read off the symbolic traces of
    the submodules; one that cannot be traced is searched part by part. What was done is checked on a run of both models
    and undone where they differ. Without a run nothing is done that is not certain: a model that cannot run without a
    conditioning input is prepared fully only if ``x`` is given.

    Args:
        teacher: any model; it stays as it is.
        x: example of the conditioning input, shape (batch, ...), if the model has one.

    Returns:
        A model of the same class, with the same attributes and methods, in eval mode and without gradients. It is for
        running only: folded norms are gone, so it can be neither trained further nor saved in place of the teacher.
    """
    plain = _frozen_copy(teacher)
    expected = _run(plain, x, None)
    pairs = _pairs(teacher)
    modules = dict(plain.named_modules())
    if expected is None:
        # A linear layer's features are its last dimension, a norm's are dimension 1: only a run tells if they meet.
        pairs = [pair for pair in pairs if not isinstance(modules[pair[0]], nn.Linear)]
    prepared = _frozen_copy(plain)
    for pair in pairs:
        _fold(prepared, *pair)
        prepared.batch_norms_folded = True
    if expected is None:
        return prepared
    if not _agree(expected, _run(prepared, x, expected)):
        warnings.warn(
            f"{type(teacher).__name__}: folding batch norms changed what the model computes, so they were left alone; "
            "does some method use a convolution without the norm after it?",
            stacklevel=3,
        )
        prepared = _frozen_copy(plain)
    if any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in modules.values()):
        # Channels last, a model that calls `view` on an image fails; then the images stay as they were.
        layout = _frozen_copy(prepared).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if _agree(expected, _run(layout, x, expected)):
            prepared = layout
    return prepared


def _frozen_copy(model: DGM) -> DGM:
    return copied(model).eval().requires_grad_(False)


# ------------------------------------------------------------------------------------------------- what can be folded


def _pairs(model: DGM) -> list[_Pair]:
    """Every layer and batch norm that can be folded for any input."""
    # Tracing runs the model's code, which may change its attributes: a copy that is thrown away.
    scratch = _frozen_copy(model)
    modules = dict(scratch.named_modules())
    places = Counter(id(module) for _, module in scratch.named_modules(remove_duplicate=False))
    return [
        (layer, norm)
        for layer, norm in _search(scratch, "")
        if not any(_within(layer, tap) and not _within(norm, tap) for tap in model.taps)
        and _foldable(modules[layer], modules[norm])
        and places[id(modules[layer])] == places[id(modules[norm])] == 1
    ]


def _within(name: str, parent: str) -> bool:
    return f"{name}.".startswith(f"{parent}.")


def _search(parent: nn.Module, prefix: str) -> Iterator[_Pair]:
    for name, child in parent.named_children():
        if not any(isinstance(module, _NORMS) for module in child.modules()):
            continue
        found = _traced_pairs(child)
        if found is None:
            yield from _search(child, f"{prefix}{name}.")
        else:
            yield from ((f"{prefix}{name}.{layer}", f"{prefix}{name}.{norm}") for layer, norm in found)


def _traced_pairs(module: nn.Module) -> list[_Pair] | None:
    """Pairs in a module's forward pass, or ``None`` if it cannot be traced."""
    try:
        tracer = fx.Tracer()
        graphs = [tracer.trace(module)]
        # A proxy is never None: with an optional argument left out the code may take another path.
        defaults = {node.target: node.args[0] for node in graphs[0].nodes if node.op == "placeholder" and node.args}
        if defaults:
            graphs.append(tracer.trace(module, concrete_args=defaults))
    except Exception:  # a forward pass that is not made for proxies can fail in any way
        return None
    found = [_pairs_in(graph) for graph in graphs]
    return [pair for pair in found[0] if all(pair in others for others in found)]


def _pairs_in(graph: fx.Graph) -> list[_Pair]:
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    direct = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    pairs = []
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and len(node.args) == 1 else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        pair = str(before.target), str(node.target)
        if all(calls[name] == 1 and name not in direct for name in pair):
            pairs.append(pair)
    return pairs


def _foldable(layer: nn.Module, norm: nn.Module) -> bool:
    # Exact types: a subclass, or a parametrised layer, may compute something else.
    if type(norm) not in _NORMS or norm.running_mean is None or norm.running_var is None:
        return False
    if layer._forward_hooks or layer._forward_pre_hooks or norm._forward_hooks or norm._forward_pre_hooks:
        return False
    if type(layer) is nn.Linear:
        return type(norm) is nn.BatchNorm1d and layer.out_features == norm.num_features
    if getattr(layer, "transposed", False) and layer.groups != 1:
        return False  # torch has no fold for these
    return type(layer) in _CONVOLUTIONS and type(layer).__name__[-2:] == type(norm).__name__[-2:]


def _fold(model: nn.Module, layer_name: str, norm_name: str) -> None:
    layer: Any = model.get_submodule(layer_name)
    norm: Any = model.get_submodule(norm_name)
    statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    if isinstance(layer, nn.Linear):
        weight, bias = fuse_linear_bn_weights(layer.weight, layer.bias, *statistics)
    else:
        weight, bias = fuse_conv_bn_weights(layer.weight, layer.bias, *statistics, transpose=layer.transposed)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = nn.Parameter(bias, requires_grad=False)
    model.set_submodule(norm_name, nn.Identity())


# --------------------------------------------------------------------------------------------------------- the check


def _run(model: DGM, x: Tensor | None, like: list[Trace] | None) -> list[Trace] | None:
    """Run ``generate`` and, if it works, ``infer`` on two rows or those of ``x``, on the values of ``like`` if given.

    Returns:
        The traces, or ``None`` if the model cannot run on this input.
    """
    rows = 2 if x is None else None
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            traces = [model.trace(rows, x, values=like[0].values if like else None)]
            if type(model).infer is not DGM.infer and (like is None or len(like) == 2):
                with contextlib.suppress(Exception):
                    y = model.join_targets((like or traces)[0].targets)
                    traces.append(model.trace_inference(y, x, values=like[1].values if like else None))
    except Exception:  # the model is the user's: anything can go wrong in it
        return None
    return traces


def _agree(expected: list[Trace], found: list[Trace] | None) -> bool:
    """Whether two runs have the same laws, within a margin above rounding and far below what a wrong fold changes."""
    if found is None or len(found) != len(expected):
        return False
    for a, b in zip(expected, found, strict=True):
        if list(a) != list(b):
            return False
        for name, site in a.items():
            left, right = dict(_parameters(site.distribution)), dict(_parameters(b[name].distribution))
            # torch computes probs from logits, or the reverse, on first use: one run may have done it, the other not.
            for one, other in ((left[key], right[key]) for key in left.keys() & right.keys()):
                if one.shape != other.shape or not bool(((one - other).abs() <= 1e-3 * one.abs().amax()).all()):
                    return False
    return True


def _parameters(law: Distribution | None, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The floating-point tensors that a law is made of, by name."""
    for name, value in vars(law).items() if law is not None else ():
        if isinstance(value, Distribution):
            yield from _parameters(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor) and value.is_floating_point() and value.numel():
            yield f"{prefix}{name}", value
