"""The catalogue of public weights: address, preprocessing, licence and published accuracy.

`read_from` is the file that an address was read from. Accuracies are the publishers', each with its protocol; none has been
measured by us. Names are network-data-publisher[-frames].
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from muybridge.records import Preprocessing
from muybridge.weights.importing import NORM_EPSILONS, WeightsSource, make_preprocessing
from muybridge.weights.naming import MMACTION2, PYTORCHVIDEO, NamingScheme

TORCHVISION_FILE = "torchvision/models/video/resnet.py, torchvision 0.28.0"
IG65M_FILE = "ig65m/models.py of moabitcoin/ig65m-pytorch"
VMZ_2018_FILE = "tutorials/models.md of facebookresearch/VMZ"
VMZ_2019_FILE = "c2/tutorials/model_zoo.md of facebookresearch/VMZ"
MMACTION2_FILE = "configs/recognition/r2plus1d/metafile.yml of open-mmlab/mmaction2"
PYTORCHVIDEO_FILE = "pytorchvideo/models/hub/r2plus1d.py of facebookresearch/pytorchvideo"
XDC_FILE = "xdc.py of HumamAlwassel/XDC"
GDT_FILE = "README.md of facebookresearch/GDT"

TORCHVISION_LICENCE = "BSD-3-Clause (torchvision's; its publishers name none for the weights themselves)"
IG65M_LICENCE = "MIT (the repository's)"
VMZ_LICENCE = "Apache-2.0 (the repository's)"


@dataclass(frozen=True)
class CatalogueEntry:
    """One set of public weights."""

    name: str
    network: str  # as in `muybridge models`
    address: str
    read_from: str  # the file that gives the address
    source: WeightsSource | None  # None: `scheme` says what that of others does
    clip_length: int
    licence: str
    published_accuracy: str  # as published, with its protocol; "" where none is given
    sha256_prefix: str | None = None  # None: the publisher gives none
    has_class_names: bool = False  # whether the order of the classes is published: Kinetics-400, alphabetical
    num_classes: int | None = 400  # None: the publishers' files contradict each other, or have no classifier
    frames_per_second: float | None = 15.0
    is_flow: bool = False
    scheme: NamingScheme | None = None  # of a project whose networks are not the paper's
    frame_stride: int = 1
    mean_and_std: tuple[float, float] | None = None  # of all three colours, 0 to 1; None: the paper's or the scheme's

    @property
    def file_name(self) -> str:
        """The publisher's name of the file."""
        return unquote(PurePosixPath(urlsplit(self.address).path).name)

    @property
    def url(self) -> str:
        """The address of the file itself: at the one that VMZ prints, with dl=0, Dropbox shows a page."""
        return self.address.replace("?dl=0", "?dl=1")

    @property
    def classes_file(self) -> Path | None:
        """The file of class names, None if their order is not known."""
        return Path(__file__).with_name("kinetics400.txt") if self.has_class_names else None

    @property
    def preprocessing(self) -> Preprocessing:
        """128x171, crop 112, at the frame rate of training (None: not published); other projects have their own."""
        if self.scheme is not None and self.scheme.preprocessing is not None:
            return replace(self.scheme.preprocessing, clip_length=self.clip_length, frame_stride=self.frame_stride)
        preprocessing = make_preprocessing(2 if self.is_flow else 3, self.clip_length, self.frames_per_second)
        if self.mean_and_std is None:
            return preprocessing
        mean, std = self.mean_and_std
        return replace(preprocessing, mean=(255 * mean,) * 3, std=(255 * std,) * 3)

    def to_json(self) -> dict[str, Any]:
        """The entry as JSON values."""
        return {
            "name": self.name,
            "network": self.network,
            "address": self.address,
            "read_from": self.read_from,
            "sha256_prefix": self.sha256_prefix,
            "published_accuracy": self.published_accuracy or None,
            "num_classes": self.num_classes,
            "class_names_known": self.has_class_names,
            "norm_epsilon": NORM_EPSILONS[self.source] if self.source else 1e-5,
            "preprocessing": self.preprocessing.to_json(),
            "licence": self.licence,
        }


def _torchvision(network: str, prefix: str, top1: str, top5: str) -> CatalogueEntry:
    return CatalogueEntry(
        name=f"{network}-kinetics400-torchvision",
        network=network,
        address=f"https://download.pytorch.org/models/{network}-{prefix}.pth",
        read_from=TORCHVISION_FILE,
        source="torchvision",
        clip_length=16,
        licence=TORCHVISION_LICENCE,
        published_accuracy=f"Kinetics-400 video@1 {top1}, video@5 {top5}: 5 clips of 16 frames a video at 15 frames a second",
        sha256_prefix=prefix,
        has_class_names=True,
    )


def _ig65m(data: str, length: int, prefix: str) -> CatalogueEntry:
    is_fine_tuned = data == "ig65m_kinetics400"
    middle = "ft_kinetics_from_ig65m" if is_fine_tuned else "ig65m_from_scratch"
    return CatalogueEntry(
        name=f"r2plus1d_34-{data}-ig65m-{length}f",
        network="r2plus1d_34",
        address="https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0/"
        f"r2plus1d_34_clip{length}_{middle}-{prefix}.pth",
        read_from=IG65M_FILE,
        source="ig65m",
        clip_length=length,
        licence=IG65M_LICENCE,
        published_accuracy="converted from VMZ's file, see there" if is_fine_tuned else "",
        sha256_prefix=prefix,
        has_class_names=is_fine_tuned,  # its README refers to the alphabetical list
        num_classes=400 if is_fine_tuned else None,  # 359 or 487: sources assign the two numbers in both ways
        frames_per_second=None,
    )


def _vmz18(family: str, length: int, dropbox_id: str, accuracy: str) -> CatalogueEntry:
    """A row of VMZ's first table: 18 layers, from scratch."""
    network = {"r2.5d": "r2plus1d_18", "r2df": "f_r2d_18"}.get(family, f"{family}_18")
    clip, top1, top5 = accuracy.split("/")
    return CatalogueEntry(
        name=f"{network}-kinetics400-vmz-{length}f",
        network=network,
        address=f"https://www.dropbox.com/s/{dropbox_id}/{family}_d18_l{length}.pkl?dl=0",
        read_from=VMZ_2018_FILE,
        source="vmz",
        clip_length=length,
        licence=VMZ_LICENCE,
        published_accuracy=f"Kinetics-400 clip@1 {clip}, video@1 {top1}, video@5 {top5}: 10 uniform clips a video",
    )


def _vmz34(data: str, dropbox_id: str, file: str, accuracy: str, *, is_flow: bool = False) -> CatalogueEntry:
    """A row of VMZ's second table: 34 layers, 32 frames."""
    clip, top1, top5 = accuracy.split("/")
    return CatalogueEntry(
        name=f"r2plus1d_34-{data}-vmz-32f{'-flow' if is_flow else ''}",
        network="r2plus1d_34",
        address=f"https://www.dropbox.com/s/{dropbox_id}/{file}.pkl?dl=0",
        read_from=VMZ_2018_FILE,
        source="vmz",
        clip_length=32,
        licence=VMZ_LICENCE,
        published_accuracy=f"Kinetics-400 clip@1 {clip}, video@1 {top1}, video@5 {top5}: dense clips, centre crops",
        is_flow=is_flow,
    )


def _vmz19(network: str, data: str, length: int, dropbox_path: str, accuracy: str = "") -> CatalogueEntry:
    """A row of VMZ's model zoo of 2019; `dropbox_path` is Dropbox's identifier and the file's name."""
    published_accuracy = ""
    if accuracy:
        top1, top5 = accuracy.split("/")
        published_accuracy = (
            f"Kinetics-400 video@1 {top1}, video@5 {top5}: not the paper's protocol, "
            "the printed cost is that of 128x128"
        )
    return CatalogueEntry(
        name=f"{network}-{data}-vmz-{length}f",
        network=network,
        address=f"https://www.dropbox.com/s/{dropbox_path}.pkl?dl=0",
        read_from=VMZ_2019_FILE,
        source="vmz",
        clip_length=length,
        licence=VMZ_LICENCE,
        published_accuracy=published_accuracy,
        num_classes=400 if "kinetics400" in data else None,
        frames_per_second=None,  # not published for these
    )


def _mmaction2(length: int, stride: int, date_and_hash: str, accuracy: str) -> CatalogueEntry:
    name = f"r2plus1d_r34_{length}x{stride}x1_180e_8xb8_kinetics400_rgb"
    top1, top5 = accuracy.split("/")
    return CatalogueEntry(
        name=f"r2plus1d_34-kinetics400-mmaction2-{length}f",
        network="r2plus1d_34",
        address=f"https://download.openmmlab.com/mmaction/v2.0/recognition/r2plus1d/{name}/{name}_{date_and_hash}.pth",
        read_from=MMACTION2_FILE,
        source=None,
        clip_length=length,
        licence="Apache-2.0 (the repository's)",
        published_accuracy=f"Kinetics-400 video@1 {top1}, video@5 {top5}: 10 clips and 3 crops of 256x256 a video",
        sha256_prefix=date_and_hash.partition("-")[2],
        scheme=MMACTION2,
        frame_stride=stride,
    )


def _xdc(data: str, file: str, ucf101: str, hmdb51: str) -> CatalogueEntry:
    """A row of XDC's table: backbones without a classifier. `file` ends in the hash."""
    return CatalogueEntry(
        name=f"r2plus1d_18-{data}-xdc",
        network="r2plus1d_18",
        address=f"https://github.com/HumamAlwassel/XDC/releases/download/model_weights/r2plus1d_18_{file}.pth",
        read_from=XDC_FILE,
        source="ig65m",  # mid-channels and epsilon of model/r2plus1d_18.py are the same
        clip_length=16,  # and the rate: not in the repository
        licence="MIT (the repository's)",
        published_accuracy=f"UCF101 video@1 {ucf101}, HMDB51 {hmdb51} after fine-tuning, means of the folds",
        sha256_prefix=file.rpartition("-")[2],
        num_classes=None,
        frames_per_second=None,
    )


def _gdt(data: str, file: str, ucf101: str, hmdb51: str) -> CatalogueEntry:
    """A row of GDT's table: torchvision's network, without a classifier, beside one for sound."""
    return CatalogueEntry(
        name=f"r2plus1d_18-{data}-gdt",
        network="r2plus1d_18",
        address=f"https://dl.fbaipublicfiles.com/GDT/gdt_{file}.pth",
        read_from=GDT_FILE,
        source="torchvision",
        clip_length=30,
        licence="Apache-2.0 (the repository's)",
        published_accuracy=f"UCF101 video@1 {ucf101}, HMDB51 {hmdb51} after fine-tuning",
        num_classes=None,
        frames_per_second=30.0,
        mean_and_std=(0.45, 0.225),
    )


_PYTORCHVIDEO_R50 = CatalogueEntry(
    name="r2plus1d_50-kinetics400-pytorchvideo",
    network="r2plus1d_50",
    address="https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/R2PLUS1D_16x4_R50.pyth",
    read_from=PYTORCHVIDEO_FILE,
    source=None,
    clip_length=16,
    licence="Apache-2.0 (the repository's)",
    published_accuracy="Kinetics-400 video@1 76.01",
    scheme=PYTORCHVIDEO,
    frame_stride=4,
)


# fmt: off
ENTRIES: tuple[CatalogueEntry, ...] = (
    _torchvision("r2plus1d_18", "91a641e6", "67.463", "86.175"),
    _torchvision("r3d_18", "b3b3357e", "63.200", "83.479"),
    _torchvision("mc3_18", "a90a0ba3", "63.960", "84.130"),

    _ig65m("ig65m", 8, "9bae36ae"),
    _ig65m("ig65m", 32, "449a7af9"),
    _ig65m("ig65m_kinetics400", 8, "0aa0550b"),
    _ig65m("ig65m_kinetics400", 32, "ade133f1"),

    # "equivalent to Table 2 in the paper", but 0.3 to 0.6 higher than its printed numbers (docs/reproduction.md)
    _vmz18("r2.5d", 8, "wzgx4d80mrh7pnf", "53.2/65.3/85.2"), _vmz18("r2.5d", 16, "94d2ruqn6tp7xno", "57.3/68.5/87.5"),
    _vmz18("r3d", 8, "n3ax2591imcy9ly", "49.8/62.3/83.4"), _vmz18("r3d", 16, "8tqp8uhjmedflu1", "52.9/64.7/85"),
    _vmz18("r2d", 8, "ju4fah9dksn08s1", "47/60/81.2"), _vmz18("r2d", 16, "hyw8ltzvhadxgia", "47.5/59.4/81.3"),
    _vmz18("r2df", 8, "4jexszps3564za3", "48.5/60/81.8"), _vmz18("r2df", 16, "4yy0tdfebdy0ptr", "50.7/60.9/81.9"),
    _vmz18("mc2", 8, "lkmhyjok8odtv8e", "50.6/63/83.8"), _vmz18("mc2", 16, "xmtqk2w3p60yly0", "53.6/64.8/85.1"),
    _vmz18("mc3", 8, "3jxzhc3kduyrpik", "51.1/63.3/84.2"), _vmz18("mc3", 16, "rpgbzjewagjeu2f", "54.1/65.2/85.8"),
    _vmz18("mc4", 8, "vx2xee36et823gs", "50.9/63/84.2"), _vmz18("mc4", 16, "lrjwye0ldsgi2p2", "54.3/65.6/85.6"),
    _vmz18("mc5", 8, "z6fxv6jr30i2lwz", "50.7/62.9/84.2"), _vmz18("mc5", 16, "3qp62d3159rzwsj", "54.1/65.6/85.5"),
    _vmz18("rmc2", 8, "vnjpzq7li2b7tk2", "50.2/62.7/83.9"), _vmz18("rmc2", 16, "70k3p0xz6rjcdtb", "53.5/65.4/85.5"),
    _vmz18("rmc3", 8, "1vwjomlc45ox6u1", "50.2/62.8/83.7"), _vmz18("rmc3", 16, "n8eulubwh6l3o0b", "53.6/65.5/85.7"),
    _vmz18("rmc4", 8, "zots41ng2xs2ezu", "50.3/62.8/83.3"), _vmz18("rmc4", 16, "di3wwadbapc61rn", "53.9/65.6/85.3"),
    _vmz18("rmc5", 8, "3e56jjx6x1qot4x", "49.7/61.6/83.1"), _vmz18("rmc5", 16, "lb5jaji177hid7p", "52.5/63.5/84.2"),

    _vmz34("kinetics400", "y6c6jf7myv2w6iq", "r2.5d_d34_l32", "60.6/72.4/90.6"),
    _vmz34("sports1m_kinetics400", "odd9smqn2t54run", "r2.5d_d34_l32_ft_sports1m", "63.9/74.2/92.1"),
    _vmz34("sports1m_kinetics400", "30zj1t9xte5vy64", "r2.5d_d34_l32_ft_sports1m_optical_flow", "55.9/68.2/88", is_flow=True),

    _vmz19("r2plus1d_34", "ig65m", 8, "6xwyu1az6oy4ts7/r2plus1d_34_clip8_ig65m_from_scratch_f79708462"),
    _vmz19("r2plus1d_34", "ig65m", 32, "eimo232tqw8mwi9/r2plus1d_34_clip32_ig65m_from_scratch_f102649996"),
    _vmz19("r2plus1d_34", "ig65m_kinetics400", 8,
           "p81twy88kwrrcop/r2plus1d_34_clip8_ft_kinetics_from_ig65m_%20f128022400", "74.9/91.8"),
    _vmz19("r2plus1d_34", "ig65m_kinetics400", 32,
           "z41ff7vs0bzf6b8/r2plus1d_34_clip32_ft_kinetics_from_ig65m_%20f106169681", "80.0/94.2"),
    _vmz19("r2plus1d_152", "kinetics400", 32,
           "9770y063u3z5bmb/r2plus1d_152_kinetics_from_scratch_f127858918", "77.3/92.5"),
    _vmz19("r2plus1d_152", "sports1m", 32, "w5cdqeyqukuaqt7/r2plus1d_152_sports1m_from_scratch_f127111290"),
    _vmz19("r2plus1d_152", "sports1m_kinetics400", 32,
           "twvcpe30rxuaf45/r2plus1d_152_ft_kinetics_from_sports1m_f128957437", "79.5/94.0"),
    _vmz19("r2plus1d_152", "ig65m", 32, "oqdg176p7nqc84v/r2plus1d_152_ig65m_from_scratch_f106380637"),
    _vmz19("r2plus1d_152", "ig65m_kinetics400", 32,
           "tmxuae8ubo5gipy/r2plus1d_152_ft_kinetics_from_ig65m_f107107466", "81.6/95.3"),

    _mmaction2(8, 8, "20220812-47cfe041", "69.35/88.32"),
    _mmaction2(32, 2, "20220812-4270588c", "75.27/92.03"),
    _PYTORCHVIDEO_R50,

    _xdc("ig65m_kinetics", "xdc_ig65m_kinetics-f24f6ffb", "95.5", "68.9"),
    _xdc("ig65m_random", "xdc_ig65m_random-189d23f4", "94.6", "66.5"),
    _xdc("audioset", "xdc_audioset-f29ffe8f", "93.0", "63.7"),
    _xdc("kinetics400", "fs_kinetics-622bdad9", "94.2", "65.1"),
    _xdc("imagenet", "fs_imagenet-ff446670", "84.0", "48.1"),
    _gdt("kinetics400", "K400", "90.9", "62.3"),
    _gdt("howto100m", "HT100M", "94.1", "67.4"),
    _gdt("ig65m", "IG65M", "95.2", "72.8"),
)
# fmt: on


def find_entry(name: str) -> CatalogueEntry | None:
    """The entry of this name, or None."""
    return next((entry for entry in ENTRIES if entry.name == name), None)


def suggest_names(name: str) -> list[str]:
    """Up to three names of the catalogue similar to `name`."""
    return difflib.get_close_matches(name, [entry.name for entry in ENTRIES], n=3)


def suggest_init(network: str) -> str:
    """A name of the catalogue to start training of own videos from: weights of this network, else of R(2+1)D-18."""
    names = [entry.name for entry in ENTRIES if entry.network == network and not entry.is_flow]
    return names[0] if names else "r2plus1d_18-kinetics400-torchvision"
