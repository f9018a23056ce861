"""What can be built: declared search spaces and the networks that they describe."""
