"""The learned-codec family: blocks, networks and transforms."""
