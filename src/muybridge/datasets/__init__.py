"""Data sets as manifests: class folders, CSV files, the official lists of the corpora, splits."""
