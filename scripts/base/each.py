# Compiles each commit of an exported branch by itself.
#
#     commit --> files that it changes --> objects that use them --> compile
#
# A build folder of the whole branch knows how each object is compiled and on
# which files it depends, and it has the headers that are generated.  A commit
# that uses what only a later commit declares, or includes what only a later
# commit has, does not compile.  Only the front end of the compiler runs, so
# that a series of a hundred commits takes minutes instead of hours.  Nothing is
# linked.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import os
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor

from term import Refusal, say

# Options that name what a compiler writes; those without a value, and with one.
WRITES = {'-c', '-MD'}
WRITES_TO = {'-o', '-MQ', '-MF'}


def output_of(argv, **options):
    return subprocess.run(argv, check=True, capture_output=True, text=True,
                          **options).stdout


def users(build):
    """{file of the tree: objects that depend on it}"""
    tree = str(build.parent) + os.sep
    found, target = {}, None
    for line in output_of(['ninja', '-t', 'deps'], cwd=build).splitlines():
        if line and not line[0].isspace():
            target = line.split(':')[0]
            continue
        path = os.path.normpath(build / line.strip())
        if path.startswith(tree):
            found.setdefault(path[len(tree):], set()).add(target)
    return found


def commands(build):
    """{object: (its source as a file of the tree, how it is checked)}"""
    found = {}
    for entry in json.loads((build / 'compile_commands.json').read_text()):
        argv, skip = [], False
        for word in shlex.split(entry['command']):
            if not skip and word not in WRITES | WRITES_TO:
                argv.append(word)
            skip = not skip and word in WRITES_TO
        if 'output' in entry:
            source = os.path.normpath(build / entry['file'])
            found[entry['output']] = (os.path.relpath(source, build.parent),
                                      argv + ['-fsyntax-only', '-Werror'])
    return found


def first_error(text):
    lines = text.splitlines()
    return next((line for line in lines if 'error:' in line),
                lines[-1] if lines else 'the compiler says nothing')


def check(branch, build, jobs=os.cpu_count()):
    """Compile each commit after the tag "base"; a Refusal names the first that
    fails.  @build lies in @branch and has built all of its last commit."""
    def git(*arguments):
        return output_of(['git', *arguments], cwd=branch)

    def compile_one(name):
        done = subprocess.run(how[name][1], cwd=build, check=False, text=True,
                              capture_output=True)
        return done.returncode and f'{how[name][0]}: {first_error(done.stderr)}'

    uses, how = users(build), commands(build)
    last = git('symbolic-ref', '--short', 'HEAD').strip()
    log = git('log', '--reverse', '--format=%h %s', 'base..').splitlines()
    try:
        for number, line in enumerate(log, 1):
            commit = line.split()[0]
            git('checkout', '-q', commit)
            changed = git('diff', '--name-only', f'{commit}~', commit).split()
            objects = {name for path in changed for name in uses.get(path, ())
                       if name in how and (branch / how[name][0]).exists()}
            with ThreadPoolExecutor(jobs) as pool:
                bad = sorted(filter(None, pool.map(compile_one, objects)))
            if bad:
                raise Refusal(f'commit {line} does not compile: {bad[0]}')
            say(f'[{number}/{len(log)}] {len(objects)} objects: {line}')
    finally:
        git('checkout', '-q', last)
