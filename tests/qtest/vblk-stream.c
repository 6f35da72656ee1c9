/*
 * A fixed stream of requests and what QEMU says about it
 *
 *     scenario --- batches ---> queue 0, 1, ...  ---> statistics
 *                                                       |
 *                                 expected numbers --- [=] --- query-blockstats
 *                                                       |
 *                         another QEMU's answers ------[=]
 *
 * QEMU's accounting goes by the virtual clock in a qtest and takes each request
 * for 1 ms long.  So all numbers are certain, if only the clock stands still
 * while requests are under way.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/qdict.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qobject/qjson.h"
#include "vblk-answer.h"
#include "vblk-stream.h"

#define DEVICE_ID "/machine/peripheral/disk0/virtio-backend"

struct VblkBatch {
    const VblkOp *ops;
    unsigned num;
    VblkRequest *requests[];
};

static VblkRequest *op_request(VblkQueue *q, const VblkOp *op, uint64_t offset)
{
    QTestState *qts = q->dev->qts;
    uint64_t sector = op->sector + offset;
    VblkRequest *r;

    switch (op->type) {
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        r = vblk_request_new(q, op->type, 0, 16);
        qtest_writeq(qts, r->data, sector);
        qtest_writel(qts, r->data + 8, op->num);
        qtest_writel(qts, r->data + 12, op->flags);
        return r;
    case VIRTIO_BLK_T_GET_ID:
        return vblk_request_new(q, op->type, 0, VIRTIO_BLK_ID_BYTES);
    default:
        return vblk_request_new(q, op->type, sector, op->num * VBLK_SECTOR);
    }
}

VblkBatch *vblk_batch_start(VblkStream *s, const VblkOp *ops, unsigned num,
                            uint64_t offset)
{
    VblkQueue *q = s->disk.d->queues[s->next++ % s->queues];
    VblkBatch *b = g_malloc(sizeof(*b) + num * sizeof(b->requests[0]));

    b->ops = ops;
    b->num = num;
    for (unsigned i = 0; i < num; i++) {
        b->requests[i] = op_request(q, &ops[i], offset);
        vblk_request_add(b->requests[i]);
    }
    vblk_queue_kick(q);
    return b;
}

void vblk_batch_finish(VblkBatch *b)
{
    for (unsigned i = 0; i < b->num; i++) {
        g_assert_cmphex(vblk_request_wait(b->requests[i]), ==,
                        b->ops[i].status);
    }
    for (unsigned i = 0; i < b->num; i++) {
        vblk_request_free(b->requests[i]);
    }
    g_free(b);
}

void vblk_stream_send(VblkStream *s, const VblkOp *ops, unsigned num)
{
    vblk_batch_finish(vblk_batch_start(s, ops, num, 0));
}

void vblk_stream_flood(VblkStream *s, const VblkOp *ops, unsigned num,
                       unsigned stride)
{
    VblkBatch *batches[VBLK_STREAM_QUEUES];

    for (unsigned i = 0; i < VBLK_STREAM_QUEUES; i++) {
        batches[i] = vblk_batch_start(s, ops, num, i * stride);
    }
    for (unsigned i = 0; i < VBLK_STREAM_QUEUES; i++) {
        vblk_batch_finish(batches[i]);
    }
}

/*
 * Send a request that is not accounted to each queue.  The thread of the queue
 * takes the request after it has ended its work on all earlier ones.
 */
void vblk_stream_settle(VblkStream *s)
{
    for (unsigned i = 0; i < s->queues; i++) {
        g_assert_cmphex(vblk_request_run(s->disk.d->queues[i],
                                         VIRTIO_BLK_T_GET_ID, 0, NULL,
                                         VIRTIO_BLK_ID_BYTES), ==,
                        VIRTIO_BLK_S_OK);
    }
}

void vblk_stream_clock(VblkStream *s, unsigned ms)
{
    vblk_stream_settle(s);
    qtest_clock_step(s->disk.m->qts, (int64_t)ms * SCALE_MS);
}

/* Ask, and keep the answer for a comparison. */
static QDict *stream_ask(VblkStream *s, QDict *command)
{
    QDict *rsp = qtest_qmp(s->disk.m->qts, "%p", command);

    qlist_append(s->answers, qobject_ref(rsp));
    return rsp;
}

static void put_count(QDict *d, const char *fmt, const char *type, uint64_t n)
{
    g_autofree char *field = g_strdup_printf(fmt, type);

    qdict_put_int(d, field, n);
}

static void put_counts(VblkStream *s, QDict *d, const char *type, VblkCounts c)
{
    uint64_t timed = c.ops + (s->scenario->account_failed ? c.failed : 0);

    put_count(d, "%s_operations", type, c.ops);
    put_count(d, "%s_total_time_ns", type, timed * VBLK_STREAM_LATENCY_NS);
    put_count(d, "failed_%s_operations", type, c.failed);
    put_count(d, "invalid_%s_operations", type, c.invalid);
}

static void put_data_counts(VblkStream *s, QDict *d, const char *type,
                            VblkCounts c)
{
    put_counts(s, d, type, c);
    put_count(d, "%s_bytes", type, c.bytes);
    put_count(d, "%s_merged", type, c.merged);
}

/* Return the statistics in the form of query-blockstats. */
static QDict *stats_dict(VblkStream *s, const VblkStats *stats)
{
    QDict *d = qdict_new();

    put_data_counts(s, d, "rd", stats->rd);
    put_data_counts(s, d, "wr", stats->wr);
    put_counts(s, d, "flush", stats->flush);
    qdict_put_int(d, "wr_highest_offset", stats->wr_highest_offset);
    if (stats->rd.ops || stats->wr.ops || stats->flush.ops) {
        qdict_put_int(d, "idle_time_ns", stats->idle_ms * (int64_t)SCALE_MS);
    }
    qdict_put_bool(d, "account_invalid", s->scenario->account_invalid);
    qdict_put_bool(d, "account_failed", s->scenario->account_failed);
    return d;
}

QDict *vblk_histograms_dict(VblkHistograms h)
{
    QDict *histograms = qdict_new();
    const struct {
        const char *name, *value;
    } fields[] = {
        { "rd_latency_histogram", h.rd },
        { "wr_latency_histogram", h.wr },
        { "flush_latency_histogram", h.flush },
        { "zone_append_latency_histogram", h.zone_append },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        if (fields[i].value) {
            qdict_put_obj(histograms, fields[i].name,
                          qobject_from_json(fields[i].value, &error_abort));
        }
    }
    return histograms;
}

void vblk_stream_expect(VblkStream *s, VblkStats stats, QDict *more)
{
    QDict *want = stats_dict(s, &stats);
    g_autofree char *diff = NULL;
    QObject *got;
    QList *list;
    QDict *rsp;

    if (more) {
        qdict_join(want, more, false);
        g_assert_cmpuint(qdict_size(more), ==, 0);
        qobject_unref(more);
    }
    vblk_stream_settle(s);
    qobject_unref(stream_ask(s, qdict_from_jsonf_nofail(
        "{'execute': 'query-blockstats', 'arguments':"
        " {'query-nodes': true}}")));
    rsp = stream_ask(s, qdict_from_jsonf_nofail(
        "{'execute': 'query-blockstats'}"));
    list = qdict_get_qlist(rsp, "return");
    g_assert_cmpuint(qlist_size(list), ==, 1);
    got = qdict_get(qobject_to(QDict, qlist_peek(list)), "stats");

    diff = vblk_answer_diff("stats", got, QOBJECT(want),
                            VBLK_ANSWER_REST_IS_ZERO);
    g_assert_cmpstr(diff, ==, NULL);
    qobject_unref(want);
    qobject_unref(rsp);
}

void vblk_stream_histogram(VblkStream *s, const char *members,
                           const char *error)
{
    QDict *args = qobject_to(QDict, qobject_from_json(members, &error_abort));
    QDict *rsp;

    if (!qdict_haskey(args, "id")) {
        qdict_put_str(args, "id", DEVICE_ID);
    }
    vblk_stream_settle(s);
    rsp = stream_ask(s, qdict_from_jsonf_nofail(
        "{'execute': 'block-latency-histogram-set', 'arguments': %p}", args));
    if (error) {
        g_assert_true(qdict_haskey(rsp, "error"));
        g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "error"), "desc"),
                        ==, error);
    } else {
        g_assert_true(qdict_haskey(rsp, "return"));
    }
    qobject_unref(rsp);
}

/*
 * Use the monitor, because drives of the command line are made before the
 * virtual clock is.  No flush goes to the host's disk, which may be slow.
 */
static void add_drive(VblkStream *s)
{
    const char *errors = s->scenario->errors;
    g_autofree char *file =
        g_strdup_printf(errors ? "file.driver=blkdebug,file.image.driver=file,"
                        "file.image.node-name=image,"
                        "file.image.cache.no-flush=on,file.image.filename=%s%s"
                        : "file.driver=file,file.cache.no-flush=on,"
                        "file.filename=%s%s",
                        s->disk.image, errors ?: "");
    g_autofree char *out =
        qtest_hmp(s->disk.m->qts, "drive_add 0 if=none,id=disk,node-name=top,"
                  "driver=raw,discard=unmap,file.node-name=file,%s,%s", file,
                  s->scenario->drive);

    g_assert_cmpstr(out, ==, "OK\r\n");
}

static void add_blockdev(VblkStream *s)
{
    qtest_qmp_assert_success(s->disk.m->qts, "{'execute': 'blockdev-add',"
                             " 'arguments': {'driver': 'raw',"
                             " 'node-name': 'disk', 'discard': 'unmap',"
                             " 'file': {'driver': 'file',"
                             " 'node-name': 'file', 'discard': 'unmap',"
                             " 'cache': {'no-flush': true},"
                             " 'filename': %s}}}", s->disk.image);
}

static QList *play(const VblkVariant *v, const VblkScenario *scenario,
                   unsigned queues, bool other)
{
    VblkStream s = {
        .scenario = scenario,
        .disk.image = vblk_image_new(VBLK_STREAM_SECTORS * VBLK_SECTOR),
        .disk.m = other ? vblk_machine_start_other(v, VBLK_IOTHREADS)
                        : vblk_machine_start(v, VBLK_IOTHREADS),
        .queues = queues,
        .answers = qlist_new(),
    };
    g_autofree char *props =
        g_strdup_printf("'drive': 'disk', 'num-queues': %u,"
                        " 'iothread-vq-mapping': [{'iothread': 'io0'},"
                        " {'iothread': 'io1'}]%s%s", queues,
                        scenario->device ? "," : "", scenario->device ?: "");

    if (scenario->drive) {
        add_drive(&s);
    } else {
        add_blockdev(&s);
    }
    g_assert_cmpstr(vblk_device_add(s.disk.m, 0, props), ==, NULL);
    s.disk.d = vblk_device_open(s.disk.m, 0);
    vblk_device_start(s.disk.d, 0, VBLK_ALL_QUEUES);
    g_assert_cmpuint(s.disk.d->max_queues, ==, queues);

    scenario->play(&s);
    vblk_disk_stop(&s.disk);
    return s.answers;
}

void vblk_stream_run(const VblkVariant *v, const VblkScenario *scenario)
{
    for (unsigned queues = 2; queues <= VBLK_STREAM_QUEUES; queues *= 2) {
        QList *answers = play(v, scenario, queues, false);

        g_test_message("%u queues", queues);
        if (vblk_machine_has_other()) {
            QList *others = play(v, scenario, queues, true);
            g_autofree char *diff =
                vblk_answer_diff("answers", QOBJECT(answers), QOBJECT(others),
                                 VBLK_ANSWER_SAME);

            g_assert_cmpstr(diff, ==, NULL);
            qobject_unref(others);
        }
        qobject_unref(answers);
    }
}
