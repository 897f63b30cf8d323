"""Small seeded models on which the contract of every method is checked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
)
from torch.nn import functional as F

from limbeck.core.divergence import kl, lp
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.models.autoregressive import Autoregressive
from limbeck.models.chain import ResidualBinomialChain, ResidualGaussianChain
from limbeck.models.dcgan import DCGAN
from limbeck.models.diffusion.ddim import DDIM
from limbeck.models.flows.flow import Flow
from limbeck.models.helmholtz.helmholtz import HelmholtzMachine
from limbeck.models.ladder.ladder_vae import LadderVAE
from limbeck.models.mlp_classifier import MLPClassifier
from limbeck.models.vib import VIB
from limbeck.models.vrnn.vrnn import VRNN
from limbeck.models.wrapped.network_classifier import NetworkClassifier
from tests.flows import ONE
from tests.small_models import BRANCH, CHAIN, Angular, Bits, Features, LinearGaussian, Loop, Mixed, NoisyClassifier


def inputs(rows: int, dtype: torch.dtype = torch.float32, seed: int = 0, shape: tuple[int, ...] = (5,)) -> Tensor:
    """Conditioning inputs of the classifiers."""
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Attributes:
        name: its name in test ids.
        teacher: builds the teacher.
        student: builds the student.
        conditional: whether it needs ``x``.
        data: builds a batch for the model's own loss, if it has one.
        marginal: whether :func:`limbeck.methods.marginalized` applies: "kl", "monte carlo" or "".
        discrete: prefixes of the parameters behind a discrete latent, which no gradient of a target passes.
        shape: of a row of ``x``.
        given: builds ``x`` itself, where not every input will do.
        alone: whether a row is the same in any batch; not with batch norm that uses batch statistics in eval mode.
        target: a divergence that its targets have; point masses have no KL.
        fixed: methods whose loss draws nothing that it depends on.
    """

    name: str
    teacher: Callable[[], DGM]
    student: Callable[[], DGM]
    conditional: bool = False
    data: Callable[[int], Batch] | None = None
    marginal: str = ""
    discrete: tuple[str, ...] = field(default=())
    shape: tuple[int, ...] = (5,)
    target: Callable[[Distribution, Distribution], Tensor] = kl
    fixed: tuple[str, ...] = ()
    given: Callable[[int, torch.dtype], Tensor] | None = None
    alone: bool = True

    def pair(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[DGM, DGM]:
        """A teacher in eval mode whose batch norm has seen something, and a fresh student in train mode."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            teacher, student = self.teacher().to(dtype), self.student().to(dtype)
            with torch.no_grad():
                teacher.trace(**self.rows(16, dtype))
        return teacher.eval(), student

    def copies(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[DGM, DGM]:
        """A teacher and its exact copy, both in eval mode."""
        teacher, _ = self.pair(seed, dtype)
        return teacher, copy.deepcopy(teacher)

    def rows(self, rows: int, dtype: torch.dtype = torch.float32) -> dict:
        """What ``trace``, ``sample`` and an objective need to know about the batch."""
        if not self.conditional:
            return {"batch_size": rows}
        return {"x": self.given(rows, dtype) if self.given else inputs(rows, dtype, shape=self.shape)}


def labelled(rows: int) -> Batch:
    x = inputs(rows, seed=1)
    return Batch(y=x[:, :4].argmax(1), x=x)


def labelled_pictures(rows: int) -> Batch:
    x = inputs(rows, seed=1, shape=(1, 3, 3))
    return Batch(y=x.flatten(1)[:, :4].argmax(1), x=x)


def pictures(rows: int) -> Batch:
    return Batch(y=torch.rand(rows, 1, 8, 8, generator=torch.Generator().manual_seed(1)))


def bottleneck(hidden: int) -> VIB:
    model = VIB(image_size=3, hidden=hidden, latent_size=3, classes=4)
    with torch.no_grad():  # as after training: a fresh model's scale is so small that its noise is lost in rounding
        model.encoder[-1].bias[3:] += 5.0
    return model


def spelled(rows: int) -> Batch:
    y = torch.randint(4, (rows, 3), generator=torch.Generator().manual_seed(1))
    return Batch(y=y, x=inputs(rows, seed=1))


def writer(width: int) -> Autoregressive:
    return Autoregressive(length=3, tokens=4, inputs=5, width=width, embedding=3)


def network(width: int) -> MLPClassifier:
    return MLPClassifier(inputs=5, classes=4, widths=[width, 6])


def wrapped(width: int) -> NetworkClassifier:
    return NetworkClassifier("ConvNet", {"widths": [width, 5], "classes": 4, "channels": 1})


def adversary(width: int) -> DCGAN:
    return DCGAN(image_size=8, image_channels=1, width=width, latent_size=4, critic_width=2)


def ladder(width: int) -> LadderVAE:
    return LadderVAE(image_size=8, image_channels=1, levels=3, width=width, latent_channels=2)


def domain_ladder(width: int, batch_statistics: bool = True, **changes: int) -> LadderVAE:
    sizes = {"image_size": 8, "image_channels": 1, "levels": 3, "width": width, "latent_channels": 2, "domains": 3}
    return LadderVAE(**{**sizes, **changes}, batch_statistics=batch_statistics)


def one_hot(rows: int, dtype: torch.dtype = torch.float32, domains: int = 3) -> Tensor:
    """Each domain in turn."""
    return torch.eye(domains, dtype=dtype)[torch.arange(rows) % domains]


def told(rows: int) -> Batch:
    return Batch(y=pictures(rows).y, x=one_hot(rows))


def drawings(rows: int) -> Batch:
    y = torch.randn(rows, 4, 4, generator=torch.Generator().manual_seed(1))
    y[..., 2] = (y[..., 2] > 0.5).float()
    y[..., 3] = F.one_hot(torch.arange(rows) % 3 + 1, 4)  # ends after two, three or four points
    return Batch(y=y)


def scribbler(width: int) -> VRNN:
    return VRNN(steps=4, width=width, features=5, latent_size=2)


def points(rows: int) -> Batch:
    return Batch(y=torch.randn(rows, 2, generator=torch.Generator().manual_seed(1)))


def flow(name: str, depth: int) -> Flow:
    """One that is no longer the identity, so that every weight has a gradient."""
    return ONE[name].flow(depth, seed=torch.initial_seed() % 2**31, dtype=torch.float32).train()


def columns(rows: int) -> Batch:
    return Batch(*ONE["maf"].rows(rows, torch.float32))


TINY_UNET = {
    "sample_size": 4,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [4, 8],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "attention_head_dim": 4,
}


def diffusion(steps: int, first: str = "network", **unet: int) -> DDIM:
    """One with few times, far from which no number grows."""
    times = {"num_train_timesteps": 20, "beta_end": 0.2, "prediction_type": "v_prediction"}
    model = DDIM(TINY_UNET | unet, steps=steps, spacing="trailing", scheduler=times, first=first)
    with torch.no_grad():  # fresh attention is nearly the identity
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def small_pictures(rows: int) -> Batch:
    return Batch(y=pictures(rows).y[..., :4, :4])


def told_small(rows: int) -> Batch:
    return Batch(y=small_pictures(rows).y, x=one_hot(rows))


def values(rows: int) -> Batch:
    return Batch(*ONE["glow"].rows(rows, torch.float32))


ALL = ("surrogate", "local", "marginalized", "joint", "scratch")
ZOO = [
    Entry("chain", lambda: LinearGaussian(CHAIN), lambda: LinearGaussian(CHAIN), marginal="monte carlo"),
    Entry("branch", lambda: LinearGaussian(BRANCH), lambda: LinearGaussian(BRANCH)),
    Entry("mixed", lambda: Mixed(6), lambda: Mixed(3), discrete=("logits",)),
    Entry("bits", Bits, Bits, marginal="kl", discrete=("z2", "z1")),
    Entry("classifier", lambda: NoisyClassifier(12), lambda: NoisyClassifier(6), True, labelled, "kl"),
    Entry("bottleneck", lambda: bottleneck(12), lambda: bottleneck(8), True, labelled_pictures, "kl", shape=(1, 3, 3)),
    Entry("features", lambda: Features(10), lambda: Features(6), True, labelled, "kl", fixed=ALL),
    Entry("network", lambda: network(10), lambda: network(4), True, labelled, "kl", fixed=ALL),
    Entry("wrapped", lambda: wrapped(6), lambda: wrapped(3), True, labelled_pictures, "kl", shape=(1, 3, 3), fixed=ALL),
    Entry("sequence", lambda: writer(8), lambda: writer(4), True, spelled, fixed=("scratch",)),
    Entry("adversary", lambda: adversary(6), lambda: adversary(3), data=pictures, target=lp),
    Entry("loop", Loop, Loop),
    Entry("drawings", lambda: scribbler(8), lambda: scribbler(4), data=drawings),
    Entry("helmholtz", lambda: HelmholtzMachine(hidden=4), lambda: HelmholtzMachine(hidden=3), data=points),
    Entry("ladder", lambda: ladder(6), lambda: ladder(4), data=pictures, marginal="monte carlo"),
    Entry("domains", lambda: domain_ladder(6), lambda: domain_ladder(4), True, told, given=one_hot, alone=False),
    Entry("told", lambda: domain_ladder(6, False), lambda: domain_ladder(4, False), True, told, given=one_hot),
    Entry(
        "flow",
        lambda: flow("table glow", 4),
        lambda: flow("table glow", 2),
        data=columns,
        target=lp,
        fixed=("scratch",),
    ),
    Entry("images' flow", lambda: flow("glow", 2), lambda: flow("glow", 1), data=values, target=lp, fixed=("scratch",)),
    Entry(
        "autoregressive flow",
        lambda: flow("maf", 3),
        lambda: flow("maf", 2),
        data=columns,
        target=lp,
        fixed=("scratch",),
    ),
    Entry("diffusion", lambda: diffusion(4), lambda: diffusion(1, "residual"), data=small_pictures),
    Entry(
        "classes' diffusion",
        lambda: diffusion(4, num_class_embeds=3),
        lambda: diffusion(2, num_class_embeds=3),
        True,
        told_small,
        given=one_hot,
    ),
    Entry("laplace", Angular, Angular, marginal="monte carlo"),
    Entry("normal to laplace", lambda: Angular("normal"), Angular),
    Entry(
        "gaussian chain", lambda: ResidualGaussianChain(3, width=3, activation="tanh"), lambda: ResidualGaussianChain(3)
    ),
    Entry("binomial chain", lambda: ResidualBinomialChain(3, width=3), lambda: ResidualBinomialChain(3)),
]
BY_NAME = {entry.name: entry for entry in ZOO}
