"""Losses as modules, thin over :mod:`rlhf_rm.functional`; picked by ``_target_`` in ``conf/loss``."""
