"""Weights and their card: reading, recognizing, importing, downloading, transfer learning."""
