/*
 * Comparing what QEMU answers, field by field
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MQ_ANSWER_H
#define MQ_ANSWER_H

#include "qobject/qobject.h"

typedef enum MqAnswerRule {
    /* Both have the same fields with the same values. */
    MQ_ANSWER_SAME,
    /* What @want leaves out is 0, false or empty, if it is there at all. */
    MQ_ANSWER_REST_IS_ZERO,
} MqAnswerRule;

/**
 * mq_answer_diff: look for the first field that is not as it should be, in
 * objects and arrays of any depth.
 * @path: what to call the whole of @got
 *
 * Returns: where it is and what is wrong, to be freed; NULL if all is well.
 */
char *mq_answer_diff(const char *path, QObject *got, QObject *want,
                     MqAnswerRule rule);

#endif
