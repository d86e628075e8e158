"""A training step beside torchvision; the sizes of docs/performance.md. Writes results as JSON.

python benchmarks/train.py -o benchmarks/results/DATE-MACHINE-train.json
"""

import sys

from measuring import benchmark_options
from muybridge.bench.results import print_results
from muybridge.bench.train import measure_training

SIZES = [
    ("r2plus1d_18", (2, 3, 16, 112, 112)),
    ("r3d_18", (2, 3, 16, 112, 112)),
    ("mc3_18", (2, 3, 16, 112, 112)),
    ("r2plus1d_34", (1, 3, 32, 112, 112)),
]

if __name__ == "__main__":
    options = benchmark_options(sys.argv[1:])
    results = [
        measure_training(
            name, shape, device=options.device, repeats=options.repeats, compiled=options.compile, precision="fp32"
        )
        for name, shape in SIZES
    ]
    print_results(results, as_json=False, output=options.output)
