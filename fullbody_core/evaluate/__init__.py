"""Measurements, one command each: `fullbody evaluate WHAT`."""
