"""Files the library owns: atomic writes, run folders, resumable tables, hashes, the cache."""
