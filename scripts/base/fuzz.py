# Fuzzing our devices with libFuzzer, in a build of its own.
#
#     make fuzz                               each target, for a minute
#     make fuzz TARGETS="vblk-*" RUNTIME=3600
#     make fuzz REPRO=FILE                    what was found, once more
#
# BUILD-fuzz (build-fuzz) is the base's own fuzzing build, with clang and the
# sanitizers for addresses and undefined behaviour.  The targets are in
# tests/fuzz.  Each starts from the inputs in tests/fuzz/corpus/TARGET.hex and
# from those that earlier runs have kept in BUILD-fuzz/corpus/TARGET.  What
# makes QEMU crash or hang is left in BUILD-fuzz/found.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import fnmatch
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from layout import REPO
from ninja import minutes
from reach import missed, reach_of, table
from term import Refusal, say

OPTIONS = ['--enable-fuzzing', '--enable-asan', '--enable-ubsan',
           '--disable-tcg', '--disable-tools']

# Inputs share one machine, which keeps some memory from one to the next, so
# LeakSanitizer would blame the wrong input.  Leaks are what
# "make check-sanitizers" looks for.
VARIABLES = {'ASAN_OPTIONS': 'detect_leaks=0:malloc_context_size=10',
             'UBSAN_OPTIONS': 'halt_on_error=1:print_stacktrace=1'}

PROGRAM = 'qemu-fuzz-x86_64'
SEEDS = REPO / 'tests/fuzz/corpus'
# Functions that the inputs in the tree have to reach.
WANTED = REPO / 'tests/fuzz/reach.list'

# How ours are called; the program has more targets, which are the base's.
OURS = re.compile(r'^ \* ((?:vblk|xen)-\S+)', re.M)

# Weighing inputs by how rare the code is that they reach would take a quarter
# of the time.
SIMPLE = ['-len_control=0', '-entropic=0']

# Longer inputs reach nothing more and take longer.
LONGEST = 400
# A fault that needs several threads may show only after this many runs, which
# take a minute.
TIMES = 2000
# A target that does fewer executions a second than this does not fuzz.
FEWEST = 2
# An input that takes longer than this has found a hang, in seconds.
PATIENCE = 120

PACKAGES = 'clang, llvm and libclang-rt-dev'


def build_folder(build):
    return Path(f'{build}-fuzz')


def check_clang(compiler):
    """Refuse to begin a build that could not be linked."""
    if not shutil.which(compiler.split()[-1]):
        raise Refusal('make fuzz needs clang with its libFuzzer (Debian: the '
                      f'packages {PACKAGES})')
    with tempfile.TemporaryDirectory(prefix='qemu-mq.') as folder:
        source = Path(folder) / 'empty.c'
        source.write_text('int LLVMFuzzerTestOneInput(const char *data, '
                          'unsigned long size) { return 0; }\n')
        done = subprocess.run(
            [*compiler.split(), '-fsanitize=fuzzer,address,undefined',
             source, '-o', Path(folder) / 'empty'],
            capture_output=True, check=False)
    if done.returncode:
        raise Refusal(f'{compiler} cannot link with libFuzzer and the '
                      f'sanitizers (Debian: the packages {PACKAGES})')


def adapt(state):
    """The state of the usual build, adapted to the fuzzers' build."""
    compiler = state['env'].get('CC', '')
    if 'clang' not in compiler:
        compiler = 'clang'
        if shutil.which('ccache'):
            compiler = f'ccache {compiler}'
    check_clang(compiler)
    # ccache does not know that the compiler reads this list.
    os.environ.setdefault('CCACHE_EXTRAFILES', str(
        REPO / 'patches/0005-fuzz-guided-by-our-devices.patch'))
    return {**state, 'options': state['options'] + OPTIONS,
            'env': {**state['env'], 'CC': compiler}}


def targets(layout, names):
    """Our targets that match one of @names, or all of ours."""
    done = subprocess.run([layout.qemu / PROGRAM], capture_output=True,
                          text=True, check=False)
    found = sorted(OURS.findall(done.stdout))
    chosen = [target for target in found
              if not names or any(fnmatch.fnmatch(target, name)
                                  for name in names)]
    if not chosen:
        raise Refusal(f'no target is called {" ".join(names)}; there are '
                      + ', '.join(found) if found else 'there are no targets')
    return chosen


def environment():
    return {**os.environ, **{name: os.environ.get(name, value)
                             for name, value in VARIABLES.items()}}


class Target:
    """A target with its inputs."""

    def __init__(self, layout, name):
        self.layout = layout
        self.name = name
        self.corpus = layout.home / 'corpus' / name
        self.seeds = layout.home / 'seeds' / name
        self.found = layout.home / 'found'
        for folder in self.corpus, self.found:
            folder.mkdir(parents=True, exist_ok=True)
        self.unpack()

    def unpack(self):
        """Make files of the inputs in the tree: one a line, in hexadecimal."""
        shutil.rmtree(self.seeds, ignore_errors=True)
        self.seeds.mkdir(parents=True)
        packed = SEEDS / f'{self.name}.hex'
        lines = packed.read_text().split() if packed.exists() else []
        for number, line in enumerate(lines):
            (self.seeds / f'{number:04}').write_bytes(bytes.fromhex(line))

    def command(self, *arguments):
        return [self.layout.qemu / PROGRAM, f'--fuzz-target={self.name}',
                f'-timeout={PATIENCE}', '-rss_limit_mb=3072',
                '-detect_leaks=0', f'-max_len={LONGEST}', *arguments]

    def start(self, log, *arguments):
        with open(log, 'wb') as out:
            return subprocess.Popen(
                self.command('-close_fd_mask=3', *arguments),
                cwd=self.layout.qemu, env=environment(),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def fuzz(self, seconds):
        """Run for some seconds; true if nothing was found."""
        log = self.layout.home / f'{self.name}.log'
        before = set(self.found.iterdir())
        say(f'{self.name}, {minutes(seconds)} min')
        with self.start(log, f'-artifact_prefix={self.found}/{self.name}-',
                        f'-max_total_time={seconds}', *SIMPLE,
                        '-print_final_stats=1', self.corpus,
                        self.seeds) as process:
            watch(process, log, seconds)
        executions, edges = counts(log)
        wanted = max(FEWEST * seconds, len(list(self.seeds.iterdir())))
        found = [path for path in set(self.found.iterdir()) - before
                 if '-slow-unit-' not in path.name]
        say(f'{self.name}: {executions:,} executions, {edges:,} edges, '
            + ('nothing found' if not process.returncode else
               f'QEMU failed: see {os.path.relpath(log)}'))
        for path in found:
            say(f'again: make fuzz REPRO={os.path.relpath(path)}')
        if not process.returncode and executions < wanted:
            say(f'{self.name}: that is fewer than {wanted:,} executions')
            return False
        return process.returncode == 0

    def reach(self):
        """The log of the inputs that are kept: which lines they reach."""
        log = self.layout.home / f'{self.name}.reach'
        with self.start(log, '-runs=0', '-print_coverage=1',
                        '-print_full_coverage=1', self.corpus,
                        self.seeds) as process:
            pass
        if process.returncode:
            say(f'{self.name}: what it reaches is not known, see '
                f'{os.path.relpath(log)}')
        return log

    def repeat(self, path):
        """Run one input many times; true if it does no harm."""
        done = subprocess.run(self.command(f'-runs={TIMES}', path.resolve()),
                              cwd=self.layout.qemu, env=environment(),
                              stdin=subprocess.DEVNULL, check=False)
        return done.returncode == 0

    def merge(self):
        """Keep in the tree as few inputs as reach the same edges."""
        with tempfile.TemporaryDirectory(prefix='qemu-mq.') as folder:
            log = self.layout.home / f'{self.name}.merge'
            with self.start(log, '-set_cover_merge=1', '-use_counters=0',
                            folder, self.corpus, self.seeds) as process:
                pass
            if process.returncode:
                raise Refusal(f'merging failed, see {os.path.relpath(log)}')
            lines = sorted((path.read_bytes().hex()
                            for path in Path(folder).iterdir()),
                           key=lambda line: (len(line), line))
        SEEDS.mkdir(exist_ok=True)
        (SEEDS / f'{self.name}.hex').write_text(
            ''.join(f'{line}\n' for line in lines if line))
        say(f'{self.name}: {len(lines)} inputs, '
            f'{sum(map(len, lines)) // 2:,} bytes')


def counts(log):
    """(executions, edges), as far as libFuzzer has told."""
    text = log.read_text(errors='replace')
    done = [int(number) for number in
            re.findall(r'^(?:#|stat::number_of_executed_units: )(\d+)', text,
                       re.M)]
    edges = re.findall(r'\bcov: (\d+)', text)
    return max(done, default=0), int(edges[-1]) if edges else 0


def watch(process, log, seconds):
    """Wait for its end, and report its progress ten times."""
    started = time.monotonic()
    for tenth in range(1, 10):
        left = started + seconds * tenth / 10 - time.monotonic()
        try:
            process.wait(max(left, 0))
            return
        except subprocess.TimeoutExpired:
            executions, edges = counts(log)
            print(f'{minutes(time.monotonic() - started)} of '
                  f'{minutes(seconds)} min, {executions:,} executions or '
                  f'more, {edges:,} edges', flush=True)
    process.wait()


def fuzz(layout, names, seconds):
    """Run each for some seconds; true if none found anything."""
    chosen = [Target(layout, name) for name in targets(layout, names)]
    good = [target.fuzz(seconds) for target in chosen]
    logs = {target.name: target.reach() for target in chosen}
    text = table({name: reach_of(log) for name, log in logs.items()})
    (layout.home / 'reach.txt').write_text(text)
    print(text, end='', flush=True)
    for name, log in logs.items():
        missing = missed(name, log, WANTED)
        if missing:
            say(f'{name}: the inputs do not reach {", ".join(missing)}')
            good.append(False)
    return all(good)


def repeat(layout, names, path):
    """Run one input; the target is named, or the file begins with its name."""
    if not path.is_file():
        raise Refusal(f'there is no file {path}')
    chosen = targets(layout, names)
    if not names:
        chosen = [name for name in chosen if path.name.startswith(f'{name}-')]
    if len(chosen) != 1:
        raise Refusal(f'which target is {path.name} for?  TARGETS= names it')
    good = Target(layout, chosen[0]).repeat(path)
    say(f'{chosen[0]}: ' + ('no harm' if good else 'QEMU failed'))
    return good


def merge(layout, names):
    for name in targets(layout, names):
        Target(layout, name).merge()
