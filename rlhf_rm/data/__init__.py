"""Sources of preferences, their encoding and packing, and the data modules."""
