# SPDX-License-Identifier: GPL-3.0-or-later
"""Characters out of files and, animated, into them."""
