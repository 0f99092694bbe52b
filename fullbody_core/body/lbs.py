"""Linear blend skinning of an SMPL-H body in torch: shape, pose blend shapes, forward kinematics, skinning.

Zhou et al. 2021, Eq. 1-2, after SMPL (Loper et al. 2015, Eq. 2-10):
    T(beta, theta) = T_mean + B_s(beta) + B_p(theta)         the rest surface, shaped and corrected for the pose
    M(beta, theta) = W(T(beta, theta), J(beta), theta, w)    skinned by weights w about the joints J
with B_s linear in the betas, B_p linear in (R - I) of every joint but the pelvis, and J = J_regressor (T_mean + B_s(beta)).
The joints are therefore linear in the betas too, and are posed without touching a vertex.
"""

import numpy as np
import torch
from torch import nn

from ..contract.character import CharacterTemplate
from .smplh_file import BodyModelFile


class KinematicTree(nn.Module):
    """Forward kinematics one level of the tree at a time: 11 batched products for SMPL-H instead of 51.

    `contract.frames.forward_kinematics` is the plain form of the same thing.
    """

    def __init__(self, parents):
        """parents: [J] ints, -1 for the one root at index 0, parents before their children."""
        super().__init__()
        parents = [int(parent) for parent in parents]
        if parents[0] != -1 or any(not 0 <= parent < joint for joint, parent in enumerate(parents) if joint):
            raise ValueError(f"parents should be one tree with parents first, got {parents}")
        depths = [0]
        for parent in parents[1:]:
            depths.append(depths[parent] + 1)
        levels = [[joint for joint, depth in enumerate(depths) if depth == level] for level in range(max(depths) + 1)]
        self.level_sizes = [len(level) for level in levels]
        order = [joint for level in levels for joint in level]
        place = [levels[depths[joint]].index(joint) for joint in range(len(parents))]
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("inverse_order", torch.argsort(self.order), persistent=False)
        # Where each joint's parent stands inside the level before it; the root stands for itself.
        parent_places = [place[max(parents[joint], 0)] for joint in order]
        self.register_buffer("parent_places", torch.tensor(parent_places), persistent=False)
        self.register_buffer("parents", torch.tensor([0] + parents[1:]), persistent=False)

    def forward(self, rest_joints, rotations):
        """Posed joints and their orientations.

        rest_joints [..., J, 3] m and rotations [..., J, 3, 3] (parent-relative matrices) broadcast over the batch.
        Returns joints [..., J, 3] with the root at its rest place, and joint-to-root-frame rotations [..., J, 3, 3].
        """
        offsets = rest_joints - rest_joints.index_select(-2, self.parents)
        offsets = offsets.index_select(-2, self.order)[..., None]
        rotations = rotations.index_select(-3, self.order)
        place = self.parent_places
        joints = [rest_joints[..., :1, :, None]]
        orientations = [rotations[..., :1, :, :]]
        first = 1
        for size in self.level_sizes[1:]:
            level = slice(first, first + size)
            parent_orientations = orientations[-1].index_select(-3, place[level])
            parent_joints = joints[-1].index_select(-3, place[level])
            joints.append(parent_joints + parent_orientations @ offsets[..., level, :, :])
            orientations.append(parent_orientations @ rotations[..., level, :, :])
            first += size
        batch = torch.broadcast_shapes(rest_joints.shape[:-2], rotations.shape[:-3])
        joints = torch.cat([level.expand(batch + level.shape[-3:]) for level in joints], -3)[..., 0]
        orientations = torch.cat([level.expand(batch + level.shape[-3:]) for level in orientations], -3)
        return joints.index_select(-2, self.inverse_order), orientations.index_select(-3, self.inverse_order)


class BodyModel(nn.Module):
    """A body of the SMPL-H schema, ready to shape and pose in batches. Holds buffers only, nothing to train.

    Betas are [B, S] (S = 16), rotations [B, 52, 3, 3] parent-relative matrices with the pelvis's as the global one,
    translation [B, 3] m is SMPL's `trans`: the pelvis turns about its rest place, and then everything moves by it.
    """

    def __init__(self, file, dtype=torch.float32):
        """file: `BodyModelFile`. dtype: torch.float32 or torch.float64, of all buffers and results."""
        super().__init__()
        self.file = file
        self.joint_names = file.joint_names
        self.joint_parents = tuple(int(parent) for parent in file.parents)
        self.landmarks = dict(file.landmarks)
        self.tree = KinematicTree(file.parents)

        def keep(name, array):
            self.register_buffer(name, torch.as_tensor(np.asarray(array), dtype=dtype), persistent=False)

        keep("v_template", file.v_template)
        keep("shapedirs", file.shapedirs)
        keep("weights", file.weights)
        keep("joint_template", file.rest_joints)
        keep("joint_shapedirs", file.joint_shapedirs)
        # Without pose blend shapes (the open body) the 459-column product is left out.
        keep("posedirs", file.posedirs if np.any(file.posedirs) else np.zeros((0, 3, 0)))
        self.register_buffer("faces", torch.as_tensor(file.f.astype(np.int64)), persistent=False)

    @classmethod
    def load(cls, path, dtype=torch.float32):
        """From a body model file. Raises `BodyModelError`."""
        return cls(BodyModelFile.load(path), dtype)

    @property
    def shape_size(self):
        return self.shapedirs.shape[-1]

    @property
    def dtype(self):
        return self.v_template.dtype

    @property
    def device(self):
        return self.v_template.device

    def rest_joints(self, betas):
        """Joints [B, 52, 3] m of the unposed body of shape betas [B, S]."""
        return self.joint_template + torch.einsum("jcs,bs->bjc", self.joint_shapedirs, betas)

    def rest_vertices(self, betas, vertices=slice(None)):
        """Surface [B, V, 3] m of the unposed body of shape betas [B, S], or only of the given vertices."""
        return self.v_template[vertices] + torch.einsum("vcs,bs->bvc", self.shapedirs[vertices], betas)

    def posed_joints(self, betas, rotations, translation):
        """Posed joints [B, 52, 3] m; no vertex is touched."""
        return self.joint_poses(betas, rotations, translation)[0]

    def joint_poses(self, betas, rotations, translation):
        """Posed joints [B, 52, 3] m and their orientations [B, 52, 3, 3] (joint to the frame of `translation`)."""
        joints, orientations = self.tree(self.rest_joints(betas), rotations)
        return joints + translation[..., None, :], orientations

    def forward(self, betas, rotations, translation):
        """Posed vertices [B, V, 3] m and joints [B, 52, 3] m."""
        return self._skin(betas, rotations, translation, slice(None))

    def posed_points(self, betas, rotations, translation, vertices):
        """Posed surface points [B, P, 3] m of vertex indices [P], and joints [B, 52, 3] m: skins those points only."""
        return self._skin(betas, rotations, translation, torch.as_tensor(vertices, device=self.device))

    def _skin(self, betas, rotations, translation, vertices):
        rest_joints = self.rest_joints(betas)
        joints, orientations = self.tree(rest_joints, rotations)
        surface = self.rest_vertices(betas, vertices)
        if self.posedirs.shape[-1]:
            feature = (rotations[:, 1:] - torch.eye(3, dtype=self.dtype, device=self.device)).flatten(1)
            surface = surface + torch.einsum("vcp,bp->bvc", self.posedirs[vertices], feature)
        # A rest point x follows joint k to orientation_k (x - rest_k) + posed_k, written as one 3x4 matrix per joint.
        shifts = joints - (orientations @ rest_joints[..., None])[..., 0]
        transforms = torch.cat([orientations, shifts[..., None]], -1).flatten(-2)  # [B, 52, 12]
        blended = (self.weights[vertices] @ transforms).unflatten(-1, (3, 4))  # [B, V, 3, 4]
        posed = (blended[..., :3] @ surface[..., None])[..., 0] + blended[..., 3]
        return posed + translation[:, None], joints + translation[:, None]


def to_character_template(file):
    """The character that Blender builds from a body model alone: quads where the model has them, triangles otherwise.

    file: `BodyModelFile`. Returns `CharacterTemplate`, its joints at betas = 0. `full_body` gives it a face.
    """
    faces, texture_faces = (file.quads, file.quads_ft) if len(file.quads) else (file.f, file.ft)
    uv = file.vt[texture_faces] if len(file.vt) else np.zeros(faces.shape + (2,), np.float32)
    return CharacterTemplate(
        vertices=file.v_template,
        faces=faces,
        uv=uv,
        joint_names=tuple(file.joint_names),
        parents=np.asarray(file.parents, np.int32),
        joints=file.rest_joints.astype(np.float32),
        weights=file.weights,
        shapedirs=file.shapedirs,
        joint_shapedirs=file.joint_shapedirs.astype(np.float32),
        posedirs=file.posedirs if np.any(file.posedirs) else None,
        meta={"name": file.meta.get("name"), "licence": file.meta.get("licence"), "body_sha256": file.sha256},
    )
