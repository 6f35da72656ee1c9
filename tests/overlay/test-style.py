#!/usr/bin/env python3
#
# How our files are written, where no other tool looks.
#
# A line has at most 80 characters.  These lines may be longer, because they
# cannot be divided:
#
#     an address of the Web, wherever it is
#     *.hex           inputs of fuzzers, one a line
#     base.lock       a checksum and the path of a file
#     trace-events    an event, with its arguments and its format
#     *.patch         code of the base that a patch moves or repeats; the header
#                     of a patch is the message of a commit, with 76 characters
#
# The licence is the last line of a program's first comment, and a comment that
# tells what a function, a type or a macro of a header is for reads as
# kernel-doc.  Each function that a header outside of tests/ has is described in
# this way:
#
#     /**
#      * name: what it is, or what it does
#      * @parameter: what it is
#      *
#      * All that is to be said beyond that.
#      *
#      * Returns: what it returns.
#      */
#
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
import unittest
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent

LICENCE = 'SPDX-License-' + 'Identifier: GPL-2.0-or-later'

# A comment that begins in column 0, and what follows it up to the next one
COMMENT = re.compile(r'^(/\*.*?\*/)[ \t]*\n(.*?)(?=^/\*|\Z)', re.M | re.S)

WIDTH = 80
# For git log, which indents a message
HEADER_WIDTH = 76
MAY_BE_WIDE = ('*.hex', 'base.lock', 'trace-events', '*.patch', 'COPYING')

# A function in a header, at its declaration or definition
FUNCTION = re.compile(
    r'^(?!typedef\b|extern\b|DECLARE_|OBJECT_)[A-Za-z_][\w \t\n*()]*?'
    r'\b(\w+)\([^;{}]*\)\s*(?:[A-Z_]+(?:\([^)]*\))?\s*)*[;{]', re.M)

NAMED = re.compile(r'(\w+):(?= )')


def all_files():
    for folder, folders, names in os.walk(REPO):
        if folder == str(REPO):
            folders[:] = [name for name in folders
                          if name != '.git' and not name.startswith('build')]
        for name in sorted(names):
            path = Path(folder, name)
            if not path.is_symlink() and path.suffix != '.pyc':
                yield path


def program_files():
    return [path for path in all_files()
            if path.suffix not in ('.md', '.patch', '.rst')]


def wide_lines(text, width=WIDTH):
    """Numbers of the lines of @text that are too long."""
    return [number for number, line in enumerate(text.splitlines(), 1)
            if len(line) > width and '://' not in line]


def patch_header(text):
    return text[:text.index('\n--- ')]


def first_comment(text):
    """Its lines without what marks a comment; none if @text begins otherwise,
    as a file does that is no program."""
    if text.startswith('/*'):
        return [line.strip(' */') for line
                in text[:text.index('*/')].splitlines() if line.strip(' */')]
    lines = []
    for line in text.splitlines():
        if not line.startswith('#'):
            break
        lines.append(line[1:].strip())
    return lines


def misplaced_licence(text):
    comment = first_comment(text)
    return LICENCE in text and bool(comment) and comment[-1] != LICENCE


def comment_words(comment):
    return re.sub(r'^/\*+\s*(?:\* )?', '', comment)


def declares(code, name):
    """Whether the declaration at the start of @code is one of @name."""
    head = re.match(r'#.*|[^;{]*', code.lstrip('\n')).group()
    tail = re.match(r'.*?^\}[^;]*', code, re.M | re.S)
    return any(re.search(rf'\b{name}\b', part) for part
               in (head, tail.group() if tail else ''))


def odd_comments(text):
    """First lines of comments in a header that should read otherwise."""
    odd = []
    for comment, code in COMMENT.findall(text):
        named = NAMED.match(comment_words(comment))
        there = named and declares(code, named[1])
        if comment.startswith('/**') != bool(there):
            odd.append(comment_words(comment).splitlines()[0])
    return odd


def bare_functions(text):
    """Functions that a header declares or defines without kernel-doc, and
    comments that say otherwise than "Returns: " what is returned."""
    # Directives may stand between two functions, and are no blank lines.
    text = re.sub(r'^#(?:.*\\\n)*.*\n', '#\n', text, flags=re.M)
    bare = []
    for match in FUNCTION.finditer(text):
        before = text[:match.start()].rstrip('#\n')
        comment = before[before.rfind('/*'):] if before.endswith('*/') else ''
        if not re.match(rf'/\*\*\s*(\* )?{match[1]}:', comment):
            bare.append(match[1])
        elif re.search(r'\bReturns (?!at once)', comment):
            bare.append(f'{match[1]}: Returns without a colon')
    return bare


class StyleTest(unittest.TestCase):
    def test_lines_fit(self):
        wide = [f'{path.relative_to(REPO)}:{number}' for path in all_files()
                if not any(path.match(name) for name in MAY_BE_WIDE)
                for number in wide_lines(path.read_text(errors='replace'))]
        self.assertEqual(wide, [])

    def test_headers_of_patches_fit(self):
        wide = [f'{path.relative_to(REPO)}:{number}' for path in all_files()
                if path.suffix == '.patch'
                for number in wide_lines(patch_header(path.read_text()),
                                         HEADER_WIDTH)]
        self.assertEqual(wide, [])

    def test_wide_lines_are_seen(self):
        self.assertEqual(wide_lines(f'{"x" * 80}\n{"x" * 81}\n'), [2])
        self.assertEqual(wide_lines(f'http://{"x" * 80}\n'), [])
        self.assertEqual(wide_lines(patch_header(
            f'{"x" * 76}\n{"x" * 77}\n\n--- a/f\n{"x" * 80}'), 76), [2])

    def test_licence_ends_the_first_comment(self):
        odd = []
        for path in program_files():
            text = path.read_text(errors='replace')
            if misplaced_licence(text):
                odd.append(str(path.relative_to(REPO)))
        self.assertEqual(odd, [])

    def test_licence_is_seen(self):
        good = f'/*\n * What\n *\n * {LICENCE}\n */\n'
        early = f'/*\n * What\n *\n * {LICENCE}\n *\n * More\n */\n'
        self.assertFalse(misplaced_licence(good))
        self.assertTrue(misplaced_licence(early))
        self.assertTrue(misplaced_licence(f'/* What */\n\n/* {LICENCE} */\n'))
        self.assertFalse(misplaced_licence(f'#!/bin/sh\n# A\n#\n# {LICENCE}\n'))
        self.assertTrue(misplaced_licence(f'#!/bin/sh\n# {LICENCE}\n#\n# A\n'))
        self.assertFalse(misplaced_licence('# What\n\nno program\n'))

    def test_headers_read_as_kernel_doc(self):
        odd = [f'{path.relative_to(REPO)}: {line}'
               for path in program_files() if path.suffix == '.h'
               for line in odd_comments(path.read_text())]
        self.assertEqual(odd, [])

    def test_public_functions_are_described(self):
        bare = [f'{path.relative_to(REPO)}: {name}' for path in all_files()
                if path.suffix == '.h' and REPO / 'tests' not in path.parents
                for name in bare_functions(path.read_text())]
        self.assertEqual(bare, [])

    def test_bare_functions_are_seen(self):
        good = ('/** f: do it */\nint f(void);\n\n'
                '/**\n * g: do it\n *\n * Returns: a number.\n */\n'
                'static inline struct T *g(T *t,\n                   int n)\n'
                '{\n    return h(t);\n}\n\n'
                'typedef void Fn(int n);\nextern int n;\nDECLARE_X(A, b)\n')
        self.assertEqual(bare_functions(good), [])
        self.assertEqual(bare_functions(good + 'void h(int n);\n'), ['h'])
        self.assertEqual(bare_functions('/* f: do it */\nint f(void);\n'),
                         ['f'])
        self.assertEqual(bare_functions('/** f: Returns 1. */\nint f(void);\n'),
                         ['f: Returns without a colon'])

    def test_odd_comments_are_seen(self):
        good = ('/* Apart */\n#define N 3\n\n'
                '/** f: do it */\nint f(void);\n\n'
                '/**\n * T: a type\n * @f: a member\n */\n'
                'typedef struct {\n    /* more: none */\n    int f;\n} T;\n')
        self.assertEqual(odd_comments(good), [])
        self.assertEqual(odd_comments('/* f: do it */\nint f(void);\n'),
                         ['f: do it */'])
        for line in ('f() - do it', 'Do it', 'g: do it', 'f:'):
            comment = f'/**\n * {line}\n *\n * More.\n */\n'
            self.assertEqual(odd_comments(comment + 'void f(T);\n'), [line])


if __name__ == '__main__':
    unittest.main(verbosity=2)
