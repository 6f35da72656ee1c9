# The programs behind ./configure and make.
#
#     run configure [OPTION]...     prepare the base and configure the build
#     run build [TARGET]...         do that again where needed, then build
#     run stock [TARGET]...         the same for the untouched base
#     run check [TEST]...           build and run tests, by default the quick
#                                   ones
#     run check-full                all of them, the long ones too
#     run check-sanitizers [TEST]...
#     run check-threads [TEST]...   in a build of their own, see sanitize.py
#     run fuzz [--seconds=N | --repro=FILE | --merge] [TARGET]...
#                                   fuzz the devices, see fuzz.py
#     run export [fixes]            a branch of QEMU with our changes, in
#                                   BUILD/export
#     run check-export [fixes] [each=N]
#                                   make that branch, build it, test it, then
#                                   each commit, from the Nth one on
#     run install                   install what was built (DESTDIR is heeded)
#     run uninstall                 remove that again
#     run deb                       make Debian packages of it
#
# All take --build=DIR.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import contextlib
import fcntl
import functools
import json
import os
import shutil
import sys
from pathlib import Path

import check
import deb
import debian
import each
import export
import fuzz
import install
import ninja
import prepare
import qemu
import sanitize
import trial
from defaults import defaults
from layout import REPO, Layout, cache_folder
from lock import lock_for
from source import find_source, version_of
from term import Refusal, say, tell_refusal

HELP = '''\
Usage: ./configure [OPTION]...

Prepares the base, which is QEMU's source, and configures the build in build/.

  --with-base=PATH    take the base from this folder or tarball
                      [Debian's source package]
  --update-base       fetch Debian's source package again
  --build=DIR         use another build folder than build
  --update-lock       write the base's checksums into base.lock, and stop
  --help              print this text and the base's own options; all of these
                      may be given too

Default options, which yours override:
'''

# Bytes that a first build takes: two trees, objects, programs, tests.
ROOM = 6 << 30


def parse(argv):
    """Our options and the rest, which is the base's."""
    ours = {'build': 'build', 'with_base': None, 'help': False,
            'update_base': False, 'update_lock': False}
    rest = []
    for arg in argv:
        name, equals, value = arg.partition('=')
        key = name[2:].replace('-', '_')
        if name in ('--build', '--with-base') and equals:
            if not value:
                raise Refusal(f'{name}= wants a path')
            ours[key] = os.path.abspath(value)
        elif arg in ('--help', '--update-base', '--update-lock'):
            ours[key] = True
        else:
            rest.append(arg)
    ours['build'] = REPO / ours['build']
    return ours, rest


@contextlib.contextmanager
def build_folder(build):
    """Lock the build folder.  A new one that is not configured is removed."""
    fresh = not build.exists()
    build.mkdir(parents=True, exist_ok=True)
    with open(build / '.lock', 'w', encoding='ascii') as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'waiting: another make works in {build}')
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        except BaseException:
            if fresh and not (build / 'state.json').exists():
                shutil.rmtree(build, ignore_errors=True)
            raise


def check_room(layout):
    if layout.qemu.exists():
        return
    free = shutil.disk_usage(layout.build).free
    if free < ROOM:
        raise Refusal(f'{free >> 20} MiB free in {layout.build}, '
                      f'but a build takes {ROOM >> 20}')


def set_up(layout, state, lock):
    """Prepare and configure whatever is not as it should be."""
    check_room(layout)
    cache = cache_folder()
    source = find_source(state['with_base'], cache, lock)
    options = state['options']
    prepare.prepare(layout, source, lock,
                    lambda base: qemu.check_options(base, options))
    qemu.configure(layout, options, state['env'], cache, lock)
    qemu.link_programs(layout)


def choose_lock(with_base):
    return lock_for(REPO, with_base and version_of(with_base))


def load_state(layout):
    try:
        return json.loads(layout.state.read_text())
    except FileNotFoundError:
        return {'with_base': None, 'options': [], 'env': qemu.environment()}


def save_state(layout, state):
    aside = layout.state.with_suffix('.tmp')
    aside.write_text(json.dumps(state, indent=2) + '\n')
    os.replace(aside, layout.state)


def unpacked(ours, lock, use):
    """Unpack the base as it comes, call `use` with it, and remove it."""
    import tempfile
    source = find_source(ours['with_base'], cache_folder(), lock)
    with tempfile.TemporaryDirectory(prefix='qemu-mq.') as folder:
        base = Path(folder) / 'base'
        source.unpack(base, Path(folder) / 'log')
        use(base)


def main_configure(ours, rest):
    lock = choose_lock(ours['with_base'])
    layout = Layout(ours['build'])
    if ours['update_base']:
        debian.fetch_source(cache_folder(), lock, anew=True)
    if ours['update_lock']:
        unpacked(ours, lock, lock.update)
        return
    if ours['help']:
        print(HELP + ''.join(f'  {option}\n' for option in defaults()))
        if (layout.base / 'configure').exists():
            print(qemu.help_text(layout.base), end='')
        else:
            unpacked(ours, lock, lambda base: print(qemu.help_text(base),
                                                    end=''))
        return
    with build_folder(layout.build):
        if (layout.base / 'configure').exists():
            qemu.check_options(layout.base, rest)
        state = {'with_base': ours['with_base'], 'options': rest,
                 'env': qemu.environment()}
        set_up(layout, state, lock)
        save_state(layout, state)
    say(f'ready; make builds in {os.path.relpath(layout.build)}')


def build_targets(layout, state, lock, targets=()):
    """Build targets of ours or of stock, by default the programs."""
    set_up(layout, state, lock)
    if not layout.stock:
        save_state(layout, state)
    ninja.regenerate(layout)
    if not ninja.build(layout.qemu, targets or qemu.programs(layout)):
        sys.exit(1)


def main_build(ours, rest, stock=False):
    layout = Layout(ours['build'], stock)
    with build_folder(layout.build):
        state = load_state(layout)
        lock = choose_lock(state['with_base'])
        build_targets(layout, state, lock, rest)


def main_check(ours, rest, full=False):
    state = load_state(Layout(ours['build']))
    if ours['with_base']:
        state['with_base'] = ours['with_base']
        ours['build'] = ours['build'].with_name(ours['build'].name + '-base')
    lock = choose_lock(state['with_base'])
    layout = Layout(ours['build'])
    counted = layout.build / 'check.count'
    with build_folder(layout.build):
        counted.unlink(missing_ok=True)
        set_up(layout, state, lock)
        save_state(layout, state)
        tests = check.build(layout, lambda tests:
                            check.choose_named(tests, rest) if rest else
                            check.choose(tests, full, lock.words['series']))
        if tests is None:
            sys.exit(1)
        if check.need_stock(tests):
            stock = Layout(layout.build, stock=True)
            build_targets(stock, state, lock, qemu.emulators(layout))
    good = check.run(layout, tests, patience=3)
    for reason, times in check.skips(layout).items():
        say(f'not tested, {times} x: {reason}')
    passed, failed, _other = check.count(layout)
    # CI takes its count from here.  A run that is broken off leaves no count.
    counted.write_text(f'{passed} passed, {failed} failed\n')
    sys.exit(0 if good and passed and not failed else 1)


def main_sanitize(sanitizer, ours, rest):
    layout = Layout(sanitize.build_folder(ours['build'], sanitizer))
    state = sanitize.adapt(load_state(Layout(ours['build'])), sanitizer)
    lock = choose_lock(state['with_base'])
    with build_folder(layout.build):
        set_up(layout, state, lock)
        save_state(layout, state)
        tests = check.build(layout, lambda tests:
                            sanitize.choose(tests, sanitizer, rest))
    if tests is None:
        sys.exit(1)
    sanitize.set_variables(sanitizer)
    good = check.run(layout, tests, patience=sanitizer.patience)
    passed, failed, _other = check.count(layout)
    say(f'{passed} passed, {failed} failed')
    sys.exit(0 if good and passed and not failed else 1)


def main_fuzz(ours, rest):
    words = dict(word[2:].partition('=')[::2] for word in rest
                 if word.startswith('--'))
    names = [word for word in rest if not word.startswith('--')]
    seconds = words.get('seconds', '60')
    if not seconds.isdecimal() or int(seconds) == 0:
        raise Refusal(f'{seconds} is no number of seconds')
    layout = Layout(fuzz.build_folder(ours['build']))
    state = fuzz.adapt(load_state(Layout(ours['build'])))
    lock = choose_lock(state['with_base'])
    with build_folder(layout.build):
        build_targets(layout, state, lock, [fuzz.PROGRAM])
    if 'merge' in words:
        fuzz.merge(layout, names)
    elif 'repro' in words:
        sys.exit(0 if fuzz.repeat(layout, names, Path(words['repro'])) else 1)
    else:
        sys.exit(0 if fuzz.fuzz(layout, names, int(seconds)) else 1)


def main_export(ours, rest):
    layout = Layout(ours['build'])
    with build_folder(layout.build):
        with_base = load_state(layout)['with_base']
        lock = choose_lock(with_base)
        source = find_source(with_base, cache_folder(), lock)
        export.export(layout.build / 'export', source, lock, 'fixes' in rest)


def main_check_export(ours, rest):
    layout = Layout(ours['build'])
    first = each.first_commit(rest)
    with build_folder(layout.build):
        state = load_state(layout)
        trial.run(layout.build, state, choose_lock(state['with_base']),
                  'fixes' in rest, first)


def main_install(ours, _rest):
    install.install(Layout(ours['build']))


def main_uninstall(ours, _rest):
    install.uninstall(Layout(ours['build']))


def main_deb(ours, _rest):
    layout = Layout(ours['build'])
    with build_folder(layout.build):
        state = load_state(layout)
        build_targets(layout, state, choose_lock(state['with_base']),
                      [name for names in deb.PROGRAMS.values()
                       for name in names])
        deb.make(layout)


def main(argv):
    commands = {
        'configure': main_configure,
        'build': main_build,
        'stock': lambda ours, rest: main_build(ours, rest, stock=True),
        'check': main_check,
        'check-full': lambda ours, rest: main_check(ours, rest, full=True),
        'export': main_export,
        'check-export': main_check_export,
        'fuzz': main_fuzz,
        'install': main_install,
        'uninstall': main_uninstall,
        'deb': main_deb,
    }
    for name, sanitizer in sanitize.SANITIZERS.items():
        commands[name] = functools.partial(main_sanitize, sanitizer)
    try:
        commands[argv[0]](*parse(argv[1:]))
    except Refusal as refusal:
        tell_refusal(refusal)
        sys.exit(1)
    except OSError as error:
        tell_refusal(f'{error.filename or "a file"}: {error.strerror}')
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


main(sys.argv[1:])
