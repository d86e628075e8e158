"""Results told to people: one self-contained page, and its figures and tables as files for papers."""
