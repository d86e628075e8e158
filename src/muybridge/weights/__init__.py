"""A network's papers: its card, reading and recognising state dicts, fitting weights to another task."""
