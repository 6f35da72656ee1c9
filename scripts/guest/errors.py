# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors that a user can act on: one line each, no traceback."""


def told(error):
    """An OSError in words, without Python's number for it."""
    path = error.filename2 or error.filename
    if not error.strerror:
        return str(error)
    return f'{path}: {error.strerror}' if path else error.strerror


class RunError(Exception):
    """The run failed; str() says why in one line, details may follow."""

    exit_code = 1

    def __init__(self, message, details=()):
        super().__init__(message)
        self.details = list(details)


class UsageError(RunError):
    """The request makes no sense; nothing was started."""

    exit_code = 2
