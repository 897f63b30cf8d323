"""The Helmholtz machine: belief networks over binary latents, their graphs, and their exact likelihood."""
