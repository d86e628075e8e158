"""Benchmarks run by `muybridge bench`. Larger ones and stored results are in benchmarks/ of the repository."""
