"""Searchers: ask for architectures, tell results."""
