"""Every random site as ``value = g(parameters, noise)``, the noise having a law without parameters ([U] 3.1).

A law finds its rule in :mod:`~limbeck.core.reparam.dispatch`; how gradients pass through discrete latents is in
:mod:`~limbeck.core.reparam.discrete_gradient`.
"""

from limbeck.core.reparam.dispatch import is_discrete, law, noise_like, push, register, unregister
from limbeck.core.reparam.laws import Rule
from limbeck.core.reparam.noise import Law, convert, temper

__all__ = [
    "Law",
    "Rule",
    "convert",
    "is_discrete",
    "law",
    "noise_like",
    "push",
    "register",
    "temper",
    "unregister",
]
