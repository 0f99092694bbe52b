# SPDX-License-Identifier: GPL-3.0-or-later
"""Captured motion onto any rigged character: roles and maps, the solver, its way into an action and into files."""
