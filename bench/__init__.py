"""Measurements, side by side and as ratios: `make bench`."""
