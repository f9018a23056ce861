"""What an architecture costs on a device: lowering, tables and the oracle."""
