"""Diffusion models: the deterministic sampler as a graph, its U-Net, and pipeline directories of diffusers."""
