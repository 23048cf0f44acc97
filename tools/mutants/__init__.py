"""Mutation tests: small faults are put into the modules that matter most, and the tests have to notice each.

cosmic-ray makes the mutants; they run in forks of one process that has collected the tests once. docs/mutants.md has
the figures.
"""
