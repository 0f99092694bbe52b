"""Whole-clip refinement: one optimisation over all frames of a clip, and what it needs to know of the floor and the feet."""
