"""Manifest to batches of clips: clip readers, datasets, samplers and worker processes."""
