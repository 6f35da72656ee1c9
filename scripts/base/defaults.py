# The options of the base's configure that are used by default.
#
# The features are those of Debian's qemu-system-x86, qemu-utils and
# qemu-block-extra, without graphical toolkits and cluster storage.  Each
# feature is named, and all others are off, so that a build is the same on every
# machine, whatever libraries are installed.  scripts/packages names the
# libraries, and README.md lists the features that are left out.
#
# SPDX-License-Identifier: GPL-2.0-or-later

OPTIONS = '''
--target-list=x86_64-softmmu --without-default-features
--enable-system --enable-tools --enable-fdt=system
--disable-install-blobs --disable-docs --disable-download
'''

FEATURES = '''
tcg kvm xen plugins avx2 avx512bw malloc-trim stack-protector seccomp

linux-aio linux-io-uring replication zstd
bochs cloop dmg parallels qcow1 qed vdi vhdx vmdk vpc vvfat
curl libiscsi libnfs libssh
fuse fuse-lseek libvduse vduse-blk-export vhost-user-blk-server

gnutls nettle keyring

slirp slirp-smbd vde l2tpv3 bpf colo-proxy rdma
vhost-kernel vhost-net vhost-user vhost-crypto vhost-vdpa

attr cap-ng virtfs libudev numa libpmem multiprocess tpm hv-balloon
libusb usb-redir smartcard brlapi alsa oss capstone gio

vnc vnc-jpeg vnc-sasl png pixman curses iconv spice-protocol
'''

# The feature is left out if the user gives the option behind it.
UNLESS = {
    'fuse-lseek': '--disable-fuse',
    'nettle': '--enable-gcrypt',
    'plugins': '--disable-tcg',
    'vduse-blk-export': '--disable-libvduse',
    'vhost-crypto': '--disable-vhost-user',
    'vhost-user-blk-server': '--disable-vhost-user',
    'virtfs': '--disable-attr',
    'vnc': '--disable-pixman',
}


# Features that QEMU 10.2 has without an option for them.
NO_OPTION = ('avx2', 'avx512bw')


def defaults(options=(), base=None):
    """The options of @base that stand before those of the user."""
    features = FEATURES.split()
    if base:
        known = (base / 'scripts/meson-buildoptions.sh').read_text()
        features = [name for name in features
                    if name not in NO_OPTION or f'-{name})' in known]
    return [*OPTIONS.split(), *(f'--enable-{name}' for name in features
                                if UNLESS.get(name) not in options)]
