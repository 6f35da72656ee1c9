#!/usr/bin/env python3
#
# The pages for people: README.md, CONTRIBUTING.rst, CHANGELOG.md, docs/.
#
# A table's text stays in its columns, or a reader of reStructuredText refuses
# the table.  If docutils is there, it reads the pages, too.  test-style.py
# checks that lines are not too long.
#
# Whatever a page names is there: files and folders, links and labels, goals and
# variables of make, options, properties, QMP commands, functions, types.  A
# name counts as being there if it is a word of this tree's or the base's
# sources.  Names that other projects define are in outside.list.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import fnmatch
import functools
import io
import os
import re
import unittest
from pathlib import Path
try:
    from docutils import core as docutils
except ImportError:
    docutils = None

REPO = Path(__file__).resolve().parent.parent.parent
# The test runs in the base's build folder.
BASE = Path('../base').resolve()

# The files that define words of ours and of the base.
OURS = ('Makefile', 'base.lock', 'block', 'configure', 'hw', 'include',
        'meson.build', 'patches', 'qapi', 'scripts', 'tests', 'util')
THEIRS = ('VERSION', 'accel', 'audio', 'block', 'blockdev.c', 'configure',
          'crypto', 'docs/devel', 'hmp-commands-info.hx', 'hmp-commands.hx',
          'hw/block', 'hw/core', 'hw/i386', 'hw/net', 'hw/pci', 'hw/virtio',
          'hw/xen', 'include', 'io', 'iothread.c', 'job.c', 'meson.build',
          'meson_options.txt', 'migration', 'monitor', 'nbd', 'net', 'qapi',
          'qemu-img.c', 'qemu-options.hx', 'scripts', 'storage-daemon',
          'system', 'tests/qemu-iotests', 'tests/qtest', 'tests/unit', 'ui',
          'util')

NOT_SOURCES = (Path(__file__).resolve(),
               Path(__file__).resolve().parent / 'outside.list')

# A word as sources have it.
WORD = re.compile(r'[A-Za-z_][\w-]*')

# A name in a literal: num-queues=4, block_queue_event(), NodeType.member.
NAME = re.compile(r'([A-Za-z_][\w-]*)(?:\.[a-z]\w*|\(\)|=\S*)?')
# Ordinary words of English or of a shell are not looked up.
PLAIN = re.compile(r'[a-z0-9]+|[A-Z][a-z]+|[A-Z0-9_]+')
FILE = re.compile(r'[\w*.-]+\.(?:[chS]|py|rst|md|json|list|supp|patch)')
# The first folder of a path in this tree or in the base.
ROOTS = ('block', 'docs', 'hw', 'include', 'patches', 'qapi', 'scripts',
         'tests', 'util', 'build/base')


def pages():
    return [REPO / 'README.md', REPO / 'CHANGELOG.md',
            REPO / 'CONTRIBUTING.rst', *sorted((REPO / 'docs').glob('*.rst'))]


class Page:
    """A page, and which of its lines are prose, table, or literal."""

    def __init__(self, text, markdown):
        self.lines = text.splitlines()
        self.markdown = markdown
        self.kinds = list(self.sort_lines())

    def sort_lines(self):
        indent = None           # of the paragraph that a literal block is below
        table = False
        for number, line in enumerate(self.lines):
            depth = len(line) - len(line.lstrip())
            if indent is not None and line.strip() and depth <= indent:
                indent = None
            if indent is not None:
                yield 'literal'
                continue
            if self.markdown:
                yield ('table' if line.startswith('|') else
                       'literal' if depth >= 4 else 'prose')
                continue
            if re.fullmatch(r'=+( +=+)+', line.strip()):
                # It begins a table, divides its head from its rows, ends it.
                following = ''.join(self.lines[number + 1:number + 2])
                table = bool(following.strip())
                yield 'table'
                continue
            yield 'table' if table else 'prose'
            if line.rstrip().endswith('::') or \
                    line.lstrip().startswith('.. code-block::'):
                indent = depth

    def of_kind(self, *kinds):
        return '\n'.join(line for line, kind in zip(self.lines, self.kinds)
                         if kind in kinds)

    def torn(self):
        """Numbers of the lines of tables with text between two columns."""
        found = []
        columns = None
        for number, (line, kind) in enumerate(zip(self.lines, self.kinds), 1):
            if kind != 'table' or self.markdown:
                columns = None
            elif re.fullmatch(r'=+( +=+)+', line.strip()):
                own = [mark.span() for mark in re.finditer('=+', line)]
                if columns and own != columns:
                    found.append(number)
                columns = columns or own
            elif columns:
                margins = [(end, start) for (_, end), (start, _)
                           in zip(columns, columns[1:])]
                if line[:columns[0][0]].strip() or \
                        any(line[end:start].strip() for end, start in margins):
                    found.append(number)
        return found

    def literals(self):
        mark = '`' if self.markdown else '``'
        text = self.of_kind('prose', 'table')
        return [' '.join(found.split()) for found in
                re.findall(rf'{mark}([^`]+?){mark}', text)]

    def links(self):
        """Targets of links, without addresses of the Web."""
        text = self.of_kind('prose', 'table')
        found = (re.findall(r'\]\(([^)\s]+)\)', text) if self.markdown else
                 re.findall(r'`[^`<]*<([^`>]+)>`_', text))
        return [target for target in found if '://' not in target]

    def references(self):
        """Labels that are referred to, and those that the page has."""
        if self.markdown:
            return set(), set()
        text = self.of_kind('prose', 'table')
        text = re.sub(r'``.*?``', '', text, flags=re.S)
        wanted = {' '.join(name.split()).lower() for name in
                  re.findall(r'(?<!`)`([^`<>]+)`_(?!_)', text)}
        there = {title.strip().lower() for title, line
                 in zip(self.lines, self.lines[1:])
                 if re.fullmatch(r'([=~-])\1{2,}', line)}
        there |= {name.lower() for name in
                  re.findall(r'^\.\. _([^:]+):', text, re.M)}
        return wanted, there

    def commands(self):
        """Lines of literal blocks, and literals, that call what is ours."""
        blocks = self.of_kind('literal').replace('\\\n', ' ').splitlines()
        lines = [line.strip() for line in blocks] + self.literals()
        return [line for line in lines
                if re.match(r'(?:sudo )?(?:make|\./configure|scripts/|tests/)'
                            r'\S*( |$)', line)]


def read(path):
    return path.read_text(errors='replace')


def words_of(tree, names):
    found = set()
    for name in names:
        top = tree / name
        paths = top.rglob('*') if top.is_dir() else [top]
        for path in paths:
            if path.is_file() and not path.is_symlink() \
                    and path not in NOT_SOURCES:
                found.add(path.stem)
                found.add(path.name)
                found.update(WORD.findall(read(path)))
    return found


@functools.cache
def words():
    return words_of(REPO, OURS) | words_of(BASE, THEIRS)


@functools.cache
def outside():
    """Patterns of words that other projects define."""
    lines = read(Path(__file__).parent / 'outside.list').splitlines()
    return [line for line in (line.split('#')[0].strip() for line in lines)
            if line]


def is_word(name):
    return name in words() or any(fnmatch.fnmatch(name, pattern)
                                  for pattern in outside())


@functools.cache
def file_names():
    return {name for tree in (REPO, BASE)
            for folder, _folders, names in os.walk(tree)
            if 'build' not in Path(folder).relative_to(tree).parts
            for name in names}


def path_exists(name):
    if name.rstrip('/') == 'build/base':
        return True     # wherever this build has it
    for tree in (REPO, BASE):
        inside = name[len('build/base/'):] if name.startswith('build/base/') \
            else name
        if any(tree.glob(inside.rstrip('/'))):
            return True
    return False


def make_knows(command):
    """What of a make command line the Makefile does not have."""
    text = read(REPO / 'Makefile').replace('\\\n', ' ')
    goals = re.search(r'^\.PHONY: (.*)$', text, re.M)[1].split()
    known = re.search(r'^known = (.*)$', text, re.M)[1].split()
    tools = re.search(r'^tools = (.*)$', text, re.M)[1].split()
    bare = re.sub(r"\"[^\"]*\"|'[^']*'|#.*", '', command)
    bad = []
    for word in re.split(r'[;&|]', bare)[0].split()[1:]:
        name, equals, _value = word.partition('=')
        if word.startswith('-') or name in ('sudo', 'make'):
            continue
        if equals and not any(fnmatch.fnmatch(name, pattern.replace('%', '*'))
                              for pattern in known + tools):
            bad.append(word)
        elif not equals and name not in goals:
            bad.append(word)
    return bad


@functools.cache
def configure_text():
    return '\n'.join(read(path) for path in (
        REPO / 'scripts/base/__main__.py', BASE / 'configure',
        BASE / 'scripts/meson-buildoptions.sh'))


def configure_knows(option):
    name = option.split('=')[0].rstrip('.…,')
    text = configure_text()
    bare = re.sub(r'^--(enable|disable|with|without)-', '', name)
    return any(re.search(rf'--(?:{way})?{re.escape(rest)}\b', text)
               for way, rest in (('', name[2:]),
                                 ('enable-|disable-|with-|without-', bare)))


def is_there(word):
    """Whether a word of a literal names something, if it is a name at all."""
    if 'NNNN' in word or word.isupper():
        return True
    if word.startswith('--'):
        return configure_knows(word) or word.split('=')[0] in our_options() \
            or is_word(word[2:].split('=')[0])
    top = word.split('/')[0]
    if re.fullmatch(r'[\w./*-]+', word) and word.startswith(ROOTS) and \
            ('/' in word or '-' not in word) and (REPO / top).exists():
        if re.fullmatch(r'patches/\d+', word):
            word += '-*'
        # A header may be named as it is included.
        return path_exists(word) or path_exists(f'include/{word}')
    if FILE.fullmatch(word):
        return bool(fnmatch.filter(file_names(), word))
    name = NAME.fullmatch(word)
    if not name or (PLAIN.fullmatch(name[1]) and '()' not in word):
        return True
    return is_word(name[1])


def unknown(literal):
    """The words of a literal that name nothing."""
    return [word for word in literal.split()
            if not is_there(word.strip('",'))]


@functools.cache
def our_options():
    return set(re.findall(r'--[a-z][\w-]*', ''.join(
        read(path) for folder in ('scripts', 'tests/bench', 'tests/functional')
        for path in (REPO / folder).rglob('*')
        if path.is_file() and path.suffix != '.pyc')))


def wrong_options(command):
    """Options that a program of ours is given and does not know."""
    if not re.search(r'\b(?:scripts|tests)/|BENCH=', command):
        return []
    return [word for word in re.findall(r'(?<!\S)["\']?(--[a-z][\w-]*)',
                                        command.replace('BENCH="', ' '))
            if word not in our_options()]


class DocsTest(unittest.TestCase):
    maxDiff = None
    pages = {os.path.relpath(path, REPO):
             Page(read(path), path.suffix == '.md') for path in pages()}

    def none(self, found, message):
        self.assertEqual(sorted(set(found)), [], message)

    def test_tables_keep_their_columns(self):
        self.none((f'{name}:{number}' for name, page in self.pages.items()
                   for number in page.torn()),
                  'lines of tables with text between two columns')

    def test_torn_tables_are_seen(self):
        head = '====  ===\na     b\n====  ===\n'
        foot = '====  ===\n\ntext that is wider than the table\n'
        for row, lines in (('word  wide and wider\n', []),
                           ('      b\n\n', []),
                           ('words b\n', [4]),
                           ('worded\n', [4]),
                           ('word words\n', [4]),
                           ('===  ====\n', [4])):
            self.assertEqual(Page(head + row + foot, False).torn(), lines, row)

    @unittest.skipUnless(docutils, 'docutils is not installed')
    def test_docutils_reads_the_pages(self):
        said = io.StringIO()
        settings = {'warning_stream': said, 'syntax_highlight': 'none'}
        for name, page in self.pages.items():
            if not page.markdown:
                docutils.publish_doctree('\n'.join(page.lines), name,
                                         settings_overrides=settings)
        self.assertEqual(said.getvalue(), '')

    def test_links_lead_somewhere(self):
        self.none((f'{name}: {link}' for name, page in self.pages.items()
                   for link in page.links()
                   if not ((REPO / name).parent / link.split('#')[0]).exists()),
                  'links to what is not there')

    def test_labels_are_there(self):
        dead = []
        for name, page in self.pages.items():
            wanted, there = page.references()
            dead += [f'{name}: {label}' for label in wanted - there]
        self.none(dead, 'references to sections that are not there')

    def test_names_are_there(self):
        self.none((f'{name}: {bad}' for name, page in self.pages.items()
                   if name != 'CHANGELOG.md'
                   for literal in page.literals()
                   for bad in unknown(literal)),
                  'names that no source has')

    def test_commands_can_be_given(self):
        dead = []
        for name, page in self.pages.items():
            for command in page.commands():
                first = command.split()[0]
                if '/' in first and not path_exists(first):
                    bad = [first]
                elif first.startswith(('scripts/', 'tests/')):
                    bad = wrong_options(command)
                elif 'configure' in first:
                    bad = [word for word in command.split()
                           if word.startswith('--')
                           and not configure_knows(word)]
                else:
                    bad = make_knows(command) + wrong_options(command)
                dead += [f'{name}: {command}: {word}' for word in bad]
        self.none(dead, 'commands that make or configure refuse')

    def test_commands_of_qmp_are_there(self):
        schemas = ''.join(read(path) for tree in (REPO, BASE)
                          for path in (tree / 'qapi').glob('*.json'))
        known = set(re.findall(r"'command': *'([\w.-]+)'", schemas))
        self.none((f'{name}: {command}' for name, page in self.pages.items()
                   for command in re.findall(r'"execute": *"([\w.-]+)"',
                                             '\n'.join(page.lines))
                   if command not in known), 'no commands of QMP')


if __name__ == '__main__':
    unittest.main(verbosity=2)
