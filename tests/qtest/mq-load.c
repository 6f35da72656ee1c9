/*
 * Loads of the matrix's scenarios, and what their answers are
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "mq-play.h"

/* What a play waits for comes within this, or never. */
#define PATIENCE_US (10 * G_USEC_PER_SEC)

/* Sectors of an ordinary write */
#define WRITE_SECTORS 8

/* Where mq_note_works() writes: the disk's last part */
#define WORKS_SECTOR (MQ_PLAY_SECTORS - 64)

static MqLoad *load_new(const char *name)
{
    MqLoad *load = g_new(MqLoad, 1);

    load->name = name;
    load->seed = g_str_hash(name);
    load->requests = g_ptr_array_new();
    return load;
}

void mq_load_free(MqLoad *load)
{
    g_ptr_array_free(load->requests, true);
    g_free(load);
}

/* A gap between any two, so that none are merged. */
MqLoad *mq_load_new(MqPlay *p, const char *name, uint32_t type,
                    uint64_t sector, unsigned num)
{
    MqLoad *load = load_new(name);

    for (unsigned i = 0; i < num * MQ_MATRIX_QUEUES; i++) {
        MqQueue *q = p->d->queues[i % MQ_MATRIX_QUEUES];
        uint64_t at = sector + i * 2 * WRITE_SECTORS;
        size_t len = WRITE_SECTORS * MQ_SECTOR;
        MqRequest *r = type == VIRTIO_BLK_T_OUT
                       ? mq_write_new(q, at, len, load->seed + i)
                       : mq_read_new(q, at, len);

        g_ptr_array_add(load->requests, r);
        mq_request_add(r);
    }
    return load;
}

static void add_scattered(MqRequest *r, unsigned segs)
{
    g_autofree MqSegment *s = g_new(MqSegment, segs + 2);
    unsigned n = 0;

    s[n++] = (MqSegment) { r->header, 16, false };
    for (unsigned i = 0; i < segs; i++) {
        s[n++] = (MqSegment) { r->data + i * MQ_SECTOR, MQ_SECTOR, false };
    }
    s[n++] = (MqSegment) { r->status, 1, true };
    mq_request_add_segs(r, s, n, true);
}

MqLoad *mq_load_scattered(MqPlay *p, const char *name, unsigned num,
                          unsigned segs)
{
    MqLoad *load = load_new(name);

    g_assert_cmpuint(num * (segs + 1), <, WORKS_SECTOR);
    for (unsigned i = 0; i < num; i++) {
        MqRequest *r = mq_write_new(p->d->queues[0], i * (segs + 1),
                                    segs * MQ_SECTOR, load->seed + i);

        g_ptr_array_add(load->requests, r);
        add_scattered(r, segs);
    }
    return load;
}

void mq_play_expose(MqPlay *p)
{
    for (unsigned q = 0; q < MQ_MATRIX_QUEUES; q++) {
        mq_queue_expose(p->d->queues[q]);
    }
}

void mq_play_notify(MqPlay *p)
{
    for (unsigned q = 0; q < MQ_MATRIX_QUEUES; q++) {
        mq_device_notify(p->d, q);
    }
}

void mq_play_kick(MqPlay *p)
{
    mq_play_expose(p);
    mq_play_notify(p);
}

void mq_play_wait_taken(MqPlay *p)
{
    for (unsigned q = 0; q < MQ_MATRIX_QUEUES; q++) {
        mq_queue_wait_taken(p->d->queues[q]);
    }
}

static void reap(MqPlay *p)
{
    for (unsigned q = 0; q < MQ_MATRIX_QUEUES; q++) {
        if (p->d->queues[q]) {
            mq_queue_reap(p->d->queues[q]);
        }
    }
}

static unsigned answered(MqLoad *load)
{
    unsigned n = 0;

    for (unsigned i = 0; i < load->requests->len; i++) {
        n += ((MqRequest *)load->requests->pdata[i])->done;
    }
    return n;
}

/* Alike ones together: "16 with status 0 and length 1, ..." */
static char *answers_text(MqLoad *load)
{
    GString *text = g_string_new("");
    unsigned seen[0x100] = {};
    unsigned bad_length = 0;

    for (unsigned i = 0; i < load->requests->len; i++) {
        MqRequest *r = load->requests->pdata[i];
        size_t full = r->type & VIRTIO_BLK_T_OUT ? 1 : r->len + 1;

        if (r->done) {
            seen[mq_request_status(r)]++;
            bad_length += r->written != full;
        }
    }
    g_string_printf(text, "%s: %u of %u answered", load->name, answered(load),
                    load->requests->len);
    for (unsigned s = 0; s < ARRAY_SIZE(seen); s++) {
        if (seen[s]) {
            g_string_append_printf(text, ", %u with status %u", seen[s], s);
        }
    }
    if (bad_length) {
        g_string_append_printf(text, ", %u of a wrong length", bad_length);
    }
    return g_string_free(text, false);
}

void mq_note_answers(MqPlay *p, MqLoad *load)
{
    gint64 start = g_get_monotonic_time();
    g_autofree char *text = NULL;
    bool all;

    mq_play_hurry(p);
    do {
        reap(p);
        all = answered(load) == load->requests->len;
        if (!all) {
            mq_clock_advance(p->m, MQ_STEP_MS);
        }
    } while (!all && g_get_monotonic_time() - start < PATIENCE_US);
    text = answers_text(load);
    mq_note(p, "%s", text);
    if (!all) {
        mq_play_stuck(p, "further answers");
    }
}

void mq_note_so_far(MqPlay *p, MqLoad *load)
{
    g_autofree char *text = NULL;

    reap(p);
    text = answers_text(load);
    mq_note(p, "%s", text);
}

void mq_note_written(MqPlay *p, MqLoad *load)
{
    g_autofree char *image = NULL;
    unsigned good = 0;
    gsize len;

    g_assert(g_file_get_contents(p->image, &image, &len, NULL));
    for (unsigned i = 0; i < load->requests->len; i++) {
        MqRequest *r = load->requests->pdata[i];
        g_autofree void *data = g_malloc(r->len);
        uint64_t sector = qtest_readq(p->m->qts, r->header + 8);

        mq_pattern(data, r->len, load->seed + i);
        good += sector * MQ_SECTOR + r->len <= len &&
                !memcmp(image + sector * MQ_SECTOR, data, r->len);
    }
    mq_note(p, "%s: %u of %u on the disk", load->name, good,
            load->requests->len);
}

/* Whether it has come; time passes. */
static bool wait_done(MqPlay *p, MqRequest *r)
{
    gint64 start = g_get_monotonic_time();

    mq_queue_reap(r->queue);
    while (!r->done && g_get_monotonic_time() - start < PATIENCE_US) {
        mq_clock_advance(p->m, MQ_STEP_MS);
        mq_queue_reap(r->queue);
    }
    return r->done;
}

void mq_note_run(MqPlay *p, const char *name, unsigned queue, uint32_t type,
                 uint64_t sector)
{
    MqRequest *r = mq_request_new(p->d->queues[queue], type, sector,
                                  MQ_SECTOR);

    mq_request_submit(r);
    if (!wait_done(p, r)) {
        mq_play_stuck(p, name);
    }
    mq_note(p, "%s: status %u", name, mq_request_status(r));
    mq_request_free(r);
}

static void works_one(MqPlay *p, const char *name, unsigned queue)
{
    MqQueue *q = p->d->queues[queue];
    uint32_t seed = g_str_hash(name) + queue;
    uint64_t sector = WORKS_SECTOR + queue;
    MqRequest *w = mq_write_new(q, sector, MQ_SECTOR, seed);
    MqRequest *r = mq_read_new(q, sector, MQ_SECTOR);
    g_autofree char *stuck = g_strdup_printf("answer on queue %u %s", queue,
                                             name);

    mq_request_submit(w);
    if (!wait_done(p, w)) {
        mq_play_stuck(p, stuck);
    }
    mq_request_submit(r);
    if (!wait_done(p, r)) {
        mq_play_stuck(p, stuck);
    }
    if (mq_request_status(w) || mq_request_status(r) || w->written != 1 ||
        r->written != MQ_SECTOR + 1) {
        mq_note(p, "queue %u %s: statuses %u, %u, lengths %u, %u", queue, name,
                mq_request_status(w), mq_request_status(r), w->written,
                r->written);
    } else {
        mq_read_check(r, seed);
    }
    mq_request_free(w);
    mq_request_free(r);
}

void mq_note_works(MqPlay *p, const char *name)
{
    mq_play_hurry(p);
    for (unsigned q = 0; q < MQ_MATRIX_QUEUES; q++) {
        works_one(p, name, q);
    }
    mq_note(p, "every queue works %s", name);
}

void mq_note_capacity(MqPlay *p, const char *name)
{
    uint64_t sectors =
        mq_config_readq(p->d, offsetof(struct virtio_blk_config, capacity));

    mq_note(p, "capacity %s: %" PRIu64, name, sectors);
}
