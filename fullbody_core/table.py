"""Figures as a table for the terminal."""


def format_table(header, rows):
    """Right-aligned columns of text. header [C] and rows of [C] strings."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in [header, *rows])
