"""The idea: programs over sites, noise, divergences, couplings and objectives. Imports nothing else of ours."""
