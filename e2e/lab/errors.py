"""The one error that the lab reports to its user without a stack trace."""


class LabError(Exception):
    """Says what happened, to which part, and what to do about it."""
