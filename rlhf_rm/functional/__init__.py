"""Pure maths on per-example tensors: no modules, no Lightning, no Hydra."""
