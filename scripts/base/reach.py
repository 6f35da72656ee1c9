# Which lines of our files a fuzzer's inputs reach, from what libFuzzer prints.
#
# libFuzzer tells the file of a function, but not of each line: code that is
# inlined from another function has the line numbers of that function.  A line
# counts if it lies in the function itself, or in a function that has no code of
# its own because it is inlined everywhere.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import fnmatch
import re
from bisect import bisect_left
from collections import defaultdict, namedtuple

from layout import REPO

# Lines by file: those that are reached, and all.
Reach = namedtuple('Reach', 'reached known')

FUNCTION = re.compile(r'^(?:UN)?COVERED_FUNC: .* '
                      r'(\S*/base/qemu-mq/)?(\S+):(\d+)$')


def missed(target, log, wanted):
    """
    Functions that a list wants a target to reach, and that its inputs do not:
    "PATTERN-OF-TARGETS FUNCTION..." a line, with comments from "#" on.  With
    FUNCTION:EDGES the inputs must reach so many edges of it.
    """
    text = log.read_text(errors='replace')
    reached = {name: int(edges) for edges, name in re.findall(
        r'^COVERED_FUNC: .* edges: (\d+)/\d+ (\S+) \S+:\d+$', text, re.M)}
    missing = []
    for line in wanted.read_text().splitlines():
        pattern, *functions = line.split('#')[0].split() or ['']
        if fnmatch.fnmatch(target, pattern):
            for function in functions:
                name, _, edges = function.partition(':')
                if reached.get(name, 0) < int(edges or 1):
                    missing.append(function)
    return missing


def ends_of(name):
    """The lines with which the functions of a file end."""
    lines = (REPO / name).read_text(errors='replace').splitlines()
    return [number for number, line in enumerate(lines, 1) if line == '}']


def functions_of(log):
    """
    [(file or None, its line, lines not reached, lines reached)] of libFuzzer's
    -print_coverage=1 -print_full_coverage=1.  The latter prints two lines for
    each function, "U" and "C", in the order of the former.
    """
    places, lines = [], {'U': [], 'C': []}
    with open(log, encoding='utf-8', errors='replace') as text:
        for line in text:
            match = FUNCTION.match(line)
            if match:
                places.append((match[2] if match[1] else None, int(match[3])))
            elif re.match(r'[UC]( \d+)*$', line):
                lines[line[0]].append([int(n) for n in line.split()[1:]])
    return [(*place, *both)
            for place, *both in zip(places, lines['U'], lines['C'])]


def reach_of(log):
    reach = Reach(defaultdict(set), defaultdict(set))
    functions = functions_of(log)
    ends = {name: ends_of(name) for name, *_ in functions
            if name and (REPO / name).is_file()}
    own = {name: {bisect_left(ends[name], line)
                  for other, line, *_ in functions if other == name}
           for name in ends}
    for name, line, missed, hit in functions:
        if name not in ends:
            continue
        here = bisect_left(ends[name], line)
        for lines, sets in (missed, [reach.known]), (hit, reach):
            for number in lines:
                place = bisect_left(ends[name], number)
                if place == here or (place < len(ends[name])
                                     and place not in own[name]):
                    for each in sets:
                        each[name].add(number)
    return reach


def table(reaches):
    """A table of the files that any target reaches, as text."""
    names = sorted({name for reach in reaches.values()
                    for name, lines in reach.reached.items() if lines
                    if name.endswith('.c') and not name.startswith('tests/')})
    width = max(map(len, ['file', *names]))
    text = ' '.join([f'{"file":{width}}', 'lines', *reaches]) + '\n'
    for name in names:
        known = set().union(*(reach.known[name] for reach in reaches.values()))
        cells = []
        for target, reach in reaches.items():
            part = len(reach.reached[name]) * 100 // max(len(known), 1)
            cells.append(f'{f"{part} %" if part else "-":>{len(target)}}')
        text += ' '.join([f'{name:{width}}', f'{len(known):5}', *cells]) + '\n'
    return text
