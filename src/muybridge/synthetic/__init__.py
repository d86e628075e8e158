"""Generated videos whose classes differ only in the order of frames."""
