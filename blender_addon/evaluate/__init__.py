# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that `fullbody evaluate` and `fullbody bench` run in Blender, and nobody else: the extension's zip leaves them out."""
