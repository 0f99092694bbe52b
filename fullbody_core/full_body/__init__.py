"""A body model and a face model as one: where the face belongs, the boundaries, and the bridges of pairs that are kept."""
