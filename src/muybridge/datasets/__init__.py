"""A data address to a manifest: folders, lists, the official lists of the corpora, splits."""
