"""The command line: one module for each verb. Verbs import torch inside their functions, so that `--help` is quick."""
