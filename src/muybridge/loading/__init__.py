"""A manifest to batches of clips: worker processes, draws, evaluation clips."""
