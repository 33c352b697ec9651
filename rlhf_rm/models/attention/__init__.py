"""Attention over packed rows: several ways to compute the same."""
