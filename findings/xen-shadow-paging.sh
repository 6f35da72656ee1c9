#!/bin/sh
# A security update of Debian 12's Xen removed live migration of PV domains.
# Xen needs shadow paging to log which pages a running PV domain writes.  Debian
# 12 was released with a hypervisor that has it; the one of its security updates
# is built without it, and so is Debian 13's.  With these two, 'xl migrate' of a
# PV domain ends with
#     xc: error: Failed to enable logdirty: 95,22,0
# (95 is EOPNOTSUPP), whatever its disks are.  'xl save' and 'xl restore' of it
# work, because a saved domain does not run.  PVH and HVM domains migrate: Xen
# logs their writes with nested paging (HAP).
#
# The hypervisor carries its configuration, compressed, in its image.
#
# Seen:
#     Xen 4.17 of Debian 12: CONFIG_SHADOW_PAGING=y
#     Xen 4.17 of its security updates: # CONFIG_SHADOW_PAGING is not set
#     Xen 4.20 of Debian 13: # CONFIG_SHADOW_PAGING is not set
#
# SPDX-License-Identifier: GPL-2.0-or-later

. "$(dirname "$0")/common.sh"

# The configuration that a hypervisor carries
configuration()
{
    gunzip -c "$work/$1"/boot/xen-[0-9]*-amd64.gz >"$work/xen.$1"
    for at in $(LC_ALL=C grep -abo -P '\x1f\x8b\x08' "$work/xen.$1" |
                cut -d : -f 1); do
        tail -c "+$((at + 1))" "$work/xen.$1" | gunzip -c 2>/dev/null |
            grep -a CONFIG_ && return
    done
}

# What it says of shadow paging
paging()
{
    configuration "$1" | grep -E 'CONFIG_SHADOW_PAGING\b'
}

fetch bookworm xen-hypervisor-4.17-amd64=4.17.5+72-g01140da4e8-1
fetch bookworm-security \
    xen-hypervisor-4.17-amd64=4.17.7+13-g2445b30a44-0+deb12u1
fetch trixie xen-hypervisor-4.20-amd64=4.20.4+63-g7abfd2bce2-0+deb13u1
no='# CONFIG_SHADOW_PAGING is not set'
expect 'Xen 4.17 of Debian 12' "$(paging bookworm)" CONFIG_SHADOW_PAGING=y
expect 'Xen 4.17 of its security updates' "$(paging bookworm-security)" "$no"
expect 'Xen 4.20 of Debian 13' "$(paging trixie)" "$no"
