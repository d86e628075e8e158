"""Measuring: what `muybridge bench` runs. Peers and results live in benchmarks/."""
