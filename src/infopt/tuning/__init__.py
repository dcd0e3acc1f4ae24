"""Which nodes of a model bear a lower precision, and what to do about those that do not."""
