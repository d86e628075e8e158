"""From logits to accuracy: the protocol, score files, aggregation over the clips of a video, metrics."""
