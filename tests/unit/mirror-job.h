/*
 * What tests ask of a mirror job that is called "job"
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_MIRROR_JOB_H
#define TESTS_UNIT_MIRROR_JOB_H

#include "block/block_int.h"
#include "block/blockjob_int.h"
#include "qapi/error.h"
#include "qapi/qapi-types-block-core.h"

static inline void job_write_blocking(BlockJob *job)
{
    BlockJobChangeOptions options = {
        .id = (char *)"job",
        .type = JOB_TYPE_MIRROR,
        .u.mirror.copy_mode = MIRROR_COPY_MODE_WRITE_BLOCKING,
    };

    JOB_LOCK_GUARD();
    block_job_change_locked(job, &options, &error_abort);
}

static inline bool job_synced(BlockJob *job)
{
    g_autoptr(BlockJobInfo) info = NULL;

    JOB_LOCK_GUARD();
    info = block_job_query_locked(job, &error_abort);
    return info->u.mirror.actively_synced;
}

#endif /* TESTS_UNIT_MIRROR_JOB_H */
