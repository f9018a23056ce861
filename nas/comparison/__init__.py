"""A codec beside others on the same photographs: files, curves, BD-rates, a page."""
