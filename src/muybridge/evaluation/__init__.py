"""Evaluation protocol, score files, averaging over the clips of a video, fusion, metrics."""
