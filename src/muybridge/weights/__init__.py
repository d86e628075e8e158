"""Weights and their card: reading, recognizing, importing, downloading, transfer to another task."""
