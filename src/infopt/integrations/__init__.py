"""Where people train: engines made while a model learns (see docs/training.md)."""
