"""Model families, one a file, or one a room where it takes several; each is a :class:`limbeck.DGM`.

``networks`` are plain modules, of which ``wrapped`` makes models, as it does of anybody's.
"""

from limbeck.models.autoregressive import Autoregressive
from limbeck.models.chain import BinomialChain, Chain, GaussianChain, ResidualBinomialChain, ResidualGaussianChain
from limbeck.models.dcgan import DCGAN
from limbeck.models.diffusion.ddim import DDIM
from limbeck.models.flows.flow import Flow
from limbeck.models.flows.glow import Glow, TableGlow
from limbeck.models.flows.step_flow import StepFlow
from limbeck.models.flows.zuko_flow import ZukoFlow
from limbeck.models.helmholtz.helmholtz import HelmholtzMachine
from limbeck.models.ladder.ladder_vae import LadderVAE
from limbeck.models.mlp_classifier import MLPClassifier
from limbeck.models.vib import VIB
from limbeck.models.vrnn.stroke_law import StrokeLaw, stroke_kl
from limbeck.models.vrnn.vrnn import VRNN
from limbeck.models.wrapped.network_classifier import NetworkClassifier

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
