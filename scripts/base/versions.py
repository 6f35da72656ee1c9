# Files of ours as they are for one version of QEMU.
#
# In this tree they fit several versions, by include/qemu/base-version.h.  A
# branch for one version does not have that file: each "#if BASE_SINCE(...)" is
# resolved, and names that the header defines are replaced by what they stand
# for.
#
# New parts of QMP have a vendor's prefix here, and a version of this tree.
# Upstream uses no prefix, and would name a release of its own.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import re

from term import Refusal

HEADER = 'include/qemu/base-version.h'
INCLUDE = '#include "qemu/base-version.h"\n'
# The release of QEMU that new commands would come with
NEXT_RELEASE = '11.2'
FUNCTION = re.compile(r'\bqmp___org_qemu_mq_(\w+)')
SINCE = re.compile(r'#if BASE_SINCE\((\d+), (\d+)\)$')


def number(version):
    return [int(part) for part in version.split('.')]


def choose(text, version):
    """@text without its "#if BASE_SINCE(...)"."""
    kept, taken = [], []    # of each "#if" around a line; None: not ours
    for line in text.splitlines(keepends=True):
        word = re.match(r'#(if|else|elif|endif)', line)
        since = SINCE.match(line.rstrip())
        ours = False
        if since:
            taken.append(number(version) >= [int(part) for part
                                             in since.groups()])
            ours = True
        elif word and word[1] == 'if':
            taken.append(None)
        elif word and taken:
            ours = taken[-1] is not None
            if word[1] == 'endif':
                taken.pop()
            elif ours and word[1] == 'elif':
                raise Refusal('a choice by BASE_SINCE has an #elif')
            elif ours:
                taken[-1] = not taken[-1]
        if not ours and False not in taken:
            kept.append(line)
    return ''.join(kept)


def definitions(header, version):
    """{name: (parameters or None, what it stands for)}"""
    text = choose(header, version).replace('\\\n', '')
    found = {name: (None, what) for what, name
             in re.findall(r'^typedef (.*) (\w+);', text, re.M)}
    for name, parameters, what in re.findall(
            r'^#define (\w+)(?:\((.*?)\))? +(\w.*)', text, re.M):
        if name != 'BASE_SINCE':
            found[name] = (re.findall(r'\w+', parameters) or None, what)
    return found


def closing(text, start):
    """Where the parenthesis that opens right before @start is closed, and
    where the arguments in it end."""
    depth, ends = 1, []
    for at in range(start, len(text)):
        depth += {'(': 1, ')': -1}.get(text[at], 0)
        if not depth:
            return at, [*ends, at]
        if depth == 1 and text[at] == ',':
            ends.append(at)
    raise ValueError('a parenthesis is not closed')


def replace_call(text, match, parameters, what):
    """Replace one use of a name; arguments keep their alignment."""
    name, start = match[0], match.end() + 1
    to = what.split('(')[0]
    if text[match.end():start] != '(':
        return text[:match.start()] + to + text[match.end():]
    end, ends = closing(text, start)
    if parameters:
        wanted = len(re.findall(r'\w+', what.split('(')[1]))
        end = ends[wanted - 1]
        text = text[:end] + text[ends[-1]:]
    shift = len(name) - len(to)
    column = match.start() - text.rfind('\n', 0, match.start())
    inside = re.sub(rf'\n {{{shift}}}(?= {{{column + len(name) - shift}}})',
                    '\n', text[start:end])
    return f'{text[:match.start()]}{to}({inside}{text[end:]}'


def without_vendor(text):
    """A file, a patch or a message with the names that upstream would take."""
    while match := FUNCTION.search(text):
        text = replace_call(text, match, None, f'qmp_{match[1]}')
    text = text.replace('__org.qemu-mq_', '')
    return re.sub(r'\bSince: qemu-mq [\d.]+', f'Since: {NEXT_RELEASE}', text)


def settle(text, header, version):
    """A file of ours for one version of QEMU; @header is base-version.h."""
    if INCLUDE not in text:
        return text
    text = choose(text.replace(INCLUDE, ''), version)
    if 'BASE_SINCE' in text:
        raise Refusal('BASE_SINCE is not alone in its #if')
    for name, (parameters, what) in definitions(header, version).items():
        pattern = re.compile(rf'\b{name}\b')
        while match := pattern.search(text):
            text = replace_call(text, match, parameters, what)
    return text
