"""The search: experiments, searchers, workers, record, fronts and the command line."""

__version__ = "0.1.0"
