"""The methods of the papers as named objectives. Public name of :mod:`limbeck.core.methods`."""

from limbeck.core.methods import *  # noqa: F403
from limbeck.core.methods import __all__ as __all__
