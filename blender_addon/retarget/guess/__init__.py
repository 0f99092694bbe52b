# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a skeleton's bones is which: by presets, by words in names, by shape."""
