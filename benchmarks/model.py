"""Inference benchmark beside torchvision, ONNX Runtime and OpenVINO, for the sizes of docs/performance.md.

python benchmarks/model.py -o benchmarks/results/DATE-MACHINE-model.json
"""

import sys

from harness import parse_options
from muybridge.bench.model import measure_model
from muybridge.bench.results import print_results

SIZES = [
    ("r2plus1d_18", (1, 3, 16, 112, 112)),
    ("r3d_18", (1, 3, 16, 112, 112)),
    ("mc3_18", (1, 3, 16, 112, 112)),
    ("r2plus1d_34", (1, 3, 32, 112, 112)),
]

if __name__ == "__main__":
    args = parse_options(sys.argv[1:])
    results = [
        measure_model(name, shape, device=args.device, repeats=args.repeats, compiled=args.compile)
        for name, shape in SIZES
    ]
    print_results(results, as_json=False, output=args.output)
