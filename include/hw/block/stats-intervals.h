/*
 * Property stats-intervals of block devices
 *
 * -drive has had it for the BlockBackend that it makes; a device that makes its
 * BlockBackend itself, for a node, has to be told.  A list in JSON:
 *
 *     -device '{"driver": ..., "drive": "node", "stats-intervals": [60, 3600]}'
 *
 * query-blockstats shows them as timed_stats.  All functions run under the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_STATS_INTERVALS_H
#define HW_BLOCK_STATS_INTERVALS_H

#include "qemu/base-version.h"
#include "hw/qdev-properties.h"
#include "system/block-backend.h"

/* The property, embedded in the device's configuration. */
typedef struct StatsIntervals {
    uint32_t num;
    uint32_t *seconds;          /* for each interval */
} StatsIntervals;

/* Since QEMU 10.1 the property is one of DEFINE_BLOCK_PROPERTIES(). */
#if BASE_SINCE(10, 1)
#define DEFINE_STATS_INTERVALS_PROPERTY(_state, _field)
#else
#define DEFINE_STATS_INTERVALS_PROPERTY(_state, _field)                   \
    DEFINE_PROP_ARRAY("stats-intervals", _state, _field.num,              \
                      _field.seconds, qdev_prop_uint32, uint32_t),
#endif

/** stats_intervals_describe: what "-device TYPE,help" says of it. */
void stats_intervals_describe(ObjectClass *klass);

/**
 * stats_intervals_check: are they all larger than 0?
 *
 * Returns: false with @errp set if one is not.
 */
bool stats_intervals_check(const StatsIntervals *intervals, Error **errp);

/**
 * stats_intervals_apply: have @blk average over them.
 *
 * At the end of realize, after stats_intervals_check().  An interval that @blk
 * has already, by its -drive or by a device that was on it before, is not
 * added again.
 */
void stats_intervals_apply(const StatsIntervals *intervals,
                           BlockBackend *blk);

/** stats_intervals_free: at the end of the device. */
void stats_intervals_free(StatsIntervals *intervals);

#endif /* HW_BLOCK_STATS_INTERVALS_H */
