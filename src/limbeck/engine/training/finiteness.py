"""What became NaN or infinite in a training, and where: the errors that stop it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import NoReturn

import torch
from torch import Tensor, nn

from limbeck.core.delta import Delta
from limbeck.core.graph import DGM
from limbeck.core.trace import KEEP_DISTRIBUTION, keep_fields
from limbeck.errors import NonFiniteLossError

__all__ = ["check_weights", "explained", "first_bad_rows", "first_bad_site", "first_bad_weight", "stop_at_loss"]


def check_weights(module: nn.Module, step: int) -> None:
    """Stop when the weights are not worth keeping: a finite loss can have a gradient that is not finite.

    Args:
        module: everything that is trained.
        step: number of the step, for the message.

    Raises:
        NonFiniteLossError: names the step and the first weight that is not finite.
    """
    found = first_bad_weight(module)
    if found:
        _stop(f"the weights became non-finite at step {step}:{found}")


def stop_at_loss(terms: Mapping[str, float | Tensor], step: int, found: str) -> NoReturn:
    """Stop because the loss is not finite.

    Args:
        terms: the terms of the loss, by name.
        step: number of the step.
        found: what is not finite, as :func:`first_bad_weight` or :func:`first_bad_site` say it.

    Raises:
        NonFiniteLossError: always; names all of these.
    """
    plain = {name: term.item() if isinstance(term, Tensor) else term for name, term in terms.items()}
    values = ", ".join(f"{name} = {value:.4g}" for name, value in plain.items())
    _stop(f"the loss became non-finite at step {step}: {values}.{found}")


@contextlib.contextmanager
def explained(module: nn.Module, step: int, where: str = "") -> Iterator[None]:
    """Turn what a distribution says of impossible parameters into an error that says when and why.

    Distributions that check their parameters notice NaN before the loss does.

    Args:
        module: everything that is trained.
        step: number of the step.
        where: what the step runs on, such as ``"on validation rows"``, if it is no training step.

    Raises:
        NonFiniteLossError: names the step, and the weight or the parameter of a distribution.
    """
    try:
        yield
    except ValueError as error:
        check_weights(module, step)
        found = re.match(r"Expected parameter (\w+) .* of distribution (\w+)", str(error))
        if found:
            at = f"at step {step}{where and f' {where}'}"
            _stop(f"the {found[1]} of a {found[2]} became non-finite or left its range {at}.")
        raise


@torch.no_grad()
def first_bad_weight(module: nn.Module) -> str:
    """A sentence on the first weight that is not finite, those of learned divergences included; empty if all are."""
    for name, parameter in module.named_parameters():
        bad = int((~torch.isfinite(parameter)).sum())
        if bad:
            return f" The weight {name} has {bad} non-finite values of {parameter.numel()}."
    return ""


def first_bad_rows(parts: Mapping[str, Tensor | None]) -> str:
    """A sentence on the first part of a batch that is not finite; empty if all of it is.

    Args:
        parts: name to rows, shape (batch, ...).
    """
    for name, rows in parts.items():
        bad = 0 if rows is None else int((~torch.isfinite(rows)).reshape(len(rows), -1).any(1).sum())
        if bad and rows is not None:
            return f" The data have NaN or infinite values in {bad} of the {len(rows)} rows of {name} of this step."
    return ""


@torch.no_grad()
def first_bad_site(models: Mapping[str, DGM], batch_size: int | None, x: Tensor | None) -> str:
    """A sentence on the first site whose law has a parameter that is not finite, found by running the models.

    Args:
        models: what to call each model in the message, and the model, in the order of the search.
        batch_size: number of rows, if ``x`` does not tell it.
        x: conditioning input, shape (batch, ...), if the models have one.
    """
    for who, model in models.items():
        try:
            trace = model.trace(batch_size, x, keep=keep_fields(KEEP_DISTRIBUTION))
        except ValueError as error:
            return f" The {who}: {str(error).splitlines()[0]}."
        for name, site in trace.items():
            law = site.distribution
            for key in ("value",) if isinstance(law, Delta) else getattr(law, "arg_constraints", {}):
                value = getattr(law, key, None)
                if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
                    bad = int((~torch.isfinite(value)).sum())
                    return f" The {who}'s site {name!r} has {bad} of {value.numel()} non-finite values in its {key}."
    return " The weights are still finite."


def _stop(text: str) -> NoReturn:
    raise NonFiniteLossError(
        f"{text} A checkpoint from before it, if there is one, is kept. Lower the learning rate, set gradient_clip, or "
        "check the data for extreme values."
    )
