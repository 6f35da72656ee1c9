/*
 * Which IOThreads there are, whoever has made them
 *
 * query-iothreads lists those of the user.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MQ_IOTHREADS_H
#define MQ_IOTHREADS_H

#include "tests/qtest/libqtest.h"

/**
 * mq_iothread_names: names of all IOThreads below /objects, sorted.
 *
 * Returns: a list for g_strfreev().
 */
char **mq_iothread_names(QTestState *qts);

/**
 * mq_iothread_users: the same of those that query-iothreads lists.
 */
char **mq_iothread_users(QTestState *qts);

/**
 * mq_iothread_tid: the host's number for the IOThread @id, which has to serve
 * a queue.
 */
int mq_iothread_tid(QTestState *qts, const char *id);

#endif /* MQ_IOTHREADS_H */
