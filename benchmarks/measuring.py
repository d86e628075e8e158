"""The options that the scripts of this folder share."""

import argparse
from collections.abc import Sequence

import torch


def benchmark_options(words: Sequence[str]) -> argparse.Namespace:
    """device, repeats, compile and output; sets torch's threads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("-o", "--output")
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    return options
