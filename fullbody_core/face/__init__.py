"""The face: any 3D morphable model, its capture from pictures, and its light."""
