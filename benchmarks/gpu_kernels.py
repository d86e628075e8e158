"""What the rules of `muybridge.kernels` for GPUs rest on, in two minutes:

    python benchmarks/gpu_kernels.py -o benchmarks/results/DATE-MACHINE-kernels.json

Every convolution of R(2+1)D-18 in every form, forward and both gradients (`kernels/cuda.py` takes the fastest); the stem over
blocks of pixels (`kernels/space_to_depth.py`); and batch norm with ReLU and sum, forward and backward, with the bytes a second
that it reads and writes (`kernels/triton_norm.py`). bf16, cudnn.deterministic, medians of 5.
`--device cpu --batch 1 --divide 8` rehearses it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muybridge.bench.measure import TimedFunction, describe_machine, time_interleaved
from muybridge.kernels.batch_norm import apply_norm, find_fusion_problem
from muybridge.kernels.cuda import (
    ConvolutionForms,
    ConvolutionGeometry,
    choose_cuda_forms,
    convolve_blocks,
    convolve_in_forms,
)
from muybridge.kernels.precision import get_cudnn_version
from muybridge.kernels.space_to_depth import has_blocks

# Output and input channels, taps, strides along time and space, frames and pixels of the input.
PER_FRAME = (
    *((144, 64, 1, 16, 56), (232, 64, 2, 16, 56), (288, 128, 1, 8, 28), (464, 128, 2, 8, 28)),
    *((576, 256, 1, 4, 14), (928, 256, 2, 4, 14), (1152, 512, 1, 2, 7)),
)
PER_PIXEL = (
    *((64, 48, 1, 16, 56), (64, 144, 1, 16, 56), (128, 232, 2, 16, 28), (128, 288, 1, 8, 28)),
    *((256, 464, 2, 8, 14), (256, 576, 1, 4, 14), (512, 928, 2, 4, 7), (512, 1152, 1, 2, 7)),
)
NORMS = ((144, 16, 56), (64, 16, 56), (288, 8, 28), (512, 2, 7))
NUM_PASSES = {"forward": 3, "backward": 5, "forward with a sum": 4, "backward with a sum": 8}
NUM_TIMES = 5


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--divide", type=int, default=1, help="frames and pixels, in a rehearsal")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    torch.backends.cudnn.deterministic = True
    rows: list[dict[str, Any]] = []
    result = {"machine": describe_machine(device), "cudnn": get_cudnn_version(), "batch": args.batch, "rows": rows}
    for row in list_rows(device, args.batch, args.divide):
        rows.append(row)
        print(json.dumps(row), flush=True)
        if args.output:
            args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def list_rows(device: torch.device, batch: int, divide: int) -> Iterator[dict[str, Any]]:
    make = partial(make_maps, device, batch, divide)
    stem = ConvolutionGeometry((48, 3, 1, 7, 7), (1, 2, 2), (0, 3, 3))
    yield measure_stem(stem, make(3, 16, 112))
    for geometry, frames, pixels in list_geometries(stem):
        yield from measure_forms(geometry, make(geometry.weight_shape[1], frames, pixels))
    if find_fusion_problem(device) is None:
        for size in NORMS:
            yield from measure_norm(make(*size))


def list_geometries(stem: ConvolutionGeometry) -> Iterator[tuple[ConvolutionGeometry, int, int]]:
    """Convolutions with the frames and pixels of their input."""
    yield stem, 16, 112
    for out, into, stride, frames, pixels in PER_FRAME:
        yield ConvolutionGeometry((out, into, 1, 3, 3), (1, stride, stride), (0, 1, 1)), frames, pixels
    for out, into, stride, frames, pixels in PER_PIXEL:
        yield ConvolutionGeometry((out, into, 3, 1, 1), (stride, 1, 1), (1, 0, 0)), frames, pixels


def make_maps(device: torch.device, batch: int, divide: int, channels: int, frames: int, pixels: int) -> Tensor:
    size = max(1, pixels // divide)
    maps = torch.randn(batch, channels, max(1, frames // divide), size, size, device=device, dtype=torch.bfloat16)
    return maps.contiguous(memory_format=torch.channels_last_3d)


def measure_forms(geometry: ConvolutionGeometry, maps: Tensor) -> Iterator[dict[str, Any]]:
    """A row for each form that the convolution has."""
    weight = (torch.randn(geometry.weight_shape, device=maps.device) / 20).to(maps.dtype)
    weight = weight.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    forms = ["conv3d"] + ["frames"] * geometry.is_per_frame + ["pixels"] * geometry.is_per_pixel
    for form in forms:
        clips = maps.detach().requires_grad_()
        out = convolve_in_forms(clips, weight, geometry, ConvolutionForms(form, form, form))  # type: ignore[arg-type]
        gradient = torch.randn_like(out)

        def differentiate(of: Tensor, out: Tensor = out, gradient: Tensor = gradient) -> None:
            torch.autograd.grad(out, of, gradient, retain_graph=True)

        runs: dict[str, TimedFunction] = {
            "forward": lambda form=form: convolve_in_forms(maps, weight, geometry, ConvolutionForms(form, form, form)),
            "input_gradient": partial(differentiate, clips),
            "weight_gradient": partial(differentiate, weight),
        }
        chosen = {} if has_blocks(*geometry) else choose_cuda_forms(geometry)._asdict()
        yield {
            "what": "convolution",
            "weight": geometry.weight_shape,
            "stride": geometry.stride,
            "form": form,
            "milliseconds": measure(runs, maps.device),
            "chosen_for": [direction for direction, its_form in chosen.items() if its_form == form],
        }


def measure_stem(geometry: ConvolutionGeometry, maps: Tensor) -> dict[str, Any]:
    """The stem over blocks of pixels, with the copy into blocks."""
    weight = (torch.randn(geometry.weight_shape, device=maps.device) / 20).to(maps.dtype).requires_grad_()
    clips = maps.float()
    out = convolve_blocks(clips.to(maps.dtype), weight, geometry)
    gradient = torch.randn_like(out)
    runs: dict[str, TimedFunction] = {
        "forward": lambda: convolve_blocks(clips, weight, geometry),
        "weight_gradient": lambda: torch.autograd.grad(out, weight, gradient, retain_graph=True),
    }
    times = measure(runs, maps.device)
    return {"what": "stem over blocks", "weight": geometry.weight_shape, "milliseconds": times}


def measure_norm(maps: Tensor) -> Iterator[dict[str, Any]]:
    """Forward and backward pass, with a sum and without."""
    norm = torch.nn.BatchNorm3d(maps.shape[1]).to(maps.device).train()
    residual, gradient = torch.randn_like(maps), torch.randn_like(maps)
    for suffix, added in (("", None), (" with a sum", residual.requires_grad_())):
        inputs = [maps.detach().requires_grad_(), *([] if added is None else [added])]
        out = apply_norm(norm, inputs[0], relu=True, residual=added)
        runs: dict[str, TimedFunction] = {
            f"forward{suffix}": lambda inputs=inputs, added=added: apply_norm(
                norm, inputs[0], relu=True, residual=added
            ),
            f"backward{suffix}": lambda out=out, inputs=inputs: torch.autograd.grad(
                out, inputs, gradient, retain_graph=True
            ),
        }
        for name, milliseconds in measure(runs, maps.device).items():
            num_bytes = NUM_PASSES[name] * maps.numel() * maps.element_size()
            rate = num_bytes / milliseconds / 1e9
            yield {"what": f"norm, {name}", "maps": list(maps.shape), "milliseconds": milliseconds, "TB_per_s": rate}


def measure(runs: dict[str, TimedFunction], device: torch.device) -> dict[str, float]:
    """Medians in milliseconds."""
    for run in runs.values():
        run()
    seconds = time_interleaved(runs, NUM_TIMES, device)
    return {name: 1e3 * float(np.median(values)) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
