"""Noise laws and transforms of distributions. Public name of :mod:`limbeck.core.reparam`."""

from limbeck.core.reparam import *  # noqa: F403
from limbeck.core.reparam import __all__ as __all__
