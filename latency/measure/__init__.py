"""Measuring latency tables: packages, backends, campaigns, validation."""
