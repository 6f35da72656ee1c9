/*
 * Which IOThreads there are, whoever has made them
 *
 * query-iothreads lists those of the user.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VBLK_IOTHREADS_H
#define VBLK_IOTHREADS_H

#include "tests/qtest/libqtest.h"

/**
 * vblk_iothread_names: names of all IOThreads below /objects, sorted.
 *
 * Returns: a list for g_strfreev().
 */
char **vblk_iothread_names(QTestState *qts);

/**
 * vblk_iothread_users: the same of those that query-iothreads lists.
 */
char **vblk_iothread_users(QTestState *qts);

/**
 * vblk_iothread_tid: the host's number for the IOThread @id, which has to serve
 * a queue.
 */
int vblk_iothread_tid(QTestState *qts, const char *id);

#endif /* VBLK_IOTHREADS_H */
