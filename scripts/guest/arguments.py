# SPDX-License-Identifier: GPL-2.0-or-later
"""NAME=VALUE arguments over the environment, and what may be in them."""

import os
from pathlib import Path

from .errors import UsageError


def read(script, names, switches, arguments, environment):
    """What was asked of @script: ({NAME: VALUE}, switches that were given).

    An empty value stands for the default."""
    values = {name: environment.get(name, '') for name in names}
    given = set()
    for argument in arguments:
        name, equals, value = argument.partition('=')
        if argument in switches:
            given.add(argument)
        elif equals and name in names:
            values[name] = value
        else:
            raise UsageError(f"unknown argument '{argument}' "
                             f'({script} --help lists them)')
    return {name: value for name, value in values.items() if value}, given


def describe(names):
    """The part of a usage text that lists NAMES with their meaning."""
    width = max(map(len, names)) + 1
    return '\n'.join(f'  {name:<{width}} {text}'
                     for name, text in names.items())


def number(values, name, default, largest):
    """A whole number from 1 to @largest."""
    text = values.get(name)
    if text is None:
        return default
    # Not str.isdigit(), which takes other scripts' digits too.
    value = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= value <= largest:
        raise UsageError(f'{name}={text}: must be a whole number from 1 to '
                         f'{largest}')
    return value


def existing_file(name, value, hint=None):
    try:
        # A shell leaves the ~ of NAME=~/file alone, or make does.
        path = Path(value).expanduser()
    except RuntimeError:
        raise UsageError(f'{name}={value}: no such home folder') from None
    if not path.exists():
        raise UsageError(f'{name}={path}: no such file'
                         + (f' ({hint})' if hint else ''))
    if path.is_dir():
        raise UsageError(f'{name}={path}: is a folder')
    return path.absolute()


def program(name, value, hint=None):
    path = existing_file(name, value, hint)
    if not os.access(path, os.X_OK):
        raise UsageError(f'{name}={path}: not executable')
    return path
