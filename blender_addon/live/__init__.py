# SPDX-License-Identifier: GPL-3.0-or-later
"""The live link: a person before a camera moves a character, and takes are recorded. The core runs as a child process."""
