"""Detectors: an image of one person in, keypoints out."""
