"""Model families, one a file; each is a :class:`limbeck.DGM`."""

from limbeck.models.autoregressive import Autoregressive
from limbeck.models.chain import BinomialChain, Chain, GaussianChain, ResidualBinomialChain, ResidualGaussianChain
from limbeck.models.dcgan import DCGAN
from limbeck.models.ddim import DDIM
from limbeck.models.flow import Flow
from limbeck.models.glow import Glow, TableGlow
from limbeck.models.helmholtz import HelmholtzMachine
from limbeck.models.ladder_vae import LadderVAE
from limbeck.models.mlp_classifier import MLPClassifier
from limbeck.models.step_flow import StepFlow
from limbeck.models.stroke_law import StrokeLaw, stroke_kl
from limbeck.models.vib import VIB
from limbeck.models.vrnn import VRNN
from limbeck.models.wrap import NetworkClassifier
from limbeck.models.zuko_flow import ZukoFlow

__all__ = [
    "DCGAN",
    "DDIM",
    "VIB",
    "VRNN",
    "Autoregressive",
    "BinomialChain",
    "Chain",
    "Flow",
    "GaussianChain",
    "Glow",
    "HelmholtzMachine",
    "LadderVAE",
    "MLPClassifier",
    "NetworkClassifier",
    "ResidualBinomialChain",
    "ResidualGaussianChain",
    "StepFlow",
    "StrokeLaw",
    "TableGlow",
    "ZukoFlow",
    "stroke_kl",
]
