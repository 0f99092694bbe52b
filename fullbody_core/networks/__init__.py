"""The paper's networks, one a file."""
