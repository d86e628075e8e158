"""Find the one complete network in a checkpoint, under any key and prefix, with any linear classifier or none.

Input: the shapes of all tensors of a file by path, such as `state_dict.module.backbone.stem.0.weight`. Output: the path of each
tensor of the network, and what was left. A network is found by the name of its first convolution, torchvision's or that of
another project (`naming.py`); what precedes it is its prefix. Other architectures are refused with their owner
(`other_architectures.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from muybridge.text import format_count
from muybridge.weights.architecture import infer_specification
from muybridge.weights.naming import SCHEMES, NamingScheme
from muybridge.weights.other_architectures import describe_architecture
from muybridge.weights.tensor_checks import COUNTER, VARIANCE

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
_MAX_LISTED = 8  # groups of tensors that were left out
NO_HEAD = "none"  # in place of the path of a classifier


@dataclass(frozen=True)
class FoundNetwork:
    """Where a network lies in a file: the path of each tensor by our name. `head` is the classifier's path, None for none."""

    prefix: str
    paths: dict[str, str]
    head: str | None
    num_features: int
    scheme: NamingScheme

    @property
    def place(self) -> str:
        """The prefix, or a phrase for none."""
        return _format_place(self.prefix)


def find_networks(shapes: Shapes, head: str | None = None, place: str | None = None) -> list[FoundNetwork]:
    """All complete networks among these tensors, or the one at `place`, such as `ema.module` or "the top level".

    `head` is the path of the classifier, such as `fc_verb`, or "none"; where one network has this classifier, those without it
    do not count. ValueError if there is no network, or a network or classifier cannot be chosen.
    """
    starts = [(scheme, prefix) for scheme in SCHEMES for prefix in scheme.find_prefixes(_list_convolutions(shapes))]
    prefixes = [prefix for _, prefix in starts]
    bodies, problems = [], []
    for scheme, prefix in starts:
        try:
            bodies.append((scheme, prefix, _find_body(shapes, prefix, scheme)))
        except ValueError as error:
            owner = f"it has the names of {scheme.owner}, but " if scheme.owner else ""
            problems.append(f"{owner}{error}" + (f" (under {prefix.rstrip('.')})" if prefix else ""))
    if problems and not bodies:
        raise ValueError(problems[0] + (f" (and {len(problems) - 1} more incomplete networks)" if problems[1:] else ""))
    if not bodies:
        raise ValueError(describe_architecture(shapes))
    chosen = None if place is None else _choose_place(place, [_format_place(prefix) for _, prefix, _ in bodies])
    networks, head_errors = [], []
    for scheme, prefix, body in bodies:
        if chosen not in (None, _format_place(prefix)):
            continue
        others = [other for other in prefixes if other != prefix and other.startswith(prefix.rpartition(".")[0])]
        try:
            networks.append(_add_head(shapes, prefix, body, scheme, others=others, head=head))
        except ValueError as error:
            head_errors.append(error)
    if head_errors and (head is None or not networks):
        raise head_errors[0]
    return networks


def _format_place(prefix: str) -> str:
    """A prefix as people write it, or a phrase for none."""
    return prefix.rstrip(".") or "the top level"


def _choose_place(wanted: str, places: Sequence[str]) -> str:
    matching = _match_path(_format_place(wanted), places)
    if len(matching) != 1:
        raise ValueError(
            f"it has {format_count(len(matching), 'network')} under {wanted}; there are {' and '.join(places)}"
        )
    return matching[0]


def _match_path(wanted: str, paths: Sequence[str]) -> list[str]:
    """The path that is `wanted`, else those that end with it, after a dot."""
    return [path for path in paths if path == wanted] or [path for path in paths if path.endswith(f".{wanted}")]


def _list_convolutions(shapes: Shapes) -> list[str]:
    """The paths of weights of 3-D convolutions, and of whatever has torchvision's name of one."""
    return [path for path, shape in shapes.items() if len(shape) == 5 or path.endswith("stem.0.weight")]


def _find_body(shapes: Shapes, prefix: str, scheme: NamingScheme) -> dict[str, str]:
    """The paths of the tensors of stem and stages by our names. ValueError if they are not those of a network."""
    renamed = {path: scheme.rename(path.removeprefix(prefix)) for path in shapes if path.startswith(prefix)}
    body = {name: path for path, name in renamed.items() if name is not None}
    if scheme.owner and not any(".downsample." in name for name in body):
        raise ValueError("its shortcuts have no weights (type A), expected convolutions")
    candidate = {name: shapes[path] for name, path in body.items()}
    for name in [name for name in candidate if name.endswith(VARIANCE)]:
        candidate.setdefault(f"{name.removesuffix(VARIANCE)}{COUNTER}", ())
    infer_specification(
        {**candidate, "fc.weight": (1, _count_features(candidate)), "fc.bias": (1,)}, traits=scheme.traits
    )
    return body


def _count_features(shapes: Shapes) -> int:
    """The channels of conv5's blocks, which the last norm of its first block shows."""
    for name in ("layer4.0.conv3.1.running_var", "layer4.0.conv2.1.running_var"):
        if name in shapes and len(shapes[name]) == 1:
            return shapes[name][0]
    raise ValueError("there is no layer4.0, so the network is not complete")


def _add_head(
    shapes: Shapes,
    prefix: str,
    body: dict[str, str],
    scheme: NamingScheme,
    *,
    others: Sequence[str],
    head: str | None,
) -> FoundNetwork:
    num_features = _count_features({name: shapes[path] for name, path in body.items()})
    chosen = _choose_head(shapes, prefix, set(body.values()), num_features=num_features, others=others, head=head)
    paths = dict(body)
    if chosen is not None:
        paths["fc.weight"] = f"{chosen}.weight"
        if f"{chosen}.bias" in shapes:
            paths["fc.bias"] = f"{chosen}.bias"
    return FoundNetwork(prefix, paths, chosen, num_features, scheme)


def _choose_head(
    shapes: Shapes, prefix: str, body: set[str], *, num_features: int, others: Sequence[str], head: str | None
) -> str | None:
    """The path of the one linear layer on the features, None for none. `fc` beside the stages is preferred to others.

    Layers beside the network are looked for too: with the prefix `model.backbone.`, below `model.`.
    """
    if head == NO_HEAD:
        return None
    parent = prefix.rstrip(".").rpartition(".")[0]
    scopes = [prefix] + ([f"{parent}." if parent else ""] if prefix else [])
    candidates: list[str] = []
    for scope in scopes:
        near = [
            path
            for path in shapes
            if path.startswith(scope)
            and path not in body
            and not any(path.startswith(other) for other in others if other)
        ]
        candidates += [path for path in _list_linear_heads(near, shapes, scope, num_features) if path not in candidates]
    if head is not None:
        matching = _match_path(head, candidates)
        if len(matching) != 1:
            raise ValueError(
                f"{format_count(len(matching), 'classifier', 'is')} called {head}; there are {', '.join(candidates) or 'none'}"
            )
        return matching[0]
    preferred = [path for path in candidates if path == f"{prefix}fc"] or candidates
    if len(preferred) > 1:
        raise ValueError(
            f"{len(preferred)} classifiers fit, {' and '.join(preferred[:3])}; choose one with --head, or --head none"
        )
    return preferred[0] if preferred else None


def _list_linear_heads(paths: Sequence[str], shapes: Shapes, scope: str, num_features: int) -> list[str]:
    """Linear layers on the features that are the only layer with weights of their module: `fc`, `fc.1`, `cls_head.fc_cls`."""
    modules: dict[str, list[str]] = {}
    for path in paths:
        modules.setdefault(path.removeprefix(scope).partition(".")[0], []).append(path)
    heads = []
    for members in modules.values():
        weights = [path for path in members if path.endswith((".weight", VARIANCE)) and len(shapes[path]) > 0]
        if len(weights) == 1 and len(shapes[weights[0]]) == 2 and shapes[weights[0]][1] == num_features:
            heads.append(weights[0].removesuffix(".weight"))
    return heads


def describe_left_out(paths: Sequence[str], used: set[str]) -> list[str]:
    """What of a file was not used, by the shortest beginning that nothing used shares: `optimizer (122 tensors)`."""
    shared = {path[: end + 1] for path in used for end, letter in enumerate(path) if letter == "."}
    groups: Counter[str] = Counter()
    for path in paths:
        if path not in used:
            parts = path.split(".")
            beginnings = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
            groups[next((start for start in beginnings if f"{start}." not in shared), path)] += 1
    clauses = [f"{name} ({format_count(count, 'tensor')})" if count > 1 else name for name, count in groups.items()]
    num_hidden = len(clauses) - _MAX_LISTED
    return clauses[:_MAX_LISTED] + ([f"and {format_count(num_hidden, 'more group')}"] if num_hidden > 0 else [])
