"""`muybridge bench model|train`: how fast this machine runs the networks, beside other libraries."""

from __future__ import annotations

from collections.abc import Sequence

from muybridge.cli.options import verb_parser

EXAMPLES = (
    "muybridge bench model",
    "muybridge bench model r3d_18 --clip 3 16 112 112 --threads 1 --compile",
    "muybridge bench train r2plus1d_18 --batch 4 --json",
)


def run(words: Sequence[str]) -> int:
    """Measures and prints a table; never judges it."""
    parser = verb_parser(
        "bench",
        "model|train [NETWORK ...] [--clip C T H W] [--batch N] [--repeats K] [--compile] [--json] [-o FILE]",
        "Measures inference or a training step beside torchvision, ONNX Runtime and OpenVINO, those that are installed.",
        EXAMPLES,
    )
    parser.add_argument("what", choices=("model", "train"), help="inference, or a training step")
    parser.add_argument("networks", nargs="*", help="networks of the family (default: r2plus1d_18)")
    parser.add_argument("--clip", type=int, nargs=4, help="channels, frames, height, width (default: 3 16 112 112)")
    parser.add_argument("--batch", type=int, help="clips at once (default: 1, and 2 for training)")
    parser.add_argument("--repeats", type=int, default=5, help="of which the median is told")
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of a training step")
    parser.add_argument("--compile", action="store_true", help="also what torch.compile makes of them; minutes more")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-o", "--output", help="also write JSON to this file")
    found = parser.parse_args(list(words))
    for name in ("repeats", "threads", "batch"):
        value = getattr(found, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, not {value}")
    return _bench(found)


def _bench(found: object) -> int:
    import torch

    from muybridge.bench.model import measure_model
    from muybridge.bench.results import print_results
    from muybridge.bench.train import measure_training
    from muybridge.inference.scorer import resolve_device

    options = vars(found)
    device = resolve_device(options["device"])
    torch.set_num_threads(options["threads"])
    shape = (options["batch"] or (1 if options["what"] == "model" else 2), *(options["clip"] or (3, 16, 112, 112)))
    shared = {"device": device, "repeats": options["repeats"], "compiled": options["compile"]}
    results = [
        measure_model(name, shape, **shared)
        if options["what"] == "model"
        else measure_training(name, shape, precision=options["precision"], **shared)
        for name in options["networks"] or ["r2plus1d_18"]
    ]
    print_results(results, as_json=options["json"], output=options["output"])
    return 0
