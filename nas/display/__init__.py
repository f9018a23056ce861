"""What people are shown: tables, plots, progress."""
