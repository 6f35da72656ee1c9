# How files of ours join QEMU's files of the same name in an exported branch.
#
#     meson.build, trace-events    at the end of QEMU's, what is about files
#                                  that the branch has by now
#     tests/*/meson.build          in QEMU's dictionaries of tests
#     MAINTAINERS                  lines in QEMU's sections, for files of ours
#
# Each function makes a text of QEMU's text and ours.  It begins anew for each
# commit, because a patch applies to QEMU's text without ours.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import fnmatch
import os
import re

from term import Refusal
from versions import number

# Our sections of MAINTAINERS that QEMU has by another name
SECTIONS = {'Block layer': 'Block layer core', 'Unit tests': 'Block layer core',
            'Xen PV disk': 'X86 Xen CPUs'}

# Lines of tests/*/meson.build: what tests are made of is defined before the
# first, and code that adds to the dictionaries stands before the second.
PARTS = re.compile(r'^q?tests = \{$', re.M)
LOOP = re.compile(r'^(?:foreach test_name, extra: tests|'
                  r'qtest_executables = .*)$', re.M)

# A paragraph that is a dictionary, with the line that begins it
DICTIONARY = re.compile(r'((?:if .*\n)?( *)\w+ )\+?= \{\n(.*)^\2\}(?:\nendif)?',
                        re.M | re.S)


def named_files(text, folder, repo):
    """The files of ours that a part of a meson.build names."""
    names = [os.path.normpath(os.path.join(folder, name))
             for name in re.findall(r"'([\w./-]+\.[chS])'", text)]
    names += [f'{folder}/{name}.c'
              for name in re.findall(r"^\s+'([\w-]+)': ", text, re.M)]
    return [name for name in names if (repo / name).exists()]


def lines_for(text, theirs, folder, present, repo):
    """The part of a meson.build for which the files are there.

    A line that names files of ours stays if all of them are in `present`, and
    if `theirs`, the text before it, does not build them already.  A paragraph
    stays if it has lost no file or has one left, and is no mere comment.
    """
    def is_wanted(name):
        return name in present and f"'{os.path.basename(name)}'" not in theirs

    paragraphs = []
    for paragraph in text.split('\n\n'):
        kept, found, lost = [], 0, 0
        for line in paragraph.splitlines():
            names = named_files(line, folder, repo)
            if all(map(is_wanted, names)):
                kept.append(line)
                found += len(names)
            else:
                lost += 1
        if found or not lost and any(line[:1] != '#' for line in kept):
            paragraphs.append('\n'.join(kept))
    return '\n\n'.join(paragraphs).rstrip('\n')


def put_last(text, paragraphs):
    """QEMU's text, and ours at its end, if there is any."""
    return text.rstrip('\n') + f'\n\n{paragraphs}\n' if paragraphs else text


def events_for(text, folder, present):
    """The paragraphs of a trace-events that are about files in `present`."""
    return '\n\n'.join(
        paragraph for paragraph in text.strip('\n').split('\n\n')
        if f'{folder}/{events_of(paragraph)}' in present)


def events_of(paragraph):
    """The file whose events a paragraph of a trace-events has."""
    match = re.match(r'# (\S+\.c)\n', paragraph)
    return match and match[1]


def senseless(text, version):
    """Names of tests that have no meaning with this version of QEMU."""
    found = set()
    for since, body in re.findall(r"version_compare\('>=([\d.]+)'\)\n"
                                  r"((?:  .*\n)+)", text):
        if number(version) >= number(since):
            found.update(re.findall(r"^ +'([\w-]+)': ", body, re.M))
    return found


def uses(text, names):
    return not names.isdisjoint(re.findall(r'\w+', text))


def entries_for(body, indent, there):
    """The entries of a dictionary that are there."""
    entries = re.findall(rf"^{indent}  '.*\n(?:(?!{indent}  ').*\n)*", body,
                         re.M)
    return ''.join(filter(there, entries))


def put(text, anchor, paragraph):
    """Put a paragraph before the one that the anchor begins."""
    match = anchor.search(text)
    if not match:
        raise Refusal(f'no line of QEMU matches {anchor.pattern}')
    return text[:match.start()] + paragraph + '\n\n' + text[match.start():]


def put_entries(text, head, indent, entries):
    """Add entries to the dictionary of QEMU's that begins alike, if any."""
    match = re.search(rf'^{re.escape(head)}\+?= \{{\n', text, re.M)
    if not match:
        return None
    end = text.index(f'\n{indent}}}', match.end() - 1)
    comma = '' if text[end - 1] in ',{' else ','
    return text[:end] + comma + '\n' + entries.rstrip('\n') + text[end:]


def join_tests(text, ours, folder, present, repo):
    """QEMU's text of a tests/*/meson.build with the tests in `present`.

    Ours stands between two lines "---".  A paragraph that is a dictionary loses
    the tests that are not there; any other paragraph is taken whole or left
    out.  A paragraph that uses what only a left-out one defines is left out,
    too.
    """
    def is_there(part):
        return not uses(part, missing) and all(
            name in present for name in named_files(part, folder, repo))

    missing = set()
    for paragraph in ours.split('\n# ---\n')[1].strip('\n').split('\n\n'):
        kept = paragraph if is_there(paragraph) else ''
        dictionary = DICTIONARY.search(paragraph)
        if dictionary and dictionary[0] == paragraph[dictionary.start():]:
            head, indent, body = dictionary.groups()
            entries = entries_for(body, indent, is_there)
            joined = entries and put_entries(text, head, indent, entries)
            if joined:
                text = joined
                continue
            kept = entries and paragraph.replace(body, entries)
        if kept:
            text = put(text, LOOP if '+= ' in kept else PARTS, kept)
        else:
            missing.update(re.findall(r'^(\w+) = ', paragraph, re.M))
    return text


def covers(pattern, name):
    """As get_maintainer.pl reads an F: line."""
    if pattern.endswith('/'):
        return name.startswith(pattern)
    return fnmatch.fnmatch(name, pattern) \
        and name.count('/') == pattern.count('/')


def sections(text):
    """{title: its F: patterns} of a MAINTAINERS, in its order."""
    found = {}
    for part in text.split('\n\n'):
        lines = part.splitlines()
        first = next((i for i, line in enumerate(lines)
                      if re.match(r'[A-Z]: ', line)), 0)
        if first:
            found.setdefault(lines[first - 1], []).extend(
                line[3:].strip() for line in lines if line.startswith('F: '))
    return found


def maintainers_line(name, text, ours, others):
    """(section, F: pattern) that a file of ours needs in QEMU's MAINTAINERS.

    The pattern is one of ours, if it covers no file of @others that its section
    does not have, or else the file's name.  It is None if the section covers
    the file already.
    """
    title, patterns = next(((title, patterns) for title, patterns
                            in sections(ours).items()
                            if any(covers(line, name) for line in patterns)),
                           (None, []))
    if not title:
        raise Refusal(f'MAINTAINERS has no section for {name}')
    title = SECTIONS.get(title, title)
    theirs = sections(text).get(title, [])
    if any(covers(line, name) for line in theirs):
        return title, None
    for line in patterns:
        if covers(line, name) and not line.endswith('/') \
                and all(any(covers(known, other) for known in theirs)
                        for other in others if covers(line, other)):
            return title, line
    return title, name


def add_maintainers(text, title, line, who):
    """Add an F: line to a section, which @who looks after if it is new."""
    section = re.compile(rf'^{re.escape(title)}\n(?:.+\n)*?'
                         r'(?=(?:[TBCP]: .*\n)*(?:\n|\Z))', re.M)
    if not section.search(text):
        text = put(text, re.compile(r'^virtio-blk$', re.M),
                   f'{title}\nM: {who}\nL: qemu-block@nongnu.org\n'
                   'S: Maintained')
    end = section.search(text).end()
    return f'{text[:end]}F: {line}\n{text[end:]}'
