"""Markerless full-body motion capture: video in, SMPL-H motion out (Zhou et al., CVPR 2021)."""

__version__ = "0.1.0"
