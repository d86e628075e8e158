"""Files that the library owns: written atomically, resumable, hashed, cached."""
