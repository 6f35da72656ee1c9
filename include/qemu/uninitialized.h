/*
 * Local variables that the build does not clear
 *
 * QEMU is built with -ftrivial-auto-var-init=zero.  On the path of a request a
 * structure that is about to be filled in whole need not be cleared before.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_UNINITIALIZED_H
#define QEMU_UNINITIALIZED_H

/* For a local variable that is written before it is read, on all paths. */
#ifndef QEMU_UNINITIALIZED
#if __has_attribute(uninitialized)
#define QEMU_UNINITIALIZED __attribute__((uninitialized))
#else
#define QEMU_UNINITIALIZED
#endif
#endif

#endif /* QEMU_UNINITIALIZED_H */
