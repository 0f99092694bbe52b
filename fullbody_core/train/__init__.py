"""Training of the project's networks."""
