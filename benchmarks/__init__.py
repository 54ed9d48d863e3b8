"""Measure speed and memory as ratios within one run on one machine."""
