/*
 * Property stats-intervals of block devices
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/accounting.h"
#include "hw/block/stats-intervals.h"
#include "qapi/error.h"

void stats_intervals_describe(ObjectClass *klass)
{
    object_class_property_set_description(klass, "stats-intervals",
        "List of intervals, in seconds, over which latencies and queue depths "
        "are averaged");
}

bool stats_intervals_check(const StatsIntervals *intervals, Error **errp)
{
    ERRP_GUARD();

    for (uint32_t i = 0; i < intervals->num; i++) {
        if (intervals->seconds[i] == 0) {
            error_setg(errp, "Invalid interval length: 0");
            error_append_hint(errp, "stats-intervals are whole seconds, at "
                              "least 1.\n");
            return false;
        }
    }
    return true;
}

static bool has_interval(BlockAcctTimedStats *first, uint32_t seconds)
{
    BlockAcctTimedStats *ts = first;

    while (ts && ts->interval_length != seconds) {
        ts = block_acct_interval_next(ts->stats, ts);
    }
    return ts != NULL;
}

void stats_intervals_apply(const StatsIntervals *intervals,
                           BlockBackend *blk)
{
    BlockAcctStats *stats = blk_get_stats(blk);
    /* New ones come before it. */
    BlockAcctTimedStats *before = block_acct_interval_next(stats, NULL);

    for (uint32_t i = 0; i < intervals->num; i++) {
        if (!has_interval(before, intervals->seconds[i])) {
            block_acct_add_interval(stats, intervals->seconds[i]);
        }
    }
}

void stats_intervals_free(StatsIntervals *intervals)
{
    g_free(intervals->seconds);
}
