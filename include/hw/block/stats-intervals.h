/*
 * Property stats-intervals of block devices
 *
 * The option stats-intervals of -drive works only for the BlockBackend that
 * -drive makes.  A device on a node of -blockdev makes its own BlockBackend,
 * so it has a property with a list of seconds, given in JSON:
 *
 *     -device '{"driver": ..., "drive": "node", "stats-intervals": [60, 3600]}'
 *
 * query-blockstats reports an average for each interval in timed_stats.  All
 * functions run under the BQL.
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

/** stats_intervals_describe: set the text of "-device TYPE,help". */
void stats_intervals_describe(ObjectClass *klass);

/**
 * stats_intervals_check: check that all intervals are larger than 0.
 *
 * Returns: true, or false with @errp set if one is not.
 */
bool stats_intervals_check(const StatsIntervals *intervals, Error **errp);

/**
 * stats_intervals_apply: let @blk compute averages over the intervals.
 *
 * The device calls this at the end of realize, after stats_intervals_check().
 * @blk may have some of the intervals already, from its -drive or from a device
 * that used it before.  They are not added again.
 */
void stats_intervals_apply(const StatsIntervals *intervals,
                           BlockBackend *blk);

/** stats_intervals_free: free the list, at the end of the device. */
void stats_intervals_free(StatsIntervals *intervals);

#endif /* HW_BLOCK_STATS_INTERVALS_H */
