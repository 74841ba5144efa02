"""Tests of heteromics; a package so that `python -m tests.benchmarks` finds this one and no installed namesake."""
