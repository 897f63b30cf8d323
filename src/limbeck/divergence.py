"""Divergences between the laws of one site in two models. Public name of :mod:`limbeck.core.divergence`."""

from limbeck.core.divergence import *  # noqa: F403
from limbeck.core.divergence import __all__ as __all__
