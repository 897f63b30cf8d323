"""Normalizing flows: what one is, the invertible steps that it is made of, and those of Glow and of other libraries."""
