# SPDX-License-Identifier: GPL-3.0-or-later
"""From a person's motion to poses of a character's bones. Numpy only, no bpy."""
