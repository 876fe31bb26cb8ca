"""Weights as arrays ``[target unit, source unit, y, x]``."""

from .direct import direct_weights as direct_weights
