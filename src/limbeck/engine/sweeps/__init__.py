"""The same experiment at every point of a grid, on many processes or machines, each model trained once."""
