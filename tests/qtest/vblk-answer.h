/*
 * Comparing what QEMU answers, field by field
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VBLK_ANSWER_H
#define VBLK_ANSWER_H

#include "qobject/qobject.h"

typedef enum VblkAnswerRule {
    /* Both have the same fields with the same values. */
    VBLK_ANSWER_SAME,
    /* What @want leaves out is 0, false or empty, if it is there at all. */
    VBLK_ANSWER_REST_IS_ZERO,
} VblkAnswerRule;

/**
 * vblk_answer_diff: look for the first field that is not as it should be, in
 * objects and arrays of any depth.
 * @path: what to call the whole of @got
 *
 * Returns: where it is and what is wrong, to be freed; NULL if all is well.
 */
char *vblk_answer_diff(const char *path, QObject *got, QObject *want,
                       VblkAnswerRule rule);

#endif
