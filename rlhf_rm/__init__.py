"""Reward modelling for RLHF that survives real preference data."""

__version__ = "0.1.0"
