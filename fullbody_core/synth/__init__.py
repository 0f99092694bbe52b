"""Synthetic people: motion and pictures whose truth is known."""
