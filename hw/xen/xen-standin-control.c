/*
 * Xen stand-in: the words of the frontend and of the toolstack
 *
 *     xs_read PATH                        one line asks,
 *     OK VALUE   or   FAIL ERRNO TEXT     one line answers
 *
 * The program at the other end of the chardev acts as the guest domain and as
 * the toolstack of domain 0.  Lines are answered in order.  A line that waits
 * (xs_wait, xs_sync) makes the lines after it wait too.
 *
 *     xs_write PATH VALUE         write a node; VALUE is the rest of the line
 *     xs_read PATH                the value
 *     xs_rm PATH                  remove the node and all below it
 *     xs_ls PATH                  the names of the nodes in it
 *     xs_wait PATH VALUE...       wait until the node has one of the values;
 *                                 without a value, until the node is gone
 *     xs_sync                     wait until all watches have been served
 *     xs_conflict N               let the next N transactions fail with EAGAIN
 *     evtchn_alloc                a new port of the guest; two eventfds come
 *                                 with the line: for kicks and for calls
 *     evtchn_close PORT           close it
 *     evtchn_send PORT            send as the guest does
 *     evtchn_pending PORT         the number of events since the last call
 *     evtchn_bound PORT           1 if a backend has bound the other end
 *     gnttab_setup FRAME N        the grant table is in N frames from FRAME on
 *     gnttab_limit N              let N grants be mapped at a time
 *     gnttab_stats                the seven numbers of XenStandinGrantStats
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "qemu/cutils.h"
#include <sys/eventfd.h>
#include "trace/trace-qemu_mq_hw_xen.h"
#include "xen-standin.h"

struct XenStandinControl {
    CharBackend *chr;
    struct qemu_xs_handle *xs;
    GString *input;

    /* A line waits for its answer, and later lines wait for that line. */
    bool busy;
    struct qemu_xs_watch *watch;
    char **wait_words;          /* PATH, and the values to wait for */
};

typedef struct ControlWord {
    const char *name;
    int min_args;
    int max_args;               /* further words belong to the last argument */
    void (*run)(XenStandinControl *c, char **args);
} ControlWord;

static void control_process(XenStandinControl *c);

static void G_GNUC_PRINTF(2, 3)
control_answer(XenStandinControl *c, const char *fmt, ...)
{
    g_autoptr(GString) line = g_string_new(NULL);
    va_list ap;

    va_start(ap, fmt);
    g_string_vprintf(line, fmt, ap);
    va_end(ap);
    trace_xen_standin_answer(line->str);
    g_string_append_c(line, '\n');
    qemu_chr_fe_write_all(c->chr, (const uint8_t *)line->str, line->len);
    c->busy = false;
}

static void control_fail(XenStandinControl *c, int err)
{
    control_answer(c, "FAIL %d %s", err, strerror(err));
}

static void control_ok(XenStandinControl *c, bool ok)
{
    if (ok) {
        control_answer(c, "OK");
    } else {
        control_fail(c, errno);
    }
}

/* Read a number.  If @arg is not one, answer FAIL and return false. */
static bool control_number(XenStandinControl *c, const char *arg,
                           uint64_t *value)
{
    if (qemu_strtou64(arg, NULL, 0, value) < 0) {
        control_fail(c, EINVAL);
        return false;
    }
    return true;
}

/*
 * Xenstore
 */

static void word_xs_write(XenStandinControl *c, char **args)
{
    const char *value = args[1] ?: "";

    control_ok(c, qemu_xen_xs_write(c->xs, XBT_NULL, args[0], value,
                                    strlen(value)));
}

static void word_xs_read(XenStandinControl *c, char **args)
{
    char *value = qemu_xen_xs_read(c->xs, XBT_NULL, args[0], NULL);

    if (value) {
        control_answer(c, "OK %s", value);
        free(value);
    } else {
        control_fail(c, errno);
    }
}

static void word_xs_rm(XenStandinControl *c, char **args)
{
    control_ok(c, qemu_xen_xs_destroy(c->xs, XBT_NULL, args[0]));
}

static void word_xs_ls(XenStandinControl *c, char **args)
{
    g_autoptr(GString) names = g_string_new(NULL);
    unsigned int i, n;
    char **list = qemu_xen_xs_directory(c->xs, XBT_NULL, args[0], &n);

    if (!list) {
        control_fail(c, errno);
        return;
    }
    for (i = 0; i < n; i++) {
        g_string_append_printf(names, " %s", list[i]);
    }
    free(list);
    control_answer(c, "OK%s", names->str);
}

/* Return whether the node has a wanted value, or is gone if none is wanted. */
static bool control_wait_is_over(XenStandinControl *c, const char *value)
{
    char **values = c->wait_words + 1;

    return *values ? value && g_strv_contains((const char **)values, value)
                   : !value;
}

static void control_wait_end(XenStandinControl *c)
{
    if (c->watch) {
        qemu_xen_xs_unwatch(c->xs, c->watch);
        c->watch = NULL;
    }
    g_clear_pointer(&c->wait_words, g_strfreev);
}

static void control_wait_event(void *opaque, const char *path)
{
    XenStandinControl *c = opaque;
    char *value = qemu_xen_xs_read(c->xs, XBT_NULL, c->wait_words[0], NULL);

    if (control_wait_is_over(c, value)) {
        control_wait_end(c);
        control_answer(c, "OK %s", value ?: "");
        control_process(c);
    }
    free(value);
}

static void word_xs_wait(XenStandinControl *c, char **args)
{
    c->wait_words = g_strsplit(args[0], " ", 0);
    c->watch = qemu_xen_xs_watch(c->xs, c->wait_words[0], control_wait_event,
                                 c);
    if (!c->watch) {
        control_wait_end(c);
        control_fail(c, errno);
    }
}

static void control_settled(void *opaque)
{
    XenStandinControl *c = opaque;

    control_answer(c, "OK");
    control_process(c);
}

static void word_xs_sync(XenStandinControl *c, char **args)
{
    xen_standin_xenstore_settle(control_settled, c);
}

static void word_xs_conflict(XenStandinControl *c, char **args)
{
    uint64_t n;

    if (control_number(c, args[0], &n)) {
        xen_standin_xenstore_set_conflicts(n);
        control_answer(c, "OK");
    }
}

/*
 * Event channels
 */

static void word_evtchn_alloc(XenStandinControl *c, char **args)
{
    int fds[2] = { -1, -1 };
    int given = qemu_chr_fe_get_msgfds(c->chr, fds, 2);
    int port = -1;

    if (given <= 0) {
        fds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    } else if (given == 2) {
        g_unix_set_fd_nonblocking(fds[0], true, NULL);
        g_unix_set_fd_nonblocking(fds[1], true, NULL);
    }
    if (fds[0] >= 0 && fds[1] >= 0) {
        port = xen_standin_evtchn_alloc(fds[0], fds[1]);
    } else {
        errno = EBADF;
    }
    if (port >= 0) {
        control_answer(c, "OK %d", port);
        return;
    }
    control_fail(c, errno);
    if (fds[0] >= 0) {
        close(fds[0]);
    }
    if (fds[1] >= 0) {
        close(fds[1]);
    }
}

static void word_evtchn_close(XenStandinControl *c, char **args)
{
    uint64_t port;

    if (control_number(c, args[0], &port)) {
        control_ok(c, xen_standin_evtchn_close(port) == 0);
    }
}

static void word_evtchn_send(XenStandinControl *c, char **args)
{
    uint64_t port;

    if (control_number(c, args[0], &port)) {
        control_ok(c, xen_standin_evtchn_send(port) == 0);
    }
}

/* Answer with @count, or with FAIL and errno if @count is negative. */
static void control_answer_count(XenStandinControl *c, int64_t count)
{
    if (count < 0) {
        control_fail(c, errno);
    } else {
        control_answer(c, "OK %" PRId64, count);
    }
}

static void word_evtchn_pending(XenStandinControl *c, char **args)
{
    uint64_t port;

    if (control_number(c, args[0], &port)) {
        control_answer_count(c, xen_standin_evtchn_take(port));
    }
}

static void word_evtchn_bound(XenStandinControl *c, char **args)
{
    uint64_t port;

    if (control_number(c, args[0], &port)) {
        control_answer_count(c, xen_standin_evtchn_is_bound(port));
    }
}

/*
 * Grants
 */

static void word_gnttab_setup(XenStandinControl *c, char **args)
{
    uint64_t frame, nr;

    if (control_number(c, args[0], &frame) &&
        control_number(c, args[1], &nr)) {
        control_ok(c, xen_standin_gnttab_setup(frame, nr) == 0);
    }
}

static void word_gnttab_limit(XenStandinControl *c, char **args)
{
    uint64_t n;

    if (control_number(c, args[0], &n)) {
        xen_standin_gnttab_set_limit(n);
        control_answer(c, "OK");
    }
}

static void word_gnttab_stats(XenStandinControl *c, char **args)
{
    XenStandinGrantStats s;

    xen_standin_gnttab_get_stats(&s);
    control_answer(c, "OK %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
                   " %" PRIu64 " %" PRIu64 " %" PRIu64, s.maps, s.mapped,
                   s.copies, s.segments, s.areas, s.refused, s.unmaps);
}

static const ControlWord control_words[] = {
    { "xs_write",       1, 2, word_xs_write },
    { "xs_read",        1, 1, word_xs_read },
    { "xs_rm",          1, 1, word_xs_rm },
    { "xs_ls",          1, 1, word_xs_ls },
    { "xs_wait",        1, 1, word_xs_wait },
    { "xs_sync",        0, 0, word_xs_sync },
    { "xs_conflict",    1, 1, word_xs_conflict },
    { "evtchn_alloc",   0, 0, word_evtchn_alloc },
    { "evtchn_close",   1, 1, word_evtchn_close },
    { "evtchn_send",    1, 1, word_evtchn_send },
    { "evtchn_pending", 1, 1, word_evtchn_pending },
    { "evtchn_bound",   1, 1, word_evtchn_bound },
    { "gnttab_setup",   2, 2, word_gnttab_setup },
    { "gnttab_limit",   1, 1, word_gnttab_limit },
    { "gnttab_stats",   0, 0, word_gnttab_stats },
};

/*
 * Lines
 */

static void control_run(XenStandinControl *c, const char *line)
{
    g_auto(GStrv) name = g_strsplit(line, " ", 2);
    int i;

    trace_xen_standin_word(line);
    c->busy = true;
    for (i = 0; i < ARRAY_SIZE(control_words); i++) {
        const ControlWord *word = &control_words[i];

        if (name[0] && g_str_equal(name[0], word->name)) {
            g_auto(GStrv) args = g_strsplit(name[1] ?: "", " ",
                                            word->max_args ?: 1);

            if (g_strv_length(args) < word->min_args) {
                control_fail(c, EINVAL);
            } else {
                word->run(c, args);
            }
            return;
        }
    }
    control_fail(c, ENOSYS);
}

static void control_process(XenStandinControl *c)
{
    char *end;

    while (!c->busy && (end = strchr(c->input->str, '\n'))) {
        size_t len = end - c->input->str;
        g_autofree char *line = g_strndup(c->input->str, len);

        g_string_erase(c->input, 0, len + 1);
        control_run(c, line);
    }
}

static int control_can_read(void *opaque)
{
    return 4096;
}

static void control_read(void *opaque, const uint8_t *buf, int size)
{
    XenStandinControl *c = opaque;

    g_string_append_len(c->input, (const char *)buf, size);
    control_process(c);
}

void xen_standin_control_start(XenStandin *s)
{
    XenStandinControl *c;

    if (!qemu_chr_fe_backend_connected(&s->chr)) {
        return;
    }
    c = g_new0(XenStandinControl, 1);
    c->chr = &s->chr;
    c->xs = qemu_xen_xs_open();
    c->input = g_string_new(NULL);
    s->control = c;
    qemu_chr_fe_set_handlers(c->chr, control_can_read, control_read, NULL,
                             NULL, c, NULL, true);
}
