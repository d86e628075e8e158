"""The command line: one module a verb. Verbs import what they need inside their functions, so that `--help` is quick."""
