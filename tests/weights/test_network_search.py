"""The one network of a checkpoint, under any key, with any classifier or none."""

import pytest

from muybridge.models.network import create_model
from muybridge.weights.network_search import Shapes, describe_left_out, find_networks

STATE = {
    name: tuple(tensor.shape)
    for name, tensor in create_model("r2plus1d_10", num_classes=4, width=4, mid_channel_rule="per_block")
    .state_dict()
    .items()
}
BODY = {name: shape for name, shape in STATE.items() if not name.startswith("fc.")}


def at(prefix: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("shapes", "prefix", "head"),
    [
        (STATE, "", "fc"),
        (at("state_dict.module.", STATE), "state_dict.module.", "state_dict.module.fc"),
        (BODY, "", None),
        ({**BODY, "fc.1.weight": (4, 32), "fc.1.bias": (4,)}, "", "fc.1"),
        ({**BODY, "head.weight": (4, 32)}, "", "head"),
        ({**at("backbone.", BODY), "head.weight": (4, 32), "head.bias": (4,)}, "backbone.", "head"),
        (
            {**at("encoder.", BODY), "cls_head.fc_cls.weight": (4, 32), "cls_head.loss.w": (4,)},
            "encoder.",
            "cls_head.fc_cls",
        ),
        ({**at("model.net.", BODY), "model.fc.weight": (4, 32), "fc.weight": (9, 9)}, "model.net.", "model.fc"),
        ({**BODY, "fc.0.weight": (8, 32), "fc.3.weight": (4, 8)}, "", None),  # a projection head
        ({**BODY, "fc.0.weight": (32, 32), "fc.1.running_var": (32,), "fc.3.weight": (4, 32)}, "", None),
        ({**STATE, "aux.weight": (7, 32)}, "", "fc"),
        (
            {**at("v.", BODY), "a.conv1.weight": (4, 1, 7, 7), "mlp.2.weight": (8, 32), "mlp.4.weight": (8, 8)},
            "v.",
            None,
        ),
    ],
)
def test_network_and_classifier_are_found(shapes: Shapes, prefix: str, head: str | None) -> None:
    (network,) = find_networks(shapes)
    assert (network.prefix, network.head, network.num_features) == (prefix, head, 32)
    assert set(BODY) <= set(network.paths)
    assert network.paths["stem.0.weight"] == f"{prefix}stem.0.weight"
    assert network.paths.get("fc.weight") == (head and f"{head}.weight")


def test_two_networks_keep_their_own_classifier() -> None:
    first, second = find_networks({**at("model.", STATE), **at("ema.module.", STATE)})
    assert (first.head, second.head) == ("model.fc", "ema.module.fc")


def test_an_incomplete_copy_is_no_candidate() -> None:
    parameters = {name: shape for name, shape in STATE.items() if "running" not in name}
    (network,) = find_networks({**at("model.", STATE), **at("ema.", parameters)})
    assert network.prefix == "model."


def test_several_classifiers_are_named_and_chosen() -> None:
    shapes = {**BODY, "fc_verb.weight": (4, 32), "fc_noun.weight": (9, 32)}
    with pytest.raises(ValueError, match=r"2 classifiers fit, fc_verb and fc_noun; choose one with --head"):
        find_networks(shapes)
    assert find_networks(shapes, "fc_noun")[0].head == "fc_noun"
    assert find_networks(shapes, "none")[0].head is None
    with pytest.raises(ValueError, match=r"0 classifiers are called fc; there are fc_verb, fc_noun"):
        find_networks(shapes, "fc")


def test_what_is_missing_is_said_with_its_place() -> None:
    broken = at("net.", {name: shape for name, shape in STATE.items() if name != "layer2.0.conv1.1.bias"})
    with pytest.raises(ValueError, match=r"layer2.0.conv1.1.bias \(8,\) is missing \(under net\)"):
        find_networks(broken)


def test_what_was_left_out_is_grouped_by_its_beginning() -> None:
    used = {"model.net.stem.0.weight", "model.net.fc.weight"}
    others = ["optimizer.state.0.exp_avg", "optimizer.state.1.exp_avg", "model.audio.conv1.weight", "model.net.aux"]
    assert describe_left_out([*used, *others], used) == ["optimizer (2 tensors)", "model.audio", "model.net.aux"]
    assert describe_left_out([f"x{index}" for index in range(20)], used)[-1] == "and 12 more groups"


def test_a_network_is_chosen_by_its_place_or_the_end_of_it() -> None:
    shapes = {**at("model.", STATE), **at("ema_model.", STATE), **at("swa.model.", STATE), **STATE}
    for place in ("model", "ema_model", "swa.model", "the top level"):  # as messages name them
        (network,) = find_networks(shapes, place=place)
        assert network.place == place
    assert find_networks(at("ema.module.", STATE), place="module")[0].prefix == "ema.module."
    with pytest.raises(
        ValueError, match=r"has 0 networks under del; there are model and ema_model and swa\.model and the"
    ):
        find_networks(shapes, place="del")
    with pytest.raises(ValueError, match=r"has 2 networks under model; there are a\.model and b\.model"):
        find_networks({**at("a.model.", STATE), **at("b.model.", STATE)}, place="model")


def test_a_classifier_is_chosen_by_its_name_or_the_end_of_it() -> None:
    shapes = {**BODY, "verb.weight": (4, 32), "aux.verb.weight": (4, 32)}
    with pytest.raises(ValueError, match=r"2 classifiers fit, verb and aux\.verb; choose one with --head"):
        find_networks(shapes)
    for head in ("verb", "aux.verb"):
        assert find_networks(shapes, head)[0].head == head


def test_the_classifiers_of_other_networks_do_not_stand_in_the_way() -> None:
    heads = {"verb.weight": (4, 32), "noun.weight": (9, 32)}
    shapes = {**at("model.", {**BODY, **heads}), **at("ema.", STATE)}
    with pytest.raises(ValueError, match=r"2 classifiers fit, model\.verb and model\.noun; choose one with --head"):
        find_networks(shapes)
    assert [network.head for network in find_networks(shapes, place="ema")] == ["ema.fc"]
    assert [network.head for network in find_networks(shapes, "model.noun")] == ["model.noun"]
