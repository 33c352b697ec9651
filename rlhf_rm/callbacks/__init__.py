"""Progress, checkpoints, loggers and figures."""
