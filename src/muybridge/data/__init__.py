"""From files to clips: manifest, decoding, placing clips in time, crops and colours, worker processes, generated motions."""
