"""Training step benchmark beside torchvision, for the sizes of docs/performance.md.

python benchmarks/train.py -o benchmarks/results/DATE-MACHINE-train.json
"""

import sys

from harness import parse_options
from muybridge.bench.results import print_results
from muybridge.bench.train import measure_training

SIZES = [
    ("r2plus1d_18", (2, 3, 16, 112, 112)),
    ("r3d_18", (2, 3, 16, 112, 112)),
    ("mc3_18", (2, 3, 16, 112, 112)),
    ("r2plus1d_34", (1, 3, 32, 112, 112)),
]

if __name__ == "__main__":
    args = parse_options(sys.argv[1:])
    results = [
        measure_training(name, shape, device=args.device, repeats=args.repeats, compiled=args.compile, precision="fp32")
        for name, shape in SIZES
    ]
    print_results(results, as_json=False, output=args.output)
