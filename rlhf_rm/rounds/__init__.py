"""Rounds of iterated RLHF: steps with manifests, and what all rounds say together."""
