/*
 * A machine with PCI slots for the tests of devices with several queues
 *
 *     pc:    pci.0 ---- slot 0, slot 1              (ACPI hotplug)
 *     q35:   pcie.0 --- root port 0 -- slot 0       (native hotplug)
 *                   `-- root port 1 -- slot 1
 *     microvm:          virtio-mmio 0, 1 are the slots, with no PCI
 *
 * No firmware runs in a qtest, so the root ports get their bus numbers and
 * windows from here.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include <glib-unix.h>
#include "qapi/error.h"
#include "qemu/timer.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "standard-headers/linux/pci_regs.h"
#include "tests/qtest/libqos/malloc-pc.h"
#include "tests/qtest/libqos/pci-pc.h"
#include "vblk-machine.h"

/* First device number of the slots (pc) or of the root ports (q35). */
#define FIRST_DEVICE 4

/* The part of the PCI address spaces that belongs to a slot. */
#define SLOT_IO_BASE 0xc000
#define SLOT_IO_SIZE 0x2000
#define SLOT_MEM_BASE 0xe0000000
#define SLOT_MEM_SIZE 0x4000000

/* PIIX4 ACPI hotplug: eject register of the bus that is selected at reset. */
#define PIIX4_EJECT_PORT 0xae08

/* Variable that names another QEMU to migrate to, and back from. */
#define OTHER_BINARY "QTEST_QEMU_BINARY_DST"

/* microvm: registers of the first virtio-mmio, and size of each */
#define MMIO_BASE 0xfeb00000
#define MMIO_SIZE 512

static const VblkVariant variants[] = {
    { "pc", "legacy", false, false },
    { "pc", "modern", false, true },
    { "q35", "legacy", true, false },
    { "q35", "modern", true, true },
    { "microvm", "legacy-mmio", false, false, true },
    { "microvm", "modern-mmio", false, true, true },
};

const VblkVariant *vblk_variant(unsigned index)
{
    return index < ARRAY_SIZE(variants) ? &variants[index] : NULL;
}

typedef struct VblkTest {
    void (*fn)(const VblkVariant *variant);
    void (*fn_with)(const VblkVariant *variant, const char *options);
    const VblkVariant *variant;
    const char *options;
} VblkTest;

static void test_run(const void *opaque)
{
    const VblkTest *test = opaque;

    if (test->fn) {
        test->fn(test->variant);
    } else {
        test->fn_with(test->variant, test->options);
    }
}

static void test_add(const char *path, VblkTest test, unsigned set)
{
    for (unsigned i = 0; i < ARRAY_SIZE(variants); i++) {
        g_autofree char *full = g_strdup_printf("virtio-blk-mq/%s/%s/%s",
                                                variants[i].machine,
                                                variants[i].interface, path);

        if (set & (1u << i)) {
            test.variant = &variants[i];
            qtest_add_data_func_full(full, g_memdup2(&test, sizeof(test)),
                                     test_run, g_free);
        }
    }
}

void vblk_test_add(const char *path, void (*fn)(const VblkVariant *variant),
                   unsigned set)
{
    test_add(path, (VblkTest) { .fn = fn }, set);
}

void vblk_test_add_with(const char *path, void (*fn)(const VblkVariant *variant,
                                                     const char *options),
                        const char *options, unsigned set)
{
    test_add(path, (VblkTest) { .fn_with = fn, .options = options }, set);
}

/* The machines of this test, for its last words. */
static GList *machines;

/* Print what the monitor of @m answers to @command. */
static void machine_say(VblkMachine *m, const char *command)
{
    QDict *rsp = qtest_qmp(m->qts, "{'execute': %s}", command);
    g_autoptr(GString) json = qobject_to_json_pretty(QOBJECT(rsp), true);

    g_printerr("%s: %s\n", command, json->str);
    qobject_unref(rsp);
}

/*
 * All waits call this in a loop.  If a call comes very late, the host has stood
 * still and QEMU too, so the time begins anew.
 */
void vblk_deadline(gint64 start, const char *what)
{
    static gint64 last, awake;
    gint64 now = g_get_monotonic_time();

    if (now - last > VBLK_DEADLINE_US / 10) {
        awake = now;
    }
    last = now;
    if (now - MAX(start, awake) > VBLK_DEADLINE_US) {
        g_printerr("waited in vain for %s\n", what);
        for (GList *l = machines; l; l = l->next) {
            machine_say(l->data, "query-status");
            machine_say(l->data, "__org.qemu-mq_query-block-queues");
        }
        abort();
    }
}

void vblk_clock_advance(VblkMachine *m, unsigned ms)
{
    for (unsigned i = 0; i < ms; i += VBLK_STEP_MS) {
        qtest_clock_step(m->qts, VBLK_STEP_MS * SCALE_MS);
    }
}

static char *bus_name(const VblkVariant *variant, unsigned slot)
{
    return variant->pcie ? g_strdup_printf("port%u", slot)
                         : g_strdup("pci.0");
}

static unsigned bus_addr(const VblkVariant *variant, unsigned slot)
{
    return variant->pcie ? 0 : FIRST_DEVICE + slot;
}

int vblk_slot_devfn(const VblkVariant *variant, unsigned slot)
{
    unsigned bus = variant->pcie ? 1 + slot : 0;

    return bus << 8 | QPCI_DEVFN(bus_addr(variant, slot), 0);
}

char *vblk_device_arg(const VblkVariant *variant, unsigned slot,
                      const char *props)
{
    g_autofree char *bus = bus_name(variant, slot);

    if (variant->mmio) {
        return g_strdup_printf("virtio-blk-device,id=disk%u,"
                               "bus=virtio-mmio-bus.%u,%s", slot, slot, props);
    }
    return g_strdup_printf("virtio-blk-pci,id=disk%u,bus=%s,addr=%u,"
                           "disable-legacy=%s,disable-modern=%s,%s",
                           slot, bus, bus_addr(variant, slot),
                           variant->modern ? "on" : "off",
                           variant->modern ? "off" : "on", props);
}

static QPCIDevice *root_port(VblkMachine *m, unsigned slot)
{
    QPCIDevice *port = qpci_device_find(m->pci,
                                        QPCI_DEVFN(FIRST_DEVICE + slot, 0));

    g_assert_nonnull(port);
    return port;
}

/* Set the power controller and indicator of a PCI Express slot. */
static void slot_power(VblkMachine *m, unsigned slot, bool on)
{
    QPCIDevice *port = root_port(m, slot);
    uint8_t cap = qpci_find_capability(port, PCI_CAP_ID_EXP, 0);
    uint16_t ctl = qpci_config_readw(port, cap + PCI_EXP_SLTCTL);

    ctl &= ~(PCI_EXP_SLTCTL_PIC | PCI_EXP_SLTCTL_PCC);
    ctl |= on ? PCI_EXP_SLTCTL_PWR_IND_ON | PCI_EXP_SLTCTL_PWR_ON
              : PCI_EXP_SLTCTL_PWR_IND_OFF | PCI_EXP_SLTCTL_PWR_OFF;
    qpci_config_writew(port, cap + PCI_EXP_SLTCTL, ctl);
    g_free(port);
}

char *vblk_device_add(VblkMachine *m, unsigned slot, const char *json)
{
    const VblkVariant *v = m->variant;
    g_autofree char *bus = bus_name(v, slot);
    g_autofree char *args =
        g_strdup_printf("{'driver': 'virtio-blk-pci', 'id': 'disk%u',"
                        " 'bus': '%s', 'addr': '%u', 'disable-legacy': '%s',"
                        " 'disable-modern': %s, %s}", slot, bus,
                        bus_addr(v, slot), v->modern ? "on" : "off",
                        v->modern ? "false" : "true", json);
    QDict *rsp = qtest_qmp(m->qts, "{'execute': 'device_add',"
                           " 'arguments': %p}",
                           qobject_from_json(args, &error_abort));
    char *error = NULL;

    if (qdict_haskey(rsp, "error")) {
        error = g_strdup(qdict_get_str(qdict_get_qdict(rsp, "error"), "desc"));
    } else if (v->pcie) {
        slot_power(m, slot, true);
    }
    qobject_unref(rsp);
    return error;
}

/* Unplugging reports the parts of a device too; they have no name. */
static void wait_device_deleted(VblkMachine *m, unsigned slot)
{
    g_autofree char *id = g_strdup_printf("disk%u", slot);
    bool gone = false;

    while (!gone) {
        QDict *event = qtest_qmp_eventwait_ref(m->qts, "DEVICE_DELETED");
        QDict *data = qdict_get_qdict(event, "data");

        gone = !g_strcmp0(qdict_get_try_str(data, "device"), id);
        qobject_unref(event);
    }
}

void vblk_device_del(VblkMachine *m, unsigned slot)
{
    g_autofree char *id = g_strdup_printf("disk%u", slot);

    qtest_qmp_device_del_send(m->qts, id);
    if (m->variant->pcie) {
        slot_power(m, slot, false);
    } else {
        qtest_outl(m->qts, PIIX4_EJECT_PORT, 1u << (FIRST_DEVICE + slot));
    }
    wait_device_deleted(m, slot);
}

uint64_t vblk_slot_mmio(unsigned slot)
{
    return MMIO_BASE + slot * MMIO_SIZE;
}

void vblk_slot_window(VblkMachine *m, unsigned slot)
{
    m->pci->pio_alloc_ptr = SLOT_IO_BASE + slot * SLOT_IO_SIZE;
    m->pci->mmio_alloc_ptr = SLOT_MEM_BASE + slot * SLOT_MEM_SIZE;
}

void vblk_machine_init_pci(VblkMachine *m)
{
    for (unsigned slot = 0; m->variant->pcie && slot < VBLK_SLOTS; slot++) {
        QPCIDevice *port = root_port(m, slot);
        unsigned io = SLOT_IO_BASE + slot * SLOT_IO_SIZE;
        unsigned mem = SLOT_MEM_BASE + slot * SLOT_MEM_SIZE;

        qpci_config_writeb(port, PCI_PRIMARY_BUS, 0);
        qpci_config_writeb(port, PCI_SECONDARY_BUS, 1 + slot);
        qpci_config_writeb(port, PCI_SUBORDINATE_BUS, 1 + slot);
        qpci_config_writeb(port, PCI_IO_BASE, io >> 8);
        qpci_config_writeb(port, PCI_IO_LIMIT, (io + SLOT_IO_SIZE - 1) >> 8);
        qpci_config_writew(port, PCI_MEMORY_BASE, mem >> 16);
        qpci_config_writew(port, PCI_MEMORY_LIMIT,
                           (mem + SLOT_MEM_SIZE - 1) >> 16);
        qpci_device_enable(port);
        g_free(port);
    }
}

static QTestState *init_with_env(const char *var, const char *args)
{
#if BASE_SINCE(10, 2)
    return qtest_init_ext(var, args, NULL, true);
#else
    return qtest_init_with_env(var, args, true);
#endif
}

static VblkMachine *machine_start(const VblkVariant *variant, bool other,
                                  const char *args)
{
    VblkMachine *m = g_new0(VblkMachine, 1);
    g_autoptr(GString) cmd = g_string_new("");

    g_string_printf(cmd, "-machine %s -m 128 -nodefaults ", variant->machine);
    if (variant->pcie) {
        g_string_append(cmd, "-global "
                        "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off ");
        for (unsigned slot = 0; slot < VBLK_SLOTS; slot++) {
            g_string_append_printf(cmd, "-device pcie-root-port,id=port%u,"
                                   "bus=pcie.0,addr=%u,chassis=%u,slot=%u ",
                                   slot, FIRST_DEVICE + slot, slot + 1,
                                   slot + 1);
        }
    }
    if (variant->mmio) {
        /* The first I/O APIC has the interrupts then. */
        g_string_append_printf(cmd, "-machine ioapic2=off "
                               "-global virtio-mmio.force-legacy=%s ",
                               variant->modern ? "off" : "on");
    }
    g_string_append(cmd, args);

    m->variant = variant;
    m->other = other;
    m->qts = init_with_env(other ? OTHER_BINARY : NULL, cmd->str);
    machines = g_list_append(machines, m);
    pc_alloc_init(&m->alloc, m->qts, ALLOC_NO_FLAGS);
    if (!variant->mmio) {
        m->pci = qpci_new_pc(m->qts, &m->alloc);
        vblk_machine_init_pci(m);
    }
    return m;
}

VblkMachine *vblk_machine_start(const VblkVariant *variant, const char *fmt,
                                ...)
{
    g_autofree char *args = NULL;
    va_list ap;

    va_start(ap, fmt);
    args = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return machine_start(variant, false, args);
}

VblkMachine *vblk_machine_start_target(const VblkMachine *from, const char *fmt,
                                       ...)
{
    g_autofree char *args = NULL;
    g_autofree char *all = NULL;
    va_list ap;

    va_start(ap, fmt);
    args = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    all = g_strdup_printf("%s -incoming defer", args);
    return machine_start(from->variant, getenv(OTHER_BINARY) && !from->other,
                         all);
}

bool vblk_machine_has_other(void)
{
    return getenv(OTHER_BINARY);
}

VblkMachine *vblk_machine_start_other(const VblkVariant *variant,
                                      const char *args)
{
    return machine_start(variant, true, args);
}

void vblk_machine_stop(VblkMachine *m)
{
    g_clear_pointer(&m->pci, qpci_free_pc);
    alloc_destroy(&m->alloc);
    qtest_quit(m->qts);
    machines = g_list_remove(machines, m);
    g_free(m);
}

/* Use QMP, because a throttle group of the command line uses real time. */
void vblk_slow_disk_add(VblkMachine *m, const char *image, const char *errors)
{
    g_autofree char *file =
        g_strdup_printf("{'driver': 'file', 'filename': '%s'}", image);
    g_autofree char *json =
        errors ? g_strdup_printf("{'driver': 'blkdebug', 'image': %s,"
                                 " 'inject-error': %s}", file, errors)
               : g_strdup(file);

    qtest_qmp_assert_success(m->qts, "{'execute': 'object-add', 'arguments':"
                             "{'qom-type': 'throttle-group', 'id': 'slow',"
                             " 'limits': {'iops-total': 1}}}");
    qtest_qmp_assert_success(m->qts, "{'execute': 'blockdev-add', 'arguments':"
                             "{'driver': 'throttle', 'node-name': 'disk',"
                             " 'throttle-group': 'slow', 'file': %p}}",
                             qobject_from_json(json, &error_abort));
}

/* Wait for the end of a migration as one side sees it. */
void vblk_machine_migrate_wait(VblkMachine *m)
{
    gint64 start = g_get_monotonic_time();
    bool done = false;

    while (!done) {
        QDict *info = qtest_qmp_assert_success_ref(m->qts, "{'execute':"
                                                   " 'query-migrate'}");
        const char *status = qdict_get_try_str(info, "status");

        g_assert_cmpstr(status, !=, "failed");
        done = !g_strcmp0(status, "completed");
        qobject_unref(info);
        vblk_deadline(start, "a migration");
    }
}

void vblk_machine_migrate_begin(VblkMachine *from, const char *file)
{
    g_autofree char *uri = g_strdup_printf("file:%s", file);

    qtest_qmp_assert_success(from->qts, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri);
}

void vblk_machine_migrate_end(VblkMachine *from, VblkMachine *to,
                              const char *file)
{
    g_autofree char *uri = g_strdup_printf("file:%s", file);

    vblk_machine_migrate_wait(from);
    qtest_qmp_assert_success(to->qts, "{'execute': 'migrate-incoming',"
                             " 'arguments': {'uri': %s}}", uri);
    vblk_machine_migrate_wait(to);
    migrate_allocator(&from->alloc, &to->alloc);
}

void vblk_machine_migrate(VblkMachine *from, VblkMachine *to)
{
    char *file = vblk_image_new(0);

    qtest_qmp_assert_success(from->qts, "{'execute': 'stop'}");
    vblk_machine_migrate_begin(from, file);
    vblk_machine_migrate_end(from, to, file);
    vblk_image_free(file);
}

/* Return how many pages of RAM have been sent. */
static uint64_t pages_sent(VblkMachine *m)
{
    QDict *info = qtest_qmp_assert_success_ref(m->qts, "{'execute':"
                                               " 'query-migrate'}");
    QDict *ram = qdict_get_qdict(info, "ram");
    uint64_t pages = ram ? qdict_get_int(ram, "duplicate") +
                           qdict_get_int(ram, "normal") : 0;

    g_assert_cmpstr(qdict_get_str(info, "status"), !=, "completed");
    g_assert_cmpstr(qdict_get_str(info, "status"), !=, "failed");
    qobject_unref(info);
    return pages;
}

int vblk_machine_stream_begin(VblkMachine *from, uint64_t pages)
{
    gint64 start = g_get_monotonic_time();
    int fds[2];

    g_assert(g_unix_open_pipe(fds, FD_CLOEXEC, NULL));
    qtest_qmp_fds_assert_success(from->qts, &fds[1], 1, "{'execute': 'getfd',"
                                 " 'arguments': {'fdname': 'stream'}}");
    close(fds[1]);
    qtest_qmp_assert_success(from->qts, "{'execute': 'migrate',"
                             " 'arguments': {'uri': 'fd:stream'}}");
    while (pages_sent(from) < pages) {
        vblk_deadline(start, "a migration's first pages");
    }
    return fds[0];
}

void vblk_machine_stream_end(VblkMachine *from, VblkMachine *to, int stream)
{
    char *file = vblk_image_new(0);
    int fd = open(file, O_WRONLY);
    char buf[4096];
    ssize_t n;

    g_assert_cmpint(fd, >=, 0);
    while ((n = read(stream, buf, sizeof(buf))) > 0) {
        g_assert_cmpint(write(fd, buf, n), ==, n);
    }
    g_assert_cmpint(n, ==, 0);
    close(stream);
    close(fd);
    vblk_machine_migrate_end(from, to, file);
    vblk_image_free(file);
}

static void image_unlink(void *path)
{
    unlink(path);
}

char *vblk_image_new(uint64_t size)
{
    char *path = NULL;
    int fd = g_file_open_tmp("virtio-blk-mq-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, size), ==, 0);
    close(fd);
    qtest_add_abrt_handler(image_unlink, path);
    return path;
}

void vblk_image_free(char *path)
{
    qtest_remove_abrt_handler(path);
    unlink(path);
    g_free(path);
}
