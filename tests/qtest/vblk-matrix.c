/*
 * One scenario in many settings, on this QEMU and on another
 *
 *     test --fork--> play here     --- record --+
 *      |                                        [=] --- what is wanted
 *      +-----fork--> play on other --- record --+
 *
 * If a play or its QEMU crashes or hangs, only the process of the play ends.
 * This is an outcome like any other, and the next test goes on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "vblk-matrix.h"

#define INDIRECT BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC)
#define EVENT BIT_ULL(VIRTIO_RING_F_EVENT_IDX)
#define PACKED BIT_ULL(VIRTIO_F_RING_PACKED)
#define IN_ORDER BIT_ULL(VIRTIO_F_IN_ORDER)

#define OTHER_BINARY "QTEST_QEMU_BINARY_DST"

/* The longest play takes a few seconds. */
#define PATIENCE_MS 30000

/* A failed test shows at most so many bytes of a play's output. */
#define OUTPUT_SHOWN 3000

typedef struct VblkMatrixRing {
    const char *name;
    VblkVariant variant;
    uint64_t features;
    const char *props;
    bool quick;
} VblkMatrixRing;

typedef struct VblkMatrixThreads {
    const char *name;
    unsigned where;
    const char *props;
    const char *stock_props;
    bool quick;
} VblkMatrixThreads;

static const VblkMatrixRing rings[] = {
    {
        "split", { "q35", "modern", true, true }, EVENT | INDIRECT, "",
        .quick = true,
    }, {
        "packed", { "q35", "modern", true, true }, EVENT | INDIRECT | PACKED,
        ", 'packed': true",
        .quick = true,
    }, {
        "in-order", { "q35", "modern", true, true },
        EVENT | INDIRECT | IN_ORDER, ", 'in_order': true",
    }, {
        "packed-in-order", { "q35", "modern", true, true },
        EVENT | INDIRECT | PACKED | IN_ORDER,
        ", 'packed': true, 'in_order': true",
    }, {
        "legacy", { "pc", "legacy", false, false }, EVENT | INDIRECT, "",
    },
};

#define MAPPING ", 'iothread-vq-mapping':" \
                " [{'iothread': 'io0'}, {'iothread': 'io1'}]"

static const VblkMatrixThreads threads[] = {
    { "main", VBLK_IN_MAIN, "", "" },
    {
        "iothread", VBLK_IN_IOTHREAD, ", 'iothread': 'io0'",
        ", 'iothread': 'io0'",
    },
    { "mapping", VBLK_IN_MAPPING, MAPPING, MAPPING, .quick = true },
    /* 10.0 has no such property; the nearest is one IOThread to two queues. */
    { "auto", VBLK_IN_AUTO, ", 'iothreads': 'auto'", MAPPING },
    {
        "no-ioeventfd", VBLK_IN_NO_IOEVENTFD, ", 'ioeventfd': false",
        ", 'ioeventfd': false", .quick = true,
    },
};

char *vblk_cell_props(const VblkPlay *p)
{
    const VblkCell *cell = p->cell;

    return g_strdup_printf("'num-queues': %u%s%s", VBLK_MATRIX_QUEUES,
                           cell->ring->props,
                           p->stock ? cell->threads->stock_props
                                    : cell->threads->props);
}

bool vblk_cell_polled(const VblkPlay *p)
{
    return p->cell->threads->where == VBLK_IN_NO_IOEVENTFD;
}

bool vblk_cell_has_ours(const VblkPlay *p)
{
    return !p->stock && !(p->cell->features & IN_ORDER);
}

char *vblk_cell_home(const VblkPlay *p, unsigned queue)
{
    unsigned n = MIN(VBLK_MATRIX_QUEUES, g_get_num_processors());

    switch (p->cell->threads->where) {
    case VBLK_IN_IOTHREAD:
        return g_strdup("io0");
    case VBLK_IN_MAPPING:
        return g_strdup_printf("io%u", queue % 2);
    case VBLK_IN_AUTO:
        return g_strdup_printf("disk0-iothread%u", queue % n);
    default:
        return NULL;
    }
}

static void note_line(VblkPlay *p, const char *line)
{
    g_assert_cmpint(qemu_write_full(p->record, line, strlen(line)), ==,
                    strlen(line));
}

void vblk_note(VblkPlay *p, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    g_autofree char *line = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    line = g_strconcat(text, "\n", NULL);
    note_line(p, line);
}

void vblk_note_ours(VblkPlay *p, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    g_autofree char *line = NULL;
    va_list ap;

    if (!vblk_cell_has_ours(p)) {
        return;
    }
    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    line = g_strconcat("ours: ", text, "\n", NULL);
    note_line(p, line);
}

void vblk_play_stuck(VblkPlay *p, const char *what)
{
    vblk_note(p, "stuck: no %s", what);
    /* QEMU goes with its parent. */
    _exit(1);
}

/*
 * Play in the child process.  Its output goes to a file, so that it does not
 * get into the test protocol.
 */
static void play_child(const VblkCell *cell, bool stock, const char *dir,
                       int record)
{
    g_autofree char *output = g_strdup_printf("%s/output", dir);
    int fd = open(output, O_WRONLY | O_CREAT | O_APPEND, 0600);
    VblkPlay p = { .cell = cell, .stock = stock, .record = record };

    g_assert_cmpint(fd, >=, 0);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    if (stock) {
        g_setenv("QTEST_QEMU_BINARY", getenv(OTHER_BINARY), true);
    }
    g_unsetenv(OTHER_BINARY);
    g_setenv("TMPDIR", dir, true);
    cell->what->play(&p);
    vblk_note(&p, "end");
    _exit(0);
}

/* All that is written to @fd until its other end is closed; false if never. */
static bool read_record(int fd, GString *record)
{
    gint64 end = g_get_monotonic_time() + PATIENCE_MS * 1000;
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    char buf[512];
    ssize_t n;

    for (;;) {
        int left = MAX((end - g_get_monotonic_time()) / 1000, 0);

        if (RETRY_ON_EINTR(poll(&pfd, 1, left)) == 0) {
            return false;
        }
        n = RETRY_ON_EINTR(read(fd, buf, sizeof(buf)));
        if (n <= 0) {
            return true;
        }
        g_string_append_len(record, buf, n);
    }
}

/* The end of what the play and its QEMU have printed; to be freed */
static char *read_output(const char *dir)
{
    g_autofree char *path = g_strdup_printf("%s/output", dir);
    g_autofree char *text = NULL;
    gsize len;

    if (!g_file_get_contents(path, &text, &len, NULL)) {
        return g_strdup("");
    }
    return g_strdup(text + (len > OUTPUT_SHOWN ? len - OUTPUT_SHOWN : 0));
}

static void remove_dir(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_strdup_printf("%s/%s", path, name);

        unlink(file);
    }
    g_clear_pointer(&dir, g_dir_close);
    rmdir(path);
}

/**
 * play: play @cell in a process of its own.
 * @output: set to what was printed, to be freed
 *
 * Returns: the record, to be freed.
 */
static char *play(const VblkCell *cell, bool stock, char **output)
{
    g_autofree char *dir = g_strdup_printf("%s/vblk-matrix-XXXXXX",
                                           getenv("TMPDIR") ?: "/tmp");
    GString *record = g_string_new("");
    int fds[2];
    int status;
    pid_t pid;

    g_assert_nonnull(g_mkdtemp(dir));
    g_assert(g_unix_open_pipe(fds, FD_CLOEXEC, NULL));
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        close(fds[0]);
        play_child(cell, stock, dir, fds[1]);
    }
    close(fds[1]);
    if (!read_record(fds[0], record)) {
        g_string_append(record, "stuck: the play did not end\n");
        kill(pid, SIGKILL);
    }
    close(fds[0]);
    RETRY_ON_EINTR(waitpid(pid, &status, 0));
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) {
        g_string_append_printf(record, "died: signal %d\n", WTERMSIG(status));
    }
    *output = read_output(dir);
    remove_dir(dir);
    return g_string_free(record, false);
}

/* All but the lines about what is ours */
static char *without_ours(const char *record)
{
    g_auto(GStrv) lines = g_strsplit(record, "\n", -1);
    GString *kept = g_string_new("");

    for (unsigned i = 0; lines[i]; i++) {
        if (*lines[i] && !g_str_has_prefix(lines[i], "ours: ")) {
            g_string_append_printf(kept, "%s\n", lines[i]);
        }
    }
    return g_string_free(kept, false);
}

/* A record, or what was printed, line by line */
static void show(const char *who, const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (unsigned i = 0; lines[i]; i++) {
        if (*lines[i]) {
            g_test_message("%s: %s", who, lines[i]);
        }
    }
}

/* Fail, and show the first line that differs, if they are not the same. */
static void compare(const char *who, const char *got, const char *output,
                    const char *want)
{
    g_auto(GStrv) a = g_strsplit(got, "\n", -1);
    g_auto(GStrv) b = g_strsplit(want, "\n", -1);
    unsigned i = 0;

    if (g_str_equal(got, want)) {
        return;
    }
    while (a[i] && b[i] && g_str_equal(a[i], b[i])) {
        i++;
    }
    g_test_message("%s, line %u: '%s'; wanted: '%s'", who, i + 1, a[i] ?: "",
                   b[i] ?: "");
    show("noted", got);
    show("printed", output);
    g_test_fail();
}

static void cell_run(const void *opaque)
{
    const VblkCell *cell = opaque;
    const VblkCase *c = cell->what;
    unsigned where = cell->threads->where;
    const char *text = where == VBLK_IN_NO_IOEVENTFD && c->want_polled
                       ? c->want_polled : c->want;
    g_autofree char *all = g_strconcat(text, "end\n", NULL);
    g_autofree char *common = without_ours(all);
    const char *want = cell->features & IN_ORDER ? common : all;
    g_autofree char *output = NULL;
    g_autofree char *ours = play(cell, false, &output);

    compare("ours", ours, output, want);
    if (vblk_machine_has_other() && c->ours_only) {
        g_test_message("on ours only: %s", c->why);
    } else if (vblk_machine_has_other()) {
        g_autofree char *printed = NULL;
        g_autofree char *stock = play(cell, true, &printed);

        if (c->stock_differs_in & where) {
            g_test_message("the other may differ: %s", c->why);
            show("noted by the other", stock);
        } else {
            compare("the other", stock, printed, common);
        }
    }
}

static void add_cell(const VblkCase *c, const VblkMatrixRing *ring,
                     const VblkMatrixThreads *t)
{
    g_autofree char *path = g_strdup_printf("virtio-blk-mq/matrix/%s/%s/%s",
                                            c->name, ring->name, t->name);
    VblkCell *cell = g_new(VblkCell, 1);

    *cell = (VblkCell) {
        .what = c,
        .variant = &ring->variant,
        .features = ring->features,
        .ring = ring,
        .threads = t,
    };
    qtest_add_data_func_full(path, cell, cell_run, g_free);
}

void vblk_matrix_add(const VblkCase *cases, unsigned num)
{
    bool slow = g_test_slow();

    for (const VblkCase *c = cases; c < cases + num; c++) {
        for (unsigned r = 0; r < ARRAY_SIZE(rings); r++) {
            for (unsigned t = 0; t < ARRAY_SIZE(threads); t++) {
                if ((!c->where || (c->where & threads[t].where)) &&
                    !(c->not_in_order && (rings[r].features & IN_ORDER)) &&
                    (slow ||
                     (c->quick && rings[r].quick && threads[t].quick))) {
                    add_cell(c, &rings[r], &threads[t]);
                }
            }
        }
    }
}
