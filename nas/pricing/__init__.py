"""What architectures cost before they are trained, and the budget that is held against it."""
