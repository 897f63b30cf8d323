"""Model families, one a file; each is a :class:`limbeck.DGM`."""

from limbeck.models.ladder_vae import LadderVAE

__all__ = ["LadderVAE"]
