import dataclasses

import numpy as np
import torch
from torch import nn

from muybridge.kernels.convolution import Convolution3d
from muybridge.kernels.graphs import GraphedNetwork
from muybridge.loading.datasets import TrainingBatch
from muybridge.models.network import create_model
from muybridge.settings import ClipSettings, NetworkSettings, TrainSettings
from muybridge.training import execution
from muybridge.training.execution import move_to_device, prefetch_to_device, set_up_execution, use_cuda_graphs
from muybridge.training_settings import TrainingSettings
from muybridge.video.views import View, collate_views

CPU = torch.device("cpu")


def network():
    torch.manual_seed(0)
    return create_model("r2plus1d_10", width=4, num_classes=3, clip_length=4)


def settings(**training):
    return TrainSettings(
        data="nowhere",
        network=NetworkSettings(width=4),
        clips=ClipSettings(length=4, crop=32),
        training=TrainingSettings(**training),
    )


def batch(num_clips):
    luma = np.arange(2 * 4 * 6, dtype=np.uint8).reshape(2, 4, 6)
    view = View(luma, np.full((2, 2, 2, 3), 128, np.uint8), 0, 0, False, "bt601", True)
    views = collate_views([view] * num_clips) if num_clips else None
    return TrainingBatch(views, torch.arange(num_clips), ("video",) * num_clips, 0, ())


def test_settings_reach_the_network():
    net = network()
    assert set_up_execution(net, settings(), CPU) == []
    convolutions = [module for module in net.modules() if isinstance(module, Convolution3d)]
    assert {module.execution for module in convolutions} == {"fast"}
    assert not net.activation_checkpointing
    set_up_execution(net, settings(channels_last=False, activation_checkpointing=True), CPU)
    assert {module.execution for module in convolutions} == {"plain"}
    assert net.activation_checkpointing


def test_compile_is_in_place_and_keeps_names(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    net = network()
    names = list(net.state_dict())
    set_up_execution(net, settings(compile=True), CPU)
    assert compiled == [net]
    assert list(net.state_dict()) == names


def test_batches_come_in_order_and_whole():
    batches = [batch(2), batch(0), batch(1)]
    assert list(prefetch_to_device(iter(batches), CPU)) == batches
    moved = [move_to_device(one, torch.device("meta")) for one in batches]
    assert [one.views.luma_nthw.device.type if one.views else None for one in moved] == ["meta", None, "meta"]
    assert moved[0].labels_n.device.type == "meta"
    assert [len(one.videos) for one in moved] == [2, 0, 1]
    untouched = {field.name for field in dataclasses.fields(TrainingBatch)} - {"views", "labels_n", "targets_nd"}
    assert all(getattr(moved[0], name) == getattr(batches[0], name) for name in untouched)


def test_a_batch_is_copied_while_the_one_before_is_used(monkeypatch):
    """The order of work on a GPU, with streams that only take notes."""
    notes = []

    class Stream:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def record_event(self):
            return notes[-1].replace("copy", "wait for")

        def wait_event(self, event):
            notes.append(event)

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    monkeypatch.setattr(execution, "move_to_device", lambda one, device: notes.append(f"copy {len(one.videos)}") or one)
    steps = prefetch_to_device(iter([batch(1), batch(2), batch(3)]), torch.device("cuda"))
    notes.extend(f"step {len(one.videos)}" for one in steps)
    expected = "copy 1, copy 2, wait for 1, step 1, copy 3, wait for 2, step 2, wait for 3, step 3"
    assert ", ".join(notes) == expected


def test_graphs_are_for_steps_that_a_graph_can_repeat(monkeypatch):
    net = network()
    assert use_cuda_graphs(net, TrainingSettings(), print) is net  # on a CPU
    monkeypatch.setattr(execution, "GRAPH_DEVICE_TYPES", {"cpu"})
    graphed = use_cuda_graphs(net, TrainingSettings(), print)
    assert isinstance(graphed, GraphedNetwork)
    assert graphed._max_difference == 0.0
    assert use_cuda_graphs(net, TrainingSettings(deterministic=False), print)._max_difference > 0
    pooled = create_model("r2plus1d_10", width=4, num_classes=3, clip_length=4, stem_pool=True)
    assert use_cuda_graphs(pooled, TrainingSettings(), print)._max_difference > 0
    for unsafe in ({"compile": True}, {"activation_checkpointing": True}, {"profile_steps": 2}, {"cuda_graphs": "off"}):
        assert use_cuda_graphs(net, TrainingSettings(**unsafe), print) is net
