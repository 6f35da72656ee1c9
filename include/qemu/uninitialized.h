/*
 * Local variables that the compiler does not clear
 *
 * QEMU is built with -ftrivial-auto-var-init=zero, which clears every local
 * variable.  On the path of a request this costs time, and a structure that is
 * filled in completely does not need it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_UNINITIALIZED_H
#define QEMU_UNINITIALIZED_H

/* For a local variable that the function writes before it reads it. */
#ifndef QEMU_UNINITIALIZED
#if __has_attribute(uninitialized)
#define QEMU_UNINITIALIZED __attribute__((uninitialized))
#else
#define QEMU_UNINITIALIZED
#endif
#endif

#endif /* QEMU_UNINITIALIZED_H */
