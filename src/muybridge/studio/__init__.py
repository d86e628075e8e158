"""The studio: a local server for watching, annotating, training and correcting in the browser (docs/studio_api.md)."""
