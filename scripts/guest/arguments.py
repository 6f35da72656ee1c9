# SPDX-License-Identifier: GPL-2.0-or-later
"""NAME=VALUE arguments over the environment, and what may be in them."""

import difflib
import os
from pathlib import Path

from .errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


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
            like = difflib.get_close_matches(name, [*names, *switches], 1)
            hint = f'did you mean {like[0]}?' if like else \
                f'{script} --help lists them'
            raise UsageError(f"unknown argument '{argument}' ({hint})")
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


def home_path(name, value):
    try:
        # A shell leaves the ~ of NAME=~/file alone, or make does.
        return Path(value).expanduser()
    except RuntimeError:
        raise UsageError(f'{name}={value}: no such home folder') from None


def existing_file(name, value, hint=None):
    path = home_path(name, value)
    if not path.exists():
        raise UsageError(f'{name}={path}: no such file'
                         + (f' ({hint})' if hint else ''))
    if path.is_dir():
        raise UsageError(f'{name}={path}: is a folder')
    return path.absolute()


def build_folder(values):
    """What BUILD= names, seen from the current folder; else build/."""
    return home_path('BUILD', values.get('BUILD') or ROOT / 'build').absolute()


def program(name, value, build, checking=False):
    """The path of a program.  If only arguments are checked, it may be
    missing, because a build may still have to make it."""
    path = home_path(name, value).absolute()
    if checking and not path.exists() and build in path.parents:
        return path
    path = existing_file(name, value, 'build it with make')
    if not os.access(path, os.X_OK):
        raise UsageError(f'{name}={path}: not executable')
    return path
