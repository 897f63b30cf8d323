"""The same experiment at every point of a grid, on many processes or machines, where each model is trained once."""
