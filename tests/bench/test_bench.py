"""What a benchmark does and says; never how long it takes."""

import json
import sys

import pytest
import torch

from muybridge.bench import model, train
from muybridge.bench.measure import describe_machine, measure_gemm_gflops, time_interleaved
from muybridge.bench.model import measure_model
from muybridge.bench.peers import UnavailablePeer, build_exported_peers, create_torchvision_network
from muybridge.bench.results import BenchmarkResult, BenchmarkRow, print_results
from muybridge.bench.train import build_variant, measure_training
from muybridge.cli.main import main
from muybridge.models.network import create_model

CPU = torch.device("cpu")
CLIP = (2, 3, 4, 32, 32)


@pytest.fixture(autouse=True)
def no_peer(monkeypatch):
    """As on a machine without any of them; and no processes of their own for memory."""
    for name in ("torchvision", "onnx", "onnxscript", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    monkeypatch.setattr(train, "run_in_fresh_process", lambda measure, *arguments: 1024)
    monkeypatch.setattr(model, "measure_gemm_gflops", lambda *arguments: 100.0)
    monkeypatch.setattr(train, "measure_gemm_gflops", lambda *arguments: 100.0)


def test_ways_are_run_in_turn():
    ran = []
    seconds = time_interleaved({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, 2, CPU)
    assert ran == ["a", "b", "a", "b", "a", "b"]  # the first of each warms up
    assert [len(seconds[name]) for name in "ab"] == [2, 2]


def test_inference_lists_what_is_missing_and_why():
    result = measure_model("r2plus1d_10", CLIP, device=CPU, repeats=1, compiled=False)
    ours = ["muybridge.optimize", "muybridge, not optimized"]
    assert [row.name for row in result.rows if "8 bits" not in row.name] == ours
    assert set(result.absent) - {"muybridge.quantize, 8 bits"} == {"torchvision", "ONNX Runtime", "OpenVINO"}
    assert "not installed" in result.absent["torchvision"]
    assert all(row.difference < 1e-4 for row in result.rows if row.name in ours)
    assert any("absent: OpenVINO" in line for line in result.format_lines())


def test_training_counts_three_times_the_forward_pass():
    result = measure_training("r2plus1d_10", CLIP, device=CPU, repeats=1, precision="fp32", compiled=False)
    assert {row.name for row in result.rows} == {"muybridge", "muybridge, plain conv3d", "muybridge, checkpointing"}
    inference = measure_model("r2plus1d_10", CLIP, device=CPU, repeats=1, compiled=False)
    assert result.rows[0].gflop == pytest.approx(3 * inference.rows[0].gflop)


def test_ways_of_training_are_what_they_are_called():
    net = create_model("r2plus1d_10", width=4)
    plain, checkpointing = build_variant("muybridge, plain conv3d", net), build_variant("muybridge, checkpointing", net)
    assert plain.stem[0].execution == "plain"
    assert checkpointing.activation_checkpointing
    assert not net.activation_checkpointing


def test_peers_say_why_they_are_not_there():
    net = create_model("r2d_10", width=4)
    assert isinstance(create_torchvision_network(net), UnavailablePeer)
    assert "onnx" in build_exported_peers(net, torch.zeros(CLIP))["OpenVINO"].reason


def test_numbers_and_ratios(tmp_path, capsys):
    rows = [BenchmarkRow("ours", [1.0, 3.0, 2.0], 10.0, 2**20), BenchmarkRow("theirs", [4.0], 10.0, difference=1e-6)]
    result = BenchmarkResult("title", describe_machine(CPU), 20.0, "ours", rows, {"other": "not installed"})
    print_results([result], as_json=True, output=str(tmp_path / "result.json"))
    (printed,) = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "result.json").read_text()) == [printed]
    ours, theirs = printed["rows"]
    assert (ours["median_seconds"], ours["gflops"], ours["fraction_of_gemm"]) == (2.0, 5.0, 0.25)
    assert theirs["times_as_long_as_reference"] == 2.0
    assert "1 MiB" in result.format_lines()[2]


def test_a_matrix_product_is_counted_in_gflop():
    assert measure_gemm_gflops(CPU, repeats=1) > 0


def test_the_verb(capsys):
    threads = torch.get_num_threads()
    try:
        assert (
            main(["bench", "model", "r2d_10", "--clip", "3", "16", "32", "32", "--repeats", "1", "--device", "cpu"])
            == 0
        )
        assert "inference, r2d_10, 1x3x16x32x32" in capsys.readouterr().out
        assert main(["bench", "model", "--repeats", "0"]) == 2
        assert main(["bench", "model", "nonsense"]) == 2
    finally:
        torch.set_num_threads(threads)
    assert "--repeats is 0, expected a whole number from 1" in capsys.readouterr().err
