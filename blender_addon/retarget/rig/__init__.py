# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a character in Blender, and writing its action."""
