"""Networks of other projects, imported by their own names, have the logits of independent implementations."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.agreement.foreign_networks import Hara, Mmaction2, PyTorchVideo
from tests.agreement.torchvision_networks import plain_logits, randomize
from torch import nn

import muybridge
from muybridge.inference.folded import InferenceNetwork, optimize
from muybridge.inference.onnx import write_onnx
from muybridge.inference.two_dimensional import convert_to_two_dimensional
from muybridge.models.family import ConvolutionKind, Specification
from muybridge.models.heads import Head
from muybridge.weights.card import Card, load_network
from muybridge.weights.catalogue import ENTRIES
from muybridge.weights.importing import ImportOptions, import_weights
from muybridge.weights.task_heads import ImportedTask

NETWORKS = {
    "MMAction2": (lambda: Mmaction2(blocks=(3, 4, 6, 3)), "r2plus1d_34"),
    "R(2+1)D of 3D-ResNets": (lambda: Hara(factorized=True, bottleneck=False), "r2plus1d_18"),
    "R(2+1)D-50 of 3D-ResNets": (lambda: Hara(factorized=True, bottleneck=True, blocks=(3, 4, 6, 3)), "r2plus1d_50"),
    "R3D of 3D-ResNets": (lambda: Hara(factorized=False, bottleneck=False), "r3d_18"),
    "R3D-50 of 3D-ResNets": (lambda: Hara(factorized=False, bottleneck=True, blocks=(3, 4, 6, 3)), "r3d_50"),
    "PyTorchVideo": (PyTorchVideo, "r2plus1d_50"),
}
WRAPPERS = {
    "MMAction2": lambda state: {"meta": {"epoch": 180}, "state_dict": state},
    "PyTorchVideo": lambda state: {"model_state": state, "epoch": 3},
}


def trained(network: nn.Module) -> nn.Module:
    """Statistics and scales as of a trained network, small variances included, so that a lost epsilon shows."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.001, 0.6)
            nn.init.uniform_(module.weight, 0.3, 0.8)
            nn.init.normal_(module.bias, 0, 0.1)
    return network.eval()


@pytest.fixture(scope="module", params=NETWORKS)
def case(request, tmp_path_factory):
    """A foreign network, the clips, their logits, and the imported network with its card."""
    make, name = NETWORKS[request.param]
    torch.manual_seed(0)  # rare weights put a ReLU so near zero that its gradient differs by rounding
    theirs = trained(make())
    wrap = WRAPPERS.get(
        request.param, lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}}
    )
    folder = tmp_path_factory.mktemp("foreign")
    torch.save(wrap(theirs.state_dict()), folder / "theirs.pth")
    imported = import_weights(folder / "theirs.pth", folder / "ours.safetensors")
    clips = torch.randn(2, 3, 9, 40, 48)
    with torch.no_grad():
        logits = theirs(clips)
    ours, card = load_network(folder / "ours.safetensors")
    assert card == imported.card
    assert card.specification.name == name
    return theirs, clips, logits, ours, imported


def assert_close(logits: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=2e-5 * float(expected.abs().max()))


def test_logits_are_theirs(case):
    _, clips, logits, ours, imported = case
    with torch.no_grad():
        assert_close(ours(clips), logits)
        assert_close(optimize(ours)(clips), logits)
        assert_close(InferenceNetwork(ours, channel_multiple=8)(clips), logits)  # as on a GPU
    assert imported.left_out == ()
    assert "differs from the paper's" in imported.assumptions[0]
    assert imported.format.startswith("state dict of ")


def test_gradients_are_theirs(case):
    theirs, clips, _, ours, _ = case
    gradients = []
    for network in (copy.deepcopy(theirs), copy.deepcopy(ours)):
        network(clips).square().sum().backward()
        gradients.append(next(network.parameters()).grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-4 * float(gradients[0].abs().max()))


def test_the_card_says_what_differs_and_is_read_back(case):
    *_, imported = case
    spec = imported.card.specification
    text = json.dumps(spec.to_json())
    paper = muybridge.create_model(spec.name, width=8).specification
    changed = {name for name in ("stem_frames", "stem_pool_time_stride", "factorized_shortcuts", "spatial_strides")
               if getattr(spec, name) != getattr(paper, name)}  # fmt: skip
    assert changed or spec.stages != paper.stages
    assert all(name in text for name in changed)
    assert type(imported.card).from_json(imported.card.to_json()) == imported.card


def test_the_onnx_file_has_their_logits(case, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    theirs, _, _, ours, imported = case
    write_onnx(ours, imported.card, tmp_path / "net.onnx")
    preprocessing = imported.card.preprocessing
    clips = torch.randn(1, 3, preprocessing.clip_length, preprocessing.crop, preprocessing.crop)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        assert_close(torch.from_numpy(np.asarray(session.run(None, {"clips": clips.numpy()})[0])), theirs(clips))


def test_the_two_dimensional_form_is_right_or_refused(case):
    _, clips, logits, ours, _ = case
    if ours.specification.stem_pool_time_stride == 1:
        with torch.no_grad():
            assert_close(convert_to_two_dimensional(ours)(clips), logits)
        return
    with pytest.raises(ValueError, match="max-pool over time"):
        convert_to_two_dimensional(ours)


def test_fine_tuning_keeps_the_difference(case, tmp_path):
    theirs, clips, _, _, imported = case
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "theirs.pth")
    import_weights(tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    with pytest.raises(ValueError, match=r"names of \S+, so it does not come from vmz; leave out --source"):
        import_weights(tmp_path / "theirs.pth", tmp_path / "other.safetensors", ImportOptions(source="vmz"))
    spec = imported.card.specification
    network = muybridge.create_model(spec.name, weights=tmp_path / "ours.safetensors", num_classes=2)
    assert network.specification.num_classes == 2
    assert (network.specification.stages, network.specification.stem_frames) == (spec.stages, spec.stem_frames)
    assert network(clips).shape == (2, 2)


def test_facts_of_the_full_networks():
    """83 and 110 mid-channels at width 64, as the projects' formulas give them."""
    stem = Mmaction2(width=64, blocks=(1, 1, 1, 1)).backbone.conv1.conv.conv_s
    assert stem.out_channels == 83
    assert Hara(factorized=True, bottleneck=False, width=64, blocks=(1, 1, 1, 1)).conv1_s.out_channels == 110


def test_a_variance_is_changed_by_the_difference_of_the_epsilons(tmp_path):
    theirs = trained(Mmaction2())
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    import_weights(tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    ours, card = load_network(tmp_path / "ours.safetensors")
    assert card.specification.norm_epsilon == 1e-5
    torch.testing.assert_close(ours.stem[4].running_var, theirs.backbone.conv1.bn.running_var + (1e-3 - 1e-5))
    torch.testing.assert_close(ours.stem[1].running_var, theirs.backbone.conv1.conv.bn_s.running_var)


def test_the_clip_of_a_file_can_be_said(tmp_path):
    torch.save(Mmaction2().state_dict(), tmp_path / "theirs.pth")
    for options, expected in ((None, (8, 8)), (ImportOptions(clip_length=32, frame_stride=2), (32, 2))):
        card = import_weights(tmp_path / "theirs.pth", tmp_path / "ours.safetensors", options).card
        assert (card.preprocessing.clip_length, card.preprocessing.frame_stride) == expected
        assert (card.preprocessing.crop, card.preprocessing.mean[0]) == (224, 123.675)


def test_shortcuts_without_weights_are_refused(tmp_path):
    state = Hara(factorized=False, bottleneck=False).state_dict()
    torch.save({name: tensor for name, tensor in state.items() if "downsample" not in name}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"3D-ResNets-PyTorch, but its shortcuts have no weights \(type A\)"):
        import_weights(tmp_path / "a.pth", tmp_path / "a.safetensors")


def test_grouped_convolutions_are_refused(tmp_path):
    network = Hara(factorized=False, bottleneck=True)
    state = {
        name: tensor[:, :1] if name.endswith("conv2.weight") else tensor
        for name, tensor in network.state_dict().items()
    }
    torch.save(state, tmp_path / "resnext.pth")
    with pytest.raises(ValueError, match="names of 3D-ResNets-PyTorch, but"):
        import_weights(tmp_path / "resnext.pth", tmp_path / "a.safetensors")


@pytest.mark.parametrize("prefix", ["", "r2plus1d_18."])
def test_a_backbone_of_numbered_children_is_torchvisions_network(tmp_path, prefix):
    network = trained(muybridge.create_model("r2plus1d_18", num_classes=4, width=8, mid_channel_rule="per_block"))
    numbered = nn.Sequential(*list(network.children())[:-1]).state_dict()
    state = {f"{prefix}{name}": tensor for name, tensor in numbered.items()}
    state |= {"fc1.weight": network.fc.weight, "fc1.bias": network.fc.bias}
    torch.save(state, tmp_path / "numbered.pth")
    import_weights(tmp_path / "numbered.pth", tmp_path / "ours.safetensors", ImportOptions(source="muybridge"))
    clips = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_network(tmp_path / "ours.safetensors")[0](clips), network(clips))


def test_the_video_network_of_gdt_is_found_beside_the_audio_network(tmp_path):
    network = muybridge.create_model("r2plus1d_18", width=8, mid_channel_rule="per_block")
    body = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("fc.")}
    state = {f"module.video_network.base.{name}": tensor for name, tensor in body.items()}
    state |= {"module.audio_network.base.conv1.weight": torch.zeros(8, 1, 7, 7)}
    state |= {"module.mlp_v.block_forward.2.weight": torch.zeros(64, 64)}
    torch.save({"model": state, "epoch": 99}, tmp_path / "gdt.pth")
    imported = import_weights(tmp_path / "gdt.pth", tmp_path / "ours.safetensors")
    assert imported.card.classes == ("no_classifier",)
    assert imported.card.specification.norm_epsilon == 1e-5


def test_a_backbone_of_xdc_has_the_papers_channels_and_epsilon(tmp_path):
    network = trained(muybridge.create_model("r2plus1d_18", num_classes=4, width=8))
    body = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("fc.")}
    torch.save(body, tmp_path / "xdc.pth")
    imported = import_weights(tmp_path / "xdc.pth", tmp_path / "ours.safetensors", ImportOptions(source="ig65m"))
    spec = imported.card.specification
    assert imported.card.classes == ("no_classifier",)
    assert (spec.name, spec.mid_channel_rule, spec.norm_epsilon) == ("r2plus1d_18", "per_convolution", 1e-3)
    ours = load_network(tmp_path / "ours.safetensors")[0].state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in body.items())


def test_fields_of_other_projects_are_checked():
    paper = muybridge.create_model("r2plus1d_18", width=4).specification
    values = {name: getattr(paper, name) for name in paper.__dataclass_fields__}
    for changes, sentence in (
        ({"stem_frames": 4}, "stem_frames must be odd"),
        ({"stem_pool_time_stride": 2}, "needs stem_pool true"),
        ({"stem": ConvolutionKind.TEMPORAL_THEN_SPATIAL}, "is only for stages"),
        ({"spatial_strides": (1, 2)}, "spatial_strides must have one entry for each"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Specification(**{**values, **changes})


def save_as_echonet(network: nn.Module, path: Path) -> Path:
    """A checkpoint with the entries of EchoNet-Dynamic's training loop."""
    content = {
        "epoch": 44,
        "state_dict": {f"module.{name}": tensor for name, tensor in network.state_dict().items()},
        "period": 2,
        "frames": 32,
        "best_loss": 25.6,
        "loss": 26.0,
        "r2": 0.8,
        "opt_dict": torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9).state_dict(),
        "scheduler_dict": {"step_size": 15, "last_epoch": 45},
    }
    torch.save(content, path)
    return path


def test_a_checkpoint_of_echonet_dynamic_predicts_the_ejection_fraction(tmp_path: Path) -> None:
    theirs = randomize(muybridge.create_model("r2plus1d_18", num_classes=1, width=8, mid_channel_rule="per_block"))
    theirs.fc.bias.data[0] = 55.6
    imported = import_weights(save_as_echonet(theirs, tmp_path / "best.pt"), tmp_path / "ours.safetensors")
    card = imported.card
    assert (card.specification.name, card.specification.norm_epsilon) == ("r2plus1d_18", 1e-5)
    assert card.specification.mid_channel_rule == "per_block"
    assert card.head is not None
    assert (card.task, card.classes, card.head.units) == ("regression", ("EF",), ("%",))
    assert (card.preprocessing.clip_length, card.preprocessing.frame_stride) == (32, 2)
    assert {card.preprocessing.scale_height, card.preprocessing.scale_width, card.preprocessing.crop} == {112}
    assert any("EF in %, as EchoNet-Dynamic trains it" in sentence for sentence in imported.assumptions)
    clip = np.random.default_rng(0).integers(0, 256, (32, 112, 112, 1), np.uint8).repeat(3, axis=3)  # gray, as they are
    mean, std = (np.array(values) for values in (card.preprocessing.mean, card.preprocessing.std))
    with torch.no_grad():
        inputs = torch.from_numpy((clip - mean) / std).float().permute(3, 0, 1, 2)[None]
        expected = plain_logits(theirs.state_dict(), inputs).item()
        ours = muybridge.load(tmp_path / "ours.safetensors", "cpu")
        assert ours(inputs).item() == pytest.approx(expected, rel=1e-5)
    frames = np.repeat(clip, 2, axis=0)[:63]  # one frame in two is the clip
    ((name, value, unit),) = ours.predict(frames, clips=1).values
    assert (name, unit) == ("EF", "%")
    assert value == pytest.approx(expected, rel=0.01)


def test_outputs_of_other_projects_are_of_the_task_that_is_named(tmp_path: Path) -> None:
    network = muybridge.create_model("r3d_10", num_classes=2, width=4)
    torch.save(network.state_dict(), tmp_path / "net.pth")

    def import_as(task: ImportedTask, names: tuple[str, ...] | None = None) -> Card:
        options = ImportOptions(task=task, classes=names, source="muybridge")
        return import_weights(tmp_path / "net.pth", tmp_path / "net.safetensors", options).card

    head = import_as(ImportedTask("regression", ("%", "ml"), (50.0, 9.0), (10.0, 2.0)), ("ef", "esv")).head
    assert head == Head("regression", ("ef", "esv"), "identity", ("%", "ml"), (50.0, 9.0), (10.0, 2.0))
    card = import_as(ImportedTask("ordinal"))
    assert (card.classes, card.head and card.head.outputs) == (("0", "1", "2"), ("above 0", "above 1"))
    assert import_as(ImportedTask("multi_label"), ("hug", "push")).task == "multi_label"
    assert import_as(ImportedTask()).head is None
    with pytest.raises(ValueError, match="3 class names were given, but the network has 2 classes"):
        import_as(ImportedTask("regression"), ("a", "b", "c"))
    with pytest.raises(ValueError, match="units and statistics of targets are of a regression"):
        import_as(ImportedTask("multi_label", ("%", "%")))
    with pytest.raises(ValueError, match=r"head\.target_mean has 1 value for 2 outputs"):
        import_as(ImportedTask("regression", (), (5.0,)))


def test_names_of_the_catalogue_are_of_these_networks() -> None:
    entries = {entry.name: entry for entry in ENTRIES if entry.scheme is not None}
    assert set(entries) == {
        "r2plus1d_34-kinetics400-mmaction2-8f",
        "r2plus1d_34-kinetics400-mmaction2-32f",
        "r2plus1d_50-kinetics400-pytorchvideo",
    }
    for entry in entries.values():
        assert entry.preprocessing.crop == 224
        assert (entry.preprocessing.clip_length, entry.preprocessing.frame_stride) in ((8, 8), (32, 2), (16, 4))
        assert entry.to_json()["norm_epsilon"] == 1e-5
