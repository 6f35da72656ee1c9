# Debian packages of what was built: make deb.
#
#     BUILD/deb/qemu-mq-system-x86_VERSION_amd64.deb
#     BUILD/deb/qemu-mq-utils_VERSION_amd64.deb
#
# They can be installed beside the distribution's packages, because all names
# are qemu-mq-*.  The programs find their data relative to themselves, so what
# was configured for one prefix runs from another.  The packages link to the
# firmware in Debian's packages.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from email.utils import formatdate
from pathlib import Path

import manuals
from layout import REPO
from term import Refusal, say

HERE = REPO / 'scripts/deb'
MAINTAINER = 'qemu-mq developers <qemu-mq@users.noreply.github.com>'

# Programs by package.
PROGRAMS = {
    'qemu-mq-system-x86': ['qemu-system-x86_64'],
    'qemu-mq-utils': ['qemu-img', 'qemu-io', 'qemu-nbd',
                      'storage-daemon/qemu-storage-daemon'],
}
# The emulator looks into DATA by itself.  Debian 13 has the ROMs there.
DATA = Path('/usr/share/qemu')
FIRMWARE = {'/usr/share/seabios': '*bios*.bin', '/usr/lib/ipxe/qemu': '*.rom'}
NEEDED = ('bios-256k.bin', 'pxe-virtio.rom')
PAGES = ('libvirt.rst', 'virtio-blk.rst', 'xen-disk.rst')
APPARMOR = 'etc/apparmor.d/abstractions/libvirt-qemu.d/qemu-mq'


def our_name(program):
    """qemu-img is qemu-mq-img."""
    return 'qemu-mq-' + os.path.basename(program)[len('qemu-'):]


def run(words, **options):
    try:
        return subprocess.run([str(word) for word in words], check=True,
                              capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, **options).stdout
    except FileNotFoundError:
        raise Refusal(f'{words[0]} is missing: packages are made on Debian, '
                      'with dpkg-dev') from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ['no reason given'])[-1]
        raise Refusal(f'{words[0]}: {last}') from None


def version_and_time(layout):
    """10.0.13+mq20261128.1734.g0123abc, and the seconds that it stands for."""
    base = (layout.base / 'VERSION').read_text().strip()
    try:
        said = run(['git', '-C', REPO, 'log', '-1', '--format=%ct %h'])
        seconds, commit = said.split()
    except Refusal:
        seconds, commit = (REPO / 'Makefile').stat().st_mtime, ''
    seconds = int(os.environ.get('SOURCE_DATE_EPOCH') or seconds)
    when = time.strftime('%Y%m%d.%H%M', time.gmtime(seconds))
    return f'{base}+mq{when}' + (f'.g{commit}' if commit else ''), seconds


def firmware_folder(layout):
    """Where the emulator in /usr/bin looks for firmware of its own."""
    prefix, = layout.configured('CONFIG_PREFIX')
    bindir, = layout.configured('CONFIG_BINDIR')
    if bindir != f'{prefix}/bin':
        raise Refusal(f'packages cannot be made of a build for {bindir}: '
                      'configure without --bindir')
    for folder in layout.configured('CONFIG_QEMU_FIRMWAREPATH'):
        if folder.startswith(f'{prefix}/'):
            return '/usr' + folder[len(prefix):]
    raise Refusal('packages cannot be made of a build with a --firmwarepath '
                  'that is not below its prefix')


class Package:
    def __init__(self, layout, name, version, seconds):
        self.layout, self.name, self.version = layout, name, version
        self.seconds = seconds
        self.root = layout.home / 'deb/stage' / name
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)

    def place(self, path, mode=0o644):
        """A path inside, whose folder is there."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.chmod(mode)
        return target

    def write(self, path, data, mode=0o644):
        target = self.place(path)
        target.write_bytes(data if isinstance(data, bytes)
                           else data.encode())
        target.chmod(mode)

    def write_packed(self, path, text):
        self.write(path, gzip.compress(text.encode(), 9, mtime=0))

    # The content of the package

    def add_programs(self):
        for program in PROGRAMS[self.name]:
            target = self.place(f'usr/bin/{our_name(program)}')
            run(['strip', '--remove-section=.comment',
                 '--remove-section=.note', '-o', target,
                 self.layout.qemu / program])
            target.chmod(0o755)

    def add_manuals(self):
        found = manuals.pages(self.layout, PROGRAMS[self.name])
        for program in PROGRAMS[self.name]:
            page = found.get(program)
            if not page:
                raise Refusal(f'there is no manual page of {program}: install '
                              'python3-sphinx and python3-sphinx-rtd-theme')
            section = page.suffix[1:]
            name = our_name(program)
            self.write_packed(
                f'usr/share/man/man{section}/{name}.{section}.gz',
                manuals.renamed(page, name))

    def add_documents(self):
        folder = f'usr/share/doc/{self.name}'
        self.write(f'{folder}/copyright', (HERE / 'copyright').read_text()
                   + (self.layout.base / 'LICENSE').read_text())
        date = formatdate(self.seconds)
        self.write_packed(
            f'{folder}/changelog.gz',
            f'qemu-mq ({self.version}) unstable; urgency=medium\n\n'
            '  * Built from a checkout; git log has the changes.\n\n'
            f' -- {MAINTAINER}  {date}\n')
        if self.name == 'qemu-mq-system-x86':
            for page in PAGES:
                self.write_packed(f'{folder}/{page}.gz',
                                  (REPO / 'docs' / page).read_text())

    def add_overrides(self):
        # QEMU's pages have words that are longer than a line.
        self.write(f'usr/share/lintian/overrides/{self.name}',
                   f'{self.name}: groff-message *\n')

    def add_firmware(self, folder):
        """Links to what Debian's packages hold."""
        for source, pattern in FIRMWARE.items():
            for path in sorted(Path(source).glob(pattern)):
                link = self.place(f'{folder[1:]}/{path.name}')
                link.symlink_to(os.path.relpath(path, folder))
        for name in NEEDED:
            if not (DATA / name).exists() and \
                    not (self.root / folder[1:] / name).is_symlink():
                raise Refusal(f'no firmware {name} on this machine: install '
                              'seabios and ipxe-qemu')

    def add_apparmor(self, folder):
        self.write(APPARMOR, (HERE / 'apparmor').read_text()
                   .replace('@FIRMWARE@', folder))
        self.write('DEBIAN/conffiles', f'/{APPARMOR}\n')

    def add_scripts(self):
        for script in ('postinst', 'postrm'):
            source = HERE / f'{self.name}.{script}'
            if source.exists():
                self.write(f'DEBIAN/{script}', source.read_text(), 0o755)

    # The package itself

    def libraries(self):
        """The Depends that its programs' libraries ask for."""
        with tempfile.TemporaryDirectory(prefix='qemu-mq.') as folder:
            (Path(folder) / 'debian').mkdir()
            (Path(folder) / 'debian/control').write_text(
                f'Source: qemu-mq\n\nPackage: {self.name}\n'
                'Architecture: any\n')
            said = run(['dpkg-shlibdeps', '-O', *(
                f'-e{path}' for path in (self.root / 'usr/bin').iterdir())],
                cwd=folder)
        return said.strip().partition('shlibs:Depends=')[2]

    def files(self):
        return sorted(path for path in self.root.rglob('*')
                      if path.is_file() and not path.is_symlink()
                      and 'DEBIAN' not in path.relative_to(self.root).parts)

    def add_control(self):
        files = self.files()
        text = (HERE / f'{self.name}.control').read_text()
        libraries = self.libraries()
        if 'Depends: ' in text:
            text = text.replace('Depends: ', f'Depends: {libraries}, ', 1)
        else:
            text = text.replace('\n', f'\nDepends: {libraries}\n', 1)
        size = sum(path.stat().st_size for path in files) >> 10
        head = (f'Version: {self.version}\nArchitecture: amd64\n'
                f'Source: qemu-mq\nMaintainer: {MAINTAINER}\n'
                f'Priority: optional\nInstalled-Size: {size}\n')
        self.write('DEBIAN/control', text.replace('\n', f'\n{head}', 1))
        self.write('DEBIAN/md5sums', ''.join(
            f'{hashlib.md5(path.read_bytes()).hexdigest()}  '
            f'{path.relative_to(self.root)}\n' for path in files
            if path.relative_to(self.root).parts[0] != 'etc'))

    def pack(self):
        for path in self.root.rglob('*'):
            if path.is_dir():
                path.chmod(0o755)
        target = self.layout.home / 'deb' / \
            f'{self.name}_{self.version}_amd64.deb'
        run(['dpkg-deb', '--root-owner-group', '-Zxz', '--build', self.root,
             target], env={**os.environ,
                           'SOURCE_DATE_EPOCH': str(self.seconds)})
        return target


def make(layout):
    """Make both packages; their files."""
    version, seconds = version_and_time(layout)
    folder = firmware_folder(layout)
    for old in (layout.home / 'deb').glob('*.deb'):
        old.unlink()
    made = []
    for name in PROGRAMS:
        package = Package(layout, name, version, seconds)
        package.add_programs()
        package.add_manuals()
        package.add_documents()
        package.add_overrides()
        if name == 'qemu-mq-system-x86':
            package.add_firmware(folder)
            package.add_apparmor(folder)
        package.add_scripts()
        package.add_control()
        made.append(package.pack())
        say(f'made {os.path.relpath(made[-1])}, '
            f'{made[-1].stat().st_size >> 20} MiB')
    shutil.rmtree(layout.home / 'deb/stage')
    return made
