"""Images: data sets of them, what brings one to a size, and random crops and flips."""
