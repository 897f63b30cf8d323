"""The ladder VAE, and the networks that it is made of."""
