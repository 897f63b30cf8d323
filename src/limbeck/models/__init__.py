"""Model families, one a file; each is a :class:`limbeck.DGM`."""

from limbeck.models.autoregressive import Autoregressive
from limbeck.models.chain import BinomialChain, Chain, GaussianChain, ResidualBinomialChain, ResidualGaussianChain
from limbeck.models.dcgan import DCGAN
from limbeck.models.helmholtz import HelmholtzMachine
from limbeck.models.ladder_vae import LadderVAE
from limbeck.models.mlp_classifier import MLPClassifier
from limbeck.models.stroke_law import StrokeLaw, stroke_kl
from limbeck.models.vib import VIB
from limbeck.models.vrnn import VRNN

__all__ = [
    "DCGAN",
    "VIB",
    "VRNN",
    "Autoregressive",
    "BinomialChain",
    "Chain",
    "GaussianChain",
    "HelmholtzMachine",
    "LadderVAE",
    "MLPClassifier",
    "ResidualBinomialChain",
    "ResidualGaussianChain",
    "StrokeLaw",
    "stroke_kl",
]
