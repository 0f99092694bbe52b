"""DetNet: body, hand and face keypoints from one image (Zhou et al. 2021, Sec. 3.2, Fig. 2).

    I_h --/4--> I --MainFeatNet--> F --BasicBody-PoseNet--> K, D, L --with F--> F* --ExtBody-PoseNet--> the complete body
                                                                                F* --one convolution--> H_l, H_r, H_f
    I_h --cut where H_l, H_r say--> I_l, I_r --SuppFeatNet--> supp-features   with F* cut there, and attention
                                                                                --two Hand-PoseNets--> both hands

Where the paper is silent: all maps of the body have a quarter of I's resolution (48 x 64), a hand's a quarter of its image's
(32 x 32), as in minimal-hand (Zhou et al. 2020). Widths are chosen in `SIZES`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from ..contract.npz_file import FileError
from ..contract.skeleton import HAND_21, HAND_BONES
from ..weights import fill_network
from .body_keypoints import BASIC_BODY, BASIC_BONES, EXTENDED_BODIES
from .posenet import PoseMaps, PoseNet, bilinear_crop
from .resnet import ConvNorm, MainFeatNet, SuppFeatNet

FORMAT_NAME, FORMAT_VERSION = "fullbody-detnet", 1

IMAGE_SIZE = (192, 256)
"""px (width, height) of I: the paper's 768 x 1024 (I_h) downscaled by DOWNSCALE."""

DOWNSCALE = 4
CELL = 4
"""px of I, or of a hand image, per cell of the maps."""

HAND_SIZE = 128
"""px of a square hand image: minimal-hand's input."""

HAND_CELLS = HAND_SIZE // CELL


@dataclass(frozen=True)
class DetNetSize:
    """Channel widths. stem, widths, blocks, features: of MainFeatNet; body, hand: inside the PoseNets; supp_stem, supp: of
    SuppFeatNet; shared: of F* after its convolution for a hand."""

    stem: int
    widths: tuple
    blocks: tuple
    features: int
    body: int
    supp_stem: int
    supp: int
    shared: int
    hand: int


SIZES = {
    # A ResNet-34 cut short, and widths with which the state of a training (weights and both moments of Adam) fits in 128 MB.
    "full": DetNetSize(64, (64, 128, 256, 256), (3, 4, 3, 1), 160, 128, 48, 96, 64, 112),
    # A ninth of the work: learns something in an hour and a half on two cores.
    "small": DetNetSize(16, (24, 48, 96, 128), (1, 2, 2, 2), 48, 32, 16, 32, 16, 32),
    # For tests, where only shapes and rules count.
    "tiny": DetNetSize(8, (8, 8, 16, 16), (1, 1, 1, 1), 16, 16, 8, 16, 8, 16),
}


class DetNetMaps(NamedTuple):
    """What DetNet answers with before read-out.

    basic, extended: `PoseMaps` [B, ..., 64, 48] of the basic keypoints, and of each extended definition by name
    heat [B, 3, 64, 48]: H_l, H_r and H_f;  hands: `PoseMaps` [N, ..., 32, 32] of the left and of the right hand
    """

    basic: PoseMaps
    extended: dict
    heat: torch.Tensor
    hands: tuple


class DetNet(nn.Module):
    """The whole network. `body` and `hands` are its two branches; `detnet_predictor` joins them for inference."""

    def __init__(self, size="full", definitions=("smpl",)):
        """size: a name in SIZES; definitions: names in EXTENDED_BODIES, one ExtBody-PoseNet each."""
        super().__init__()
        self.size, self.definitions = size, tuple(definitions)
        widths = SIZES[size]
        self.main = MainFeatNet(widths.stem, widths.widths, widths.blocks, widths.features)
        self.basic = PoseNet(widths.features, len(BASIC_BODY), len(BASIC_BONES), widths.body)
        starred = widths.features + 4 * len(BASIC_BODY) + 3 * len(BASIC_BONES)
        self.extended = nn.ModuleDict(
            {
                name: PoseNet(starred, len(EXTENDED_BODIES[name].names), len(EXTENDED_BODIES[name].bones), widths.body)
                for name in self.definitions
            }
        )
        self.locate = nn.Conv2d(starred, 3, 3, padding=1)
        nn.init.normal_(self.locate.weight, std=1e-3)
        nn.init.zeros_(self.locate.bias)
        self.supp = SuppFeatNet(widths.supp_stem, widths.supp)
        self.share = ConvNorm(starred, widths.shared, kernel=1)
        composed = widths.supp + widths.shared + 1
        self.hand_nets = nn.ModuleList(PoseNet(composed, len(HAND_21), len(HAND_BONES), widths.hand) for _ in range(2))

    def body(self, image, definitions=None):
        """The body branch: image I [B, 3, 256, 192] in 0..1.

        definitions: name to the rows [N] of the batch, in order, that this ExtBody-PoseNet is asked for; None for all of them in
        all rows. Returns (F* [B, C*, 64, 48], `PoseMaps` of the basic keypoints, name to those of the extended ones, heat-maps).
        """
        features = self.main(centred(image))  # F
        basic = self.basic(features)
        starred = torch.cat([features, *basic], 1)  # F*
        rows = dict.fromkeys(self.definitions, slice(None)) if definitions is None else definitions
        extended = {name: self.extended[name](pick_rows(starred, rows[name])) for name in rows}
        return starred, basic, extended, self.locate(starred)

    def body_features(self, starred):
        """What of F* [B, C*, 64, 48] is streamed to the hands: [B, shared, 64, 48].

        The paper cuts and resizes F* and then has one convolution. Without neighbours, as here, convolving and resizing can change
        places, and once for both hands is enough; the rectifier follows in `hands`.
        """
        return self.share(starred)

    def hands(self, features, images, boxes, attention):
        """The hand branch, feature composition with attention (Sec. 3.2.3): `PoseMaps` of the left and of the right hands.

        For each side, left first: features [N, shared, 64, 48] from `body_features`; images [N, 3, 128, 128] in 0..1, not flipped;
        boxes [N, 3] (u, v, w) in cells; attention [N]: whether the features are of a body at all. The sides may have different
        N; for a side without any the answer is None.
        """
        left, right = images
        supp = self.supp(centred(torch.cat([left, right.flip(-1)])))
        supp_left, supp_right = supp.split([len(left), len(right)])
        answers = []
        for net, supp_features, body, box, present in zip(
            self.hand_nets, (supp_left, supp_right.flip(-1)), features, boxes, attention
        ):
            if not len(box):
                answers.append(None)
                continue
            shared = functional.relu(bilinear_crop(body, box, HAND_CELLS))
            channel = present.to(supp_features.dtype)[:, None, None, None].expand(-1, 1, HAND_CELLS, HAND_CELLS)
            answers.append(net(torch.cat([supp_features, shared, channel], 1)))
        return tuple(answers)

    def forward(self, image, hand_images, boxes, present=None, definitions=None):
        """Both branches on B whole samples: I [B, 3, 256, 192], hand images [B, 2, 3, 128, 128] in 0..1, boxes [B, 2, 3] cells.

        present [B]: the attention, by default 1; definitions: as for `body`. Returns `DetNetMaps`.
        """
        starred, basic, extended, heat = self.body(image, definitions)
        present = torch.ones(len(image), device=image.device) if present is None else present
        features = self.body_features(starred)
        hands = self.hands([features] * 2, hand_images.unbind(1), boxes.unbind(1), [present] * 2)
        return DetNetMaps(basic, extended, heat, hands)


def pick_rows(features, rows):
    """The rows of the batch; all of them without a copy."""
    return features if isinstance(rows, slice) or len(rows) == len(features) else features.index_select(0, rows)


def centred(image):
    """Values 0..1 to about -1..1."""
    return 2 * image - 1


def parameter_counts(network):
    """Number of parameters of each module of a DetNet by its name in the paper."""
    modules = {
        "MainFeatNet": [network.main],
        "BasicBody-PoseNet": [network.basic],
        **{f"ExtBody-PoseNet ({name})": [module] for name, module in network.extended.items()},
        "heat-maps": [network.locate],
        "SuppFeatNet": [network.supp],
        "feature composition": [network.share],
        "Hand-PoseNets": list(network.hand_nets),
    }
    return {name: sum(value.numel() for part in parts for value in part.parameters()) for name, parts in modules.items()}


def to_tensors(network):
    """(tensors in half precision, text metadata) of a `DetNet` to store."""
    tensors = {name: _half(value) for name, value in network.state_dict().items()}
    metadata = {
        "format": FORMAT_NAME,
        "version": str(FORMAT_VERSION),
        "size": network.size,
        "definitions": " ".join(network.definitions),
    }
    return tensors, metadata


def _half(value):
    return value.detach().half() if value.is_floating_point() else value.detach()


def from_tensors(tensors, metadata):
    """The `DetNet`, in single precision, from what `to_tensors` gave. Raises `FileError` that names the first misfit."""
    if metadata.get("format") != FORMAT_NAME or metadata.get("version") != str(FORMAT_VERSION):
        raise FileError(f"These are not DetNet weights of format {FORMAT_VERSION}, got {metadata.get('format')!r}.")
    size, definitions = metadata.get("size"), metadata.get("definitions", "").split()
    if size not in SIZES or not set(definitions) <= set(EXTENDED_BODIES):
        raise FileError(f"There is no DetNet of size {size!r} for {', '.join(definitions)}: update fullbody.")
    return fill_network(DetNet(size, definitions), tensors, "DetNet")
