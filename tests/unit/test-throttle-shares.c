/*
 * Shares of a throttle group: what they let through, against the exact buckets
 *
 * The clock is simulated.  The same random requests go through the group, as
 * block/throttle-groups.c uses it, and through leaky buckets as
 * docs/throttle.txt describes them, one by one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <math.h>
#include "block/throttle-shares.h"
#include "qapi/error.h"
#include "qemu/atomic.h"
#include "qemu/lockable.h"
#include "qemu/thread.h"
#include "qemu/thread-slot.h"

#define SIMULATIONS     60
#define SLOTS           5
#define SECONDS         6
#define TICKS           10      /* A second's */
#define TICK_NS         (NANOSECONDS_PER_SECOND / TICKS)
#define LARGEST         65536
#define TOLERANCE       0.02

typedef struct Request {
    int64_t at_ns;
    unsigned slot;
    ThrottleDirection direction;
    unsigned bytes;
} Request;

/* Something that lets requests through. */
typedef struct Gate Gate;
struct Gate {
    /* Return how long a request has to wait, or count it and return 0 */
    int64_t (*ask)(Gate *gate, const Request *req, int64_t now);

    /* Return whether a request may go without a look at the buckets */
    bool (*pass)(Gate *gate, const Request *req);

    GQueue *waiting[THROTTLE_MAX];
    int64_t look_again_ns[THROTTLE_MAX];

    /* The amount that got through in each tick, as each bucket counts it */
    double went[BUCKETS_COUNT][SECONDS * TICKS + 1];

    /* The group's */
    ThrottleShares *shares;
    ThrottleState ts;
    unsigned passed;

    /* The exact one's */
    ThrottleConfig cfg;
    double level[BUCKETS_COUNT];
    double burst[BUCKETS_COUNT];
    int64_t leaked_ns;
};

static const BucketType buckets_of[THROTTLE_MAX][4] = {
    { THROTTLE_BPS_TOTAL, THROTTLE_BPS_READ,
      THROTTLE_OPS_TOTAL, THROTTLE_OPS_READ },
    { THROTTLE_BPS_TOTAL, THROTTLE_BPS_WRITE,
      THROTTLE_OPS_TOTAL, THROTTLE_OPS_WRITE },
};

static double amount_of(const Request *req, BucketType type, uint64_t op_size)
{
    if (type < THROTTLE_OPS_TOTAL) {
        return req->bytes;
    }
    return op_size && req->bytes > op_size ? req->bytes / (double)op_size : 1;
}

/* --- The exact buckets --- */

static void exact_leak(Gate *gate, int64_t now)
{
    double seconds = (now - gate->leaked_ns) / (double)NANOSECONDS_PER_SECOND;

    for (int i = 0; i < BUCKETS_COUNT; i++) {
        LeakyBucket *bucket = &gate->cfg.buckets[i];

        gate->level[i] = MAX(gate->level[i] - bucket->avg * seconds, 0);
        gate->burst[i] = MAX(gate->burst[i] - bucket->max * seconds, 0);
    }
    gate->leaked_ns = now;
}

static double exact_wait(Gate *gate, BucketType type)
{
    LeakyBucket *bucket = &gate->cfg.buckets[type];
    double size = bucket->max ? bucket->max * (double)bucket->burst_length
                              : bucket->avg / 10.0;

    if (!bucket->avg) {
        return 0;
    }
    if (gate->level[type] > size) {
        return (gate->level[type] - size) / bucket->avg;
    }
    if (bucket->burst_length > 1 && gate->burst[type] > bucket->max / 10.0) {
        return (gate->burst[type] - bucket->max / 10.0) / bucket->max;
    }
    return 0;
}

static int64_t exact_ask(Gate *gate, const Request *req, int64_t now)
{
    double seconds = 0;

    exact_leak(gate, now);
    for (int i = 0; i < 4; i++) {
        seconds = MAX(seconds, exact_wait(gate, buckets_of[req->direction][i]));
    }
    for (int i = 0; seconds == 0 && i < 4; i++) {
        BucketType type = buckets_of[req->direction][i];
        double amount = amount_of(req, type, gate->cfg.op_size);

        gate->level[type] += amount;
        gate->burst[type] += amount;
    }
    return ceil(seconds * NANOSECONDS_PER_SECOND);
}

/* --- The group's --- */

static bool nobody_waits(Gate *gate)
{
    return g_queue_is_empty(gate->waiting[THROTTLE_READ]) &&
           g_queue_is_empty(gate->waiting[THROTTLE_WRITE]);
}

static bool group_pass(Gate *gate, const Request *req)
{
    bool passed = throttle_shares_take(gate->shares, req->slot, req->direction,
                                       req->bytes);

    gate->passed += passed;
    return passed;
}

static int64_t group_ask(Gate *gate, const Request *req, int64_t now)
{
    int64_t wait = 0;

    throttle_shares_collect(gate->shares, &gate->ts, now);
    for (int i = 0; i < 4; i++) {
        BucketType type = buckets_of[req->direction][i];

        wait = MAX(wait, throttle_compute_wait(&gate->ts.cfg.buckets[type]));
    }
    if (wait) {
        throttle_shares_revoke(gate->shares);
        return wait;
    }
    throttle_account(&gate->ts, req->direction, req->bytes);
    if (nobody_waits(gate)) {
        throttle_shares_renew(gate->shares, &gate->ts, req->slot,
                              req->direction);
    }
    return 0;
}

/* --- Both --- */

static void gate_went(Gate *gate, const Request *req, int64_t now)
{
    int tick = now / TICK_NS;

    for (int i = 0; i < 4 && tick <= SECONDS * TICKS; i++) {
        BucketType type = buckets_of[req->direction][i];

        gate->went[type][tick] += amount_of(req, type, gate->cfg.op_size);
    }
}

/* The one in front of @direction asks again. */
static void gate_retry(Gate *gate, ThrottleDirection direction)
{
    int64_t now = gate->look_again_ns[direction];
    const Request *req = g_queue_pop_head(gate->waiting[direction]);
    int64_t wait = gate->ask(gate, req, now);

    if (wait) {
        g_queue_push_head(gate->waiting[direction], (gpointer)req);
        gate->look_again_ns[direction] = now + wait;
    } else {
        gate_went(gate, req, now);
    }
}

/* Until @now, let waiting requests go in order, each as soon as it may. */
static void gate_run(Gate *gate, int64_t now)
{
    for (;;) {
        ThrottleDirection first = THROTTLE_MAX;

        for (ThrottleDirection dir = 0; dir < THROTTLE_MAX; dir++) {
            if (!g_queue_is_empty(gate->waiting[dir]) &&
                gate->look_again_ns[dir] <= now &&
                (first == THROTTLE_MAX ||
                 gate->look_again_ns[dir] < gate->look_again_ns[first])) {
                first = dir;
            }
        }
        if (first == THROTTLE_MAX) {
            break;
        }
        gate_retry(gate, first);
    }
}

static void gate_arrive(Gate *gate, const Request *req)
{
    GQueue *queue = gate->waiting[req->direction];
    int64_t wait;

    gate_run(gate, req->at_ns);
    if (!g_queue_is_empty(queue)) {
        g_queue_push_tail(queue, (gpointer)req);
    } else if (gate->pass && gate->pass(gate, req)) {
        gate_went(gate, req, req->at_ns);
    } else {
        wait = gate->ask(gate, req, req->at_ns);
        if (wait) {
            g_queue_push_tail(queue, (gpointer)req);
            gate->look_again_ns[req->direction] = req->at_ns + wait;
        } else {
            gate_went(gate, req, req->at_ns);
        }
    }
}

/* --- What is simulated --- */

static void random_bucket(GRand *rand, LeakyBucket *bucket, double average)
{
    bucket->avg = average;
    if (g_rand_boolean(rand)) {
        bucket->max = average * g_rand_double_range(rand, 1, 4);
        bucket->burst_length = g_rand_int_range(rand, 1, 4);
    }
}

static void random_limits(GRand *rand, ThrottleConfig *cfg)
{
    bool total = g_rand_boolean(rand);
    int what = g_rand_int_range(rand, 1, 4);
    double bps = g_rand_double_range(rand, 2e7, 1e8);
    double iops = g_rand_double_range(rand, 1e3, 2e4);

    throttle_config_init(cfg);
    for (int i = 0; i < 3; i++) {
        if (total ? i == 0 : i > 0) {
            if (what & 1) {
                random_bucket(rand, &cfg->buckets[THROTTLE_BPS_TOTAL + i], bps);
            }
            if (what & 2) {
                random_bucket(rand, &cfg->buckets[THROTTLE_OPS_TOTAL + i],
                              iops);
            }
        }
    }
    if (what & 2 && g_rand_boolean(rand)) {
        cfg->op_size = g_rand_int_range(rand, 512, 16384);
    }
    g_assert_true(throttle_is_valid(cfg, &error_abort));
}

/* Calm, then busy, each half second other threads and another rate. */
static GArray *random_requests(GRand *rand)
{
    GArray *requests = g_array_new(false, false, sizeof(Request));
    int64_t now = 0, phase_ends = 0;
    double gap_ns = 0;
    unsigned slots = 1, largest = 1;

    while (now < SECONDS * NANOSECONDS_PER_SECOND) {
        Request req = { .at_ns = now };

        if (now >= phase_ends) {
            phase_ends = now + g_rand_int_range(rand, 1, 500000000);
            gap_ns = exp(g_rand_double_range(rand, log(1e4), log(4e6)));
            slots = g_rand_int_range(rand, 1, SLOTS + 1);
            largest = 512 << g_rand_int_range(rand, 0, 8);
        }
        req.slot = g_rand_int_range(rand, 0, slots);
        req.direction = g_rand_boolean(rand);
        req.bytes = g_rand_int_range(rand, 1, largest + 1);
        g_array_append_val(requests, req);
        now += -log(1 - g_rand_double(rand)) * gap_ns;
    }
    return requests;
}

static double in_second(const double *ticks, int from)
{
    double sum = 0;

    for (int i = 0; i < TICKS; i++) {
        sum += ticks[from + i];
    }
    return sum;
}

/* In each second from each tick on, both let the same through, nearly. */
static void compare(Gate *group, Gate *exact)
{
    for (BucketType type = 0; type < BUCKETS_COUNT; type++) {
        double largest = type < THROTTLE_OPS_TOTAL ? LARGEST :
            exact->cfg.op_size ? LARGEST / (double)exact->cfg.op_size : 1;

        for (int from = 0; exact->cfg.buckets[type].avg &&
                           from + TICKS <= SECONDS * TICKS; from++) {
            double wanted = in_second(exact->went[type], from);

            g_assert_cmpfloat(fabs(in_second(group->went[type], from) -
                                   wanted), <=,
                              wanted * TOLERANCE + 2 * MAX(largest, 1));
        }
    }
}

static void gate_init(Gate *gate, const ThrottleConfig *cfg)
{
    for (ThrottleDirection dir = 0; dir < THROTTLE_MAX; dir++) {
        gate->waiting[dir] = g_queue_new();
    }
    gate->cfg = *cfg;
    gate->ts.cfg = *cfg;
}

static void gate_cleanup(Gate *gate)
{
    for (ThrottleDirection dir = 0; dir < THROTTLE_MAX; dir++) {
        g_queue_free(gate->waiting[dir]);
    }
    throttle_shares_free(gate->shares);
    g_free(gate);
}

static void test_random(void)
{
    uint64_t passed = 0, requests_in_all = 0;

    for (unsigned seed = 0; seed < SIMULATIONS; seed++) {
        GRand *rand = g_rand_new_with_seed(seed);
        GArray *requests = random_requests(rand);
        Gate *group = g_new0(Gate, 1), *exact = g_new0(Gate, 1);
        ThrottleConfig cfg;

        random_limits(rand, &cfg);
        gate_init(group, &cfg);
        gate_init(exact, &cfg);
        exact->ask = exact_ask;
        group->ask = group_ask;
        group->pass = group_pass;
        group->shares = throttle_shares_new();
        throttle_shares_configured(group->shares, &group->ts);

        for (unsigned i = 0; i < requests->len; i++) {
            gate_arrive(group, &g_array_index(requests, Request, i));
            gate_arrive(exact, &g_array_index(requests, Request, i));
        }
        compare(group, exact);
        passed += group->passed;
        requests_in_all += requests->len;

        gate_cleanup(group);
        gate_cleanup(exact);
        g_array_free(requests, true);
        g_rand_free(rand);
    }
    g_test_message("%" PRIu64 " of %" PRIu64 " without the lock", passed,
                   requests_in_all);
    g_assert_cmpuint(passed, >, requests_in_all / 10);
}

/* --- One thing at a time --- */

static ThrottleShares *shares_of(ThrottleState *ts, BucketType type,
                                 uint64_t average)
{
    ThrottleShares *shares = throttle_shares_new();

    memset(ts, 0, sizeof(*ts));
    throttle_config_init(&ts->cfg);
    ts->cfg.buckets[type].avg = average;
    throttle_shares_configured(shares, ts);
    return shares;
}

static void renew(ThrottleShares *shares, ThrottleState *ts, unsigned slot,
                  int64_t now)
{
    throttle_shares_collect(shares, ts, now);
    throttle_shares_renew(shares, ts, slot, THROTTLE_READ);
}

static unsigned take_all(ThrottleShares *shares, unsigned slot)
{
    unsigned count = 0;

    while (count < 100000 &&
           throttle_shares_take(shares, slot, THROTTLE_READ, 512)) {
        count++;
    }
    return count;
}

/* New threads get a share.  When the others are gone, one thread has it all. */
static void test_idle(void)
{
    ThrottleState ts;
    ThrottleShares *shares = shares_of(&ts, THROTTLE_OPS_TOTAL, 1000000);
    unsigned most = 1000000 / SHARES_IN_SECOND / 2;

    g_assert_cmpuint(take_all(shares, 0), ==, 0);
    renew(shares, &ts, 0, 0);
    g_assert_cmpuint(take_all(shares, 0), ==, most);
    for (unsigned slot = 1; slot < 4; slot++) {
        renew(shares, &ts, slot, NANOSECONDS_PER_SECOND / 2);
        g_assert_true(throttle_shares_take(shares, slot, THROTTLE_READ, 512));
    }
    renew(shares, &ts, 0, NANOSECONDS_PER_SECOND / 2);
    g_assert_cmpuint(take_all(shares, 0), <=, most / 2);

    for (int second = 2; second < 5; second++) {
        renew(shares, &ts, 0, second * NANOSECONDS_PER_SECOND);
    }
    g_assert_cmpuint(take_all(shares, 0), ==, most);
    throttle_shares_free(shares);
}

/* All uses of a share count, even if the share becomes void. */
static void test_counted(void)
{
    ThrottleState ts;
    ThrottleShares *shares = shares_of(&ts, THROTTLE_OPS_READ, 1000000);
    unsigned taken = 0;

    for (int i = 0; i < 10; i++) {
        renew(shares, &ts, i % 3, 0);
        for (int j = 0; j < 7 * i; j++) {
            taken += throttle_shares_take(shares, i % 3, THROTTLE_READ, 1);
        }
        if (i % 4 == 3) {
            throttle_shares_revoke(shares);
            g_assert_false(throttle_shares_take(shares, i % 3, THROTTLE_READ,
                                                1));
        }
    }
    throttle_shares_collect(shares, &ts, 0);
    g_assert_cmpuint(taken, ==, 7 * 45);
    g_assert_cmpfloat(ts.cfg.buckets[THROTTLE_OPS_READ].level, ==, taken);
    throttle_shares_free(shares);
}

/* New limits begin with empty buckets and without shares. */
static void test_configured(void)
{
    ThrottleState ts;
    ThrottleShares *shares = shares_of(&ts, THROTTLE_OPS_READ, 1000000);

    renew(shares, &ts, 0, 0);
    g_assert_true(throttle_shares_take(shares, 0, THROTTLE_READ, 512));
    ts.cfg.buckets[THROTTLE_OPS_READ].avg = 1000;
    throttle_shares_configured(shares, &ts);
    g_assert_false(throttle_shares_take(shares, 0, THROTTLE_READ, 512));
    renew(shares, &ts, 0, 0);
    g_assert_cmpfloat(ts.cfg.buckets[THROTTLE_OPS_READ].level, ==, 0);
    g_assert_cmpuint(take_all(shares, 0), ==, 1000 / SHARES_IN_SECOND / 2);
    throttle_shares_free(shares);
}

/* Huge requests, and threads without a slot, must look at the buckets. */
static void test_odd(void)
{
    ThrottleState ts;
    ThrottleShares *shares = shares_of(&ts, THROTTLE_BPS_WRITE, 1000000);

    ts.cfg.op_size = 1;
    renew(shares, &ts, 0, 0);
    g_assert_true(throttle_shares_take(shares, 0, THROTTLE_READ, 1 << 30));
    g_assert_false(throttle_shares_take(shares, 0, THROTTLE_READ, INT64_MAX));
    g_assert_false(throttle_shares_take(shares, 0, THROTTLE_WRITE, 0));
    renew(shares, &ts, THREAD_SLOT_SHARED, 0);
    g_assert_false(throttle_shares_take(shares, THREAD_SLOT_SHARED,
                                        THROTTLE_READ, 1));
    throttle_shares_free(shares);
}

/* --- Several threads --- */

#define THREADS         6
#define LIMIT           2000000

typedef struct Crowd {
    QemuMutex lock;
    ThrottleShares *shares;
    ThrottleState ts;
    unsigned went;
} Crowd;

/* Send requests until one would have to wait. */
static void *crowd_run(void *opaque)
{
    Crowd *crowd = opaque;
    unsigned slot = thread_slot(), went = 0;
    LeakyBucket *bucket = &crowd->ts.cfg.buckets[THROTTLE_OPS_TOTAL];

    for (;;) {
        if (throttle_shares_take(crowd->shares, slot, went % 2, 512)) {
            went++;
            continue;
        }
        QEMU_LOCK_GUARD(&crowd->lock);
        throttle_shares_collect(crowd->shares, &crowd->ts, 0);
        if (throttle_compute_wait(bucket)) {
            throttle_shares_revoke(crowd->shares);
            break;
        }
        throttle_account(&crowd->ts, went % 2, 512);
        throttle_shares_renew(crowd->shares, &crowd->ts, slot, went % 2);
        if (++went % 64 == 0) {
            throttle_shares_revoke(crowd->shares);
        }
    }
    qatomic_add(&crowd->went, went);
    return NULL;
}

/* The clock stands still, so exactly the bucket's size goes through. */
static void test_threads(void)
{
    Crowd crowd = { 0 };
    QemuThread threads[THREADS];
    LeakyBucket *bucket = &crowd.ts.cfg.buckets[THROTTLE_OPS_TOTAL];

    qemu_mutex_init(&crowd.lock);
    crowd.shares = shares_of(&crowd.ts, THROTTLE_OPS_TOTAL, LIMIT);
    for (int i = 0; i < THREADS; i++) {
        qemu_thread_create(&threads[i], "crowd", crowd_run, &crowd,
                           QEMU_THREAD_JOINABLE);
    }
    for (int i = 0; i < THREADS; i++) {
        qemu_thread_join(&threads[i]);
    }
    throttle_shares_collect(crowd.shares, &crowd.ts, 0);
    g_assert_cmpfloat(bucket->level, ==, crowd.went);
    g_assert_cmpuint(crowd.went, >, LIMIT / 10);
    g_assert_cmpuint(crowd.went, <=, LIMIT / 10 + 1 + THREADS);
    throttle_shares_free(crowd.shares);
    qemu_mutex_destroy(&crowd.lock);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/throttle-shares/idle", test_idle);
    g_test_add_func("/throttle-shares/counted", test_counted);
    g_test_add_func("/throttle-shares/configured", test_configured);
    g_test_add_func("/throttle-shares/odd", test_odd);
    g_test_add_func("/throttle-shares/threads", test_threads);
    g_test_add_func("/throttle-shares/random", test_random);
    return g_test_run();
}
