"""One training, from its first step to the files beside the model: it can stop anywhere and continue bit for bit."""
