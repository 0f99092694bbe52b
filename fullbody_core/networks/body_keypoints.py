"""The body keypoints of DetNet: a basic set that every dataset agrees on, and an extended set for each dataset's definition.

Zhou et al. 2021, Sec. 3.2.1 and supplementary Sec. 3 "Keypoint Definitions". The names of the extended keypoints are those of
the datasets; the same name in two definitions need not be the same place, which is why each has a PoseNet of its own.
"""

from dataclasses import dataclass

from ..contract.skeleton import SIDES, SMPL_33, SMPL_BONES, mirror_names

BASIC_BODY = ("pelvis",) + tuple(f"{side}_{name}" for name in ("elbow", "wrist", "knee", "ankle") for side in SIDES)
"""The universal basic keypoints. The pelvis is the root."""

BASIC_BONES = tuple(
    (BASIC_BODY.index(parent.format(side)), BASIC_BODY.index(child.format(side)))
    for parent, child in (("pelvis", "{}_elbow"), ("{}_elbow", "{}_wrist"), ("pelvis", "{}_knee"), ("{}_knee", "{}_ankle"))
    for side in SIDES
)
"""(parent, child) indices into BASIC_BODY, for the delta-maps."""


@dataclass(frozen=True)
class ExtendedBody:
    """One dataset definition's keypoints beyond the basic ones.

    name: of the definition; names: its extended keypoints; parents: for each of them the keypoint, basic or extended, that its
    bone starts at.
    """

    name: str
    names: tuple
    parents: tuple

    def __post_init__(self):
        if len(self.names) != len(self.parents) or not set(self.parents) <= set(self.complete):
            raise ValueError(f"body definition {self.name!r} needs one known parent for each extended keypoint")

    @property
    def complete(self):
        """Names of the complete body keypoints: the basic ones first."""
        return BASIC_BODY + self.names

    @property
    def bones(self):
        """(parent, child) indices into `complete`, one for each extended keypoint."""
        return tuple((self.complete.index(parent), len(BASIC_BODY) + child) for child, parent in enumerate(self.parents))

    @property
    def mirror(self):
        """For each complete keypoint the index of its counterpart on the other side."""
        return tuple(mirror_names(self.complete))


def _paired(pairs):
    """((child, parent), ...) with {} for the side, as ExtendedBody's names and parents, left before right."""
    pairs = [
        (child.format(side), parent.format(side)) for child, parent in pairs for side in (SIDES if "{}" in child else ("",))
    ]
    names, parents = zip(*pairs)
    return names, parents


_SMPL_PARENTS = {SMPL_33.names[child]: SMPL_33.names[parent] for parent, child in SMPL_BONES}

_SMPL_NAMES = tuple(name for name in SMPL_33.names if name not in BASIC_BODY)

EXTENDED_BODIES = {
    body.name: body
    for body in (
        ExtendedBody("smpl", _SMPL_NAMES, tuple(_SMPL_PARENTS[name] for name in _SMPL_NAMES)),
        ExtendedBody(
            "coco",
            *_paired(
                [("nose", "pelvis"), ("{}_eye", "nose"), ("{}_ear", "{}_eye"), ("{}_shoulder", "{}_elbow"), ("{}_hip", "{}_knee")]
            ),
        ),
        ExtendedBody(
            "mpii",
            *_paired(
                [("thorax", "pelvis"), ("upper_neck", "thorax"), ("head_top", "upper_neck")]
                + [("{}_shoulder", "thorax"), ("{}_hip", "pelvis")]
            ),
        ),
        ExtendedBody(
            "h36m",
            *_paired(
                [("spine", "pelvis"), ("neck", "spine"), ("nose", "neck"), ("head_top", "nose")]
                + [("{}_shoulder", "neck"), ("{}_hip", "pelvis")]
            ),
        ),
        ExtendedBody(
            "mpi_inf_3dhp",
            *_paired(
                [("spine", "pelvis"), ("spine2", "spine"), ("spine3", "spine2"), ("spine4", "spine3"), ("neck", "spine4")]
                + [("head", "neck"), ("head_top", "head"), ("{}_clavicle", "spine4"), ("{}_shoulder", "{}_clavicle")]
                + [("{}_hand", "{}_wrist"), ("{}_hip", "pelvis"), ("{}_foot", "{}_ankle"), ("{}_toe", "{}_foot")]
            ),
        ),
        ExtendedBody(
            "mtc",
            *_paired(
                [("neck", "pelvis"), ("nose", "neck"), ("{}_eye", "nose"), ("{}_ear", "{}_eye")]
                + [("{}_shoulder", "neck"), ("{}_hip", "pelvis")]
            ),
        ),
    )
}  # fmt: skip
"""The registry, by name. HUMBI and SPIN speak "smpl", the paper's 33 keypoints on SMPL, which BodyIKNet reads."""

DEFINITION_NAMES = tuple(EXTENDED_BODIES)

MOST_KEYPOINTS = max(len(body.complete) for body in EXTENDED_BODIES.values())
"""Of a complete body: 33. Samples of the smaller definitions are filled up to it."""
