"""Where the core and the Blender add-on meet: skeleton, axes, capture file, character template.

Numpy only: this package runs unchanged inside Blender and imports neither torch nor bpy nor cv2.
"""
