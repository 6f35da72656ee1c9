/*
 * The texts of "-device TYPE,help" for properties of block devices with queues
 *
 *     iothreads=<str>        - Number of IOThreads that ... (default: ...)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "tests/qtest/libqtest.h"

/* Properties of queues, and properties that no other QEMU has */
static const char *const virtio_blk[] = {
    "iothread", "iothread-vq-mapping", "iothreads", "num-queues",
    "queue-size", "stats-intervals", NULL
};
static const char *const virtio_blk_pci[] = {
    "iothread", "iothread-vq-mapping", "iothreads", "num-queues",
    "queue-size", "stats-intervals", "vectors", NULL
};
static const char *const xen_disk[] = {
    "batch-copies", "iothread", "iothread-vq-mapping", "iothreads",
    "max-indirect-segments", "max-persistent-grants", "max-ring-page-order",
    "num-queues", "persistent-grants", "stats-intervals", "vdev",
    "write-barriers", NULL
};

static const struct {
    const char *device;
    const char *const *properties;
} cases[] = {
    { "virtio-blk-device", virtio_blk },
    { "virtio-blk-pci", virtio_blk_pci },
    { "virtio-blk-pci-non-transitional", virtio_blk_pci },
    { "virtio-blk-pci-transitional", virtio_blk_pci },
    { "xen-cdrom", xen_disk },
    { "xen-disk", xen_disk },
};

static char *help_text(const char *device)
{
    g_autofree char *what = g_strdup_printf("%s,help", device);
    const char *argv[] = { getenv("QTEST_QEMU_BINARY"), "-machine", "none",
                           "-device", what, NULL };
    char *text = NULL;
    int status;

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL,
                               G_SPAWN_SEARCH_PATH, NULL, NULL, &text, NULL,
                               &status, NULL));
    g_assert_cmpint(status, ==, 0);
    return text;
}

static void test_help(const void *opaque)
{
    unsigned i = GPOINTER_TO_UINT(opaque);
    g_autofree char *text = help_text(cases[i].device);

    for (const char *const *p = cases[i].properties; *p; p++) {
        /* The text must have words, and not only a value in brackets. */
        g_autofree char *pattern = g_strdup_printf("^ +%s=<[^ ]+> +- [^( ]",
                                                   *p);

        g_test_message("%s of %s", *p, cases[i].device);
        g_assert_true(g_regex_match_simple(pattern, text, G_REGEX_MULTILINE,
                                           0));
    }
}

/* The rings of a Xen disk are chosen when it is made, and no number says so. */
static void test_automatic(void)
{
    QTestState *s = qtest_init("-machine none");
    QDict *answer = qtest_qmp(s, "{ 'execute': 'device-list-properties',"
                                 "  'arguments': { 'typename': 'xen-disk' } }");
    const QListEntry *entry;
    unsigned found = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(answer, "return"), entry) {
        QDict *property = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(property, "name"), "num-queues")) {
            g_assert_false(qdict_haskey(property, "default-value"));
            found++;
        }
    }
    g_assert_cmpuint(found, ==, 1);
    qobject_unref(answer);
    qtest_quit(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *path = g_strdup_printf("block-queue/help/%s",
                                                cases[i].device);

        if (qtest_has_device(cases[i].device)) {
            qtest_add_data_func(path, GUINT_TO_POINTER(i), test_help);
        }
    }
    if (qtest_has_device("xen-disk")) {
        qtest_add_func("block-queue/automatic", test_automatic);
    }
    return g_test_run();
}
