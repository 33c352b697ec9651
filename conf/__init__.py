"""Every default of the project, as Hydra configuration."""
