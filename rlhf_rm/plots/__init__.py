"""How figures look, and those that more than one command draws; each from numbers as they lie in JSON."""
