"""The idea: programs over sites, noise, divergences, couplings and objectives. Imports nothing else of ours.

Programs, and what one run of them is, stand here: :mod:`~limbeck.core.graph`, :mod:`~limbeck.core.sites`,
:mod:`~limbeck.core.trace` and what they need, on top of ``reparam``, which turns noise into values. The further rooms,
each of which may use those before it: ``divergence`` compares two laws of a site, ``coupling`` ties the student's run
to the teacher's, ``objective`` is a coupling and what is compared, ``methods`` are named objectives.
"""
