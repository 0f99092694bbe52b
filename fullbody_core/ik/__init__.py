"""Inverse kinematics: from keypoints to joint rotations and body shape."""
