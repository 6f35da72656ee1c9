# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors that a user can act on: one line each, no traceback."""


class RunError(Exception):
    """The run failed; str() says why in one line, details may follow."""

    exit_code = 1

    def __init__(self, message, details=()):
        super().__init__(message)
        self.details = list(details)


class UsageError(RunError):
    """The request makes no sense; nothing was started."""

    exit_code = 2
