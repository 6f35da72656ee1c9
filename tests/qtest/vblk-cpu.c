/*
 * A machine whose CPUs run: notifications and interrupts are real
 *
 * Everything else goes by qtest's socket, which works beside any accelerator.
 * This file has a transport whose notifications a CPU sends.  The library of
 * rings and requests is used as it is.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qobject/qdict.h"
#include "standard-headers/linux/pci_regs.h"
#include "standard-headers/linux/virtio_pci.h"
#include "vblk-cpu.h"

/* Interrupt messages: address of the first CPU's APIC */
#define MSI_ADDRESS 0xfee00000
#define MSI_CPU_SHIFT 12

/* x2APIC: the interrupt command register, and the commands that start a CPU */
#define MSR_X2APIC_ICR 0x830
#define ICR_INIT 0x4500
#define ICR_SIPI 0x4600
#define ROM_PAGE 0xf0

/* pc: PCI memory that shows below 1 MiB; modern devices' BAR fits */
#define VGA_WINDOW 0xa0000
#define MODERN_BAR PCI_BASE_ADDRESS_4

/* pc: the bridge that routes INTx, its registers, and level or edge */
#define PIIX3_DEVFN 0x08
#define PIIX3_PIRQ_ROUTE 0x60
#define ELCR_SLAVE 0x4d1
#define PIC_MASK_MASTER 0x21
#define PIC_MASK_SLAVE 0xa1
#define PIC_CASCADE 2
#define INTX_IRQ 11

#define PCI_ADDRESS_PORT 0xcf8
#define PCI_DATA_PORT 0xcfc

/* How long a guest may take to show that KVM runs it */
#define PROBE_SECONDS "20"

/* Under KVM there is no APIC but KVM's. */
#define WITH_APIC "-cpu qemu64,pni=off,x2apic=on"
#define NO_APIC "-cpu qemu64,pni=off,apic=off"

/*
 * io0 does not poll, because a thread that polls looks at all its queues, also
 * at queues that were not kicked.
 */
#define IOTHREADS "-object iothread,id=io0,poll-max-ns=0 " \
                  "-object iothread,id=io1 "

static const VblkAccel accels[] = {
    { "kvm", "-accel kvm " WITH_APIC, true, true },
    { "kvm-split", "-accel kvm,kernel-irqchip=split " WITH_APIC, true, true },
    { "kvm-off", "-accel kvm,kernel-irqchip=off " NO_APIC, true, false },
    { "tcg", "-accel tcg " WITH_APIC, false, true },
};

typedef struct VblkCpuTest {
    VblkCpuTestFn *fn;
    const VblkVariant *variant;
    const VblkAccel *accel;
    const void *what;
} VblkCpuTest;

uint64_t vblk_cpu_page(unsigned cpu)
{
    return (VBLK_PAGE_SEGMENT << 4) + cpu * VBLK_PAGE_SIZE;
}

uint32_t vblk_far_pointer(uint64_t addr)
{
    g_assert_cmphex(addr, <, 0x100000);
    return addr >> 4 << 16 | (addr & 0xf);
}

static unsigned num_cpus(VblkCpus *c)
{
    return MAX(c->config.cpus, 1);
}

uint32_t vblk_cpu_read(VblkCpus *c, unsigned cpu, unsigned offset)
{
    return qtest_readl(c->disk.m->qts, vblk_cpu_page(cpu) + offset);
}

void vblk_cpu_write(VblkCpus *c, unsigned cpu, unsigned offset, uint32_t value)
{
    qtest_writel(c->disk.m->qts, vblk_cpu_page(cpu) + offset, value);
}

/*
 * NULL if @accel runs our guest, else what is wrong.  The guest's first write
 * to a port ends this QEMU; after an error in KVM it would wait for ever.
 */
static char *probe(const VblkAccel *accel)
{
    g_autofree char *command =
        g_strdup_printf("timeout " PROBE_SECONDS " %s -machine pc -m 16"
                        " -nodefaults -display none %s -bios " VBLK_CPU_ROM
                        " -device isa-debug-exit,iobase=" VBLK_HELLO_PORT_STR,
                        getenv("QTEST_QEMU_BINARY"), accel->args);
    g_autofree char *errors = NULL;
    g_autoptr(GError) error = NULL;
    int status;

    if (access("/dev/kvm", R_OK | W_OK)) {
        return g_strdup_printf("/dev/kvm: %s", g_strerror(errno));
    }
    g_spawn_command_line_sync(command, NULL, &errors, &status, &error);
    g_assert_no_error(error);
    if (WIFEXITED(status) && WEXITSTATUS(status) == (VBLK_HELLO << 1 | 1)) {
        return NULL;
    }
    g_strdelimit(g_strstrip(errors), "\n", ' ');
    return g_strdup(*errors ? errors : "a guest of some bytes does not begin");
}

/* The same, tried once */
static const char *problem(const VblkAccel *accel)
{
    static char *problems[ARRAY_SIZE(accels)];
    static bool probed[ARRAY_SIZE(accels)];
    unsigned i = accel - accels;

    if (!probed[i] && accel->kvm) {
        problems[i] = probe(accel);
        probed[i] = true;
    }
    return problems[i];
}

static void test_run(const void *opaque)
{
    const VblkCpuTest *test = opaque;
    const char *why = problem(test->accel);

    if (why) {
        g_autofree char *line = g_strdup_printf("%s does not work here: %s",
                                                test->accel->name, why);

        g_test_skip(line);
        return;
    }
    test->fn(test->variant, test->accel, test->what);
}

/* Whether a combination is part of a short run */
static bool in_short_run(const VblkVariant *v, unsigned a, unsigned set)
{
    if (v->pcie) {
        return false;
    }
    return 1u << a != VBLK_KVM_SPLIT || (v->modern && (set & VBLK_SHORT_SPLIT));
}

void vblk_cpu_test_add_with(const char *path, VblkCpuTestFn *fn,
                            const void *what, unsigned variants, unsigned set)
{
    const VblkVariant *v;

    for (unsigned i = 0; (v = vblk_variant(i)); i++) {
        for (unsigned a = 0; a < ARRAY_SIZE(accels); a++) {
            g_autofree char *full =
                g_strdup_printf("virtio-blk-mq/%s/%s/%s/%s", v->machine,
                                v->interface, accels[a].name, path);
            VblkCpuTest *test;

            if ((variants & 1u << i) && (set & 1u << a) &&
                (g_test_slow() || in_short_run(v, a, set))) {
                test = g_new(VblkCpuTest, 1);
                *test = (VblkCpuTest) { fn, v, &accels[a], what };
                qtest_add_data_func_full(full, test, test_run, g_free);
            }
        }
    }
}

static void run_plain(const VblkVariant *v, const VblkAccel *accel,
                      const void *what)
{
    void (*fn)(const VblkVariant *v, const VblkAccel *accel) = what;

    fn(v, accel);
}

void vblk_cpu_test_add(const char *path,
                       void (*fn)(const VblkVariant *v, const VblkAccel *accel),
                       unsigned variants, unsigned set)
{
    vblk_cpu_test_add_with(path, run_plain, fn, variants, set);
}

/*
 * The machine
 */

static char *machine_args(VblkCpus *c, const VblkVariant *v)
{
    g_autofree char *props = g_strdup_printf("drive=disk,%s",
                                             c->config.props);
    g_autofree char *device = vblk_device_arg(v, 0, props);
    g_autofree char *node =
        c->config.blkdebug
        ? g_strdup_printf("driver=blkdebug,image.driver=file,"
                          "image.filename=%s,%s", c->disk.image,
                          c->config.blkdebug)
        : g_strdup_printf("driver=raw,file.driver=file,file.filename=%s",
                          c->disk.image);

    return g_strdup_printf("%s -smp %u -bios " VBLK_CPU_ROM " "
                           IOTHREADS "-blockdev node-name=disk,%s "
                           "-device %s", c->accel->args, num_cpus(c), node,
                           device);
}

/* If KVM fails, QEMU takes the next accelerator, qtest, and no CPU runs. */
static void check_accel(VblkCpus *c)
{
    QDict *info = qtest_qmp_assert_success_ref(c->disk.m->qts, "{'execute':"
                                               " 'query-kvm'}");

    g_assert_cmpint(qdict_get_bool(info, "enabled"), ==, c->accel->kvm);
    qobject_unref(info);
}

VblkCpus *vblk_cpus_start(const VblkVariant *v, const VblkAccel *accel,
                          VblkCpusConfig config)
{
    VblkCpus *c = g_new0(VblkCpus, 1);

    c->accel = accel;
    c->config = config;
    c->drives = g_ptr_array_new_with_free_func(g_free);
    g_assert_cmpuint(num_cpus(c), <=, VBLK_CPUS_MAX);
    c->low = vblk_cpu_page(num_cpus(c));
    c->disk.image = vblk_image_new(VBLK_CPUS_DISK_SIZE);
    c->args = machine_args(c, v);
    c->config.props = NULL;
    c->disk.m = vblk_machine_start(v, "%s", c->args);
    check_accel(c);
    vblk_cpus_wait_boot(c, 0, 1);
    return c;
}

void vblk_cpus_stop(VblkCpus *c)
{
    for (unsigned i = 0; i < num_cpus(c); i++) {
        g_assert_cmphex(vblk_cpu_read(c, i, VBLK_PAGE_FAULT), ==, 0);
    }
    vblk_disk_stop(&c->disk);
    g_ptr_array_free(c->drives, true);
    g_free(c->args);
    g_free(c);
}

void vblk_cpus_migrate(VblkCpus *c, bool running)
{
    VblkMachine *from = c->disk.m;
    VblkMachine *to = vblk_machine_start_target(from, "%s", c->args);

    if (running) {
        char *file = vblk_image_new(0);

        vblk_machine_migrate_begin(from, file);
        vblk_machine_migrate_end(from, to, file);
        vblk_image_free(file);
    } else {
        vblk_machine_migrate(from, to);
    }
    vblk_device_move(c->disk.d, to);
    c->disk.m = to;
    check_accel(c);
    vblk_machine_stop(from);
    if (!running) {
        qtest_qmp_assert_success(to->qts, "{'execute': 'cont'}");
    }
}

/*
 * CPUs
 */

void vblk_cpus_wait_boot(VblkCpus *c, unsigned cpu, unsigned times)
{
    gint64 start = g_get_monotonic_time();

    while (vblk_cpu_read(c, cpu, VBLK_PAGE_BOOTS) != times) {
        g_assert_cmphex(vblk_cpu_read(c, cpu, VBLK_PAGE_FAULT), ==, 0);
        vblk_deadline(start, "a CPU to begin");
    }
    g_assert_cmpuint(vblk_cpu_read(c, cpu, VBLK_PAGE_X2APIC), ==,
                     c->accel->apic);
}

void vblk_cpus_reset(VblkCpus *c)
{
    uint32_t boots = vblk_cpu_read(c, 0, VBLK_PAGE_BOOTS);

    qtest_qmp_assert_success(c->disk.m->qts, "{'execute': 'system_reset'}");
    vblk_cpus_wait_boot(c, 0, boots + 1);
    for (unsigned i = 0; i < num_cpus(c); i++) {
        vblk_cpu_write(c, i, VBLK_PAGE_OP, 0);
        vblk_cpu_write(c, i, VBLK_PAGE_QUEUES, 0);
    }
    g_ptr_array_set_size(c->drives, 0);
    vblk_machine_init_pci(c->disk.m);
    g_clear_pointer(&c->disk.d, vblk_device_close);
}

void vblk_cpus_sipi(VblkCpus *c)
{
    for (unsigned i = 1; i < num_cpus(c); i++) {
        uint64_t target = (uint64_t)i << 32;
        uint32_t boots = vblk_cpu_read(c, i, VBLK_PAGE_BOOTS);

        vblk_cpu_op(c, 0, VBLK_OP_WRMSR, MSR_X2APIC_ICR, target | ICR_INIT);
        vblk_cpu_op(c, 0, VBLK_OP_WRMSR, MSR_X2APIC_ICR,
                    target | ICR_SIPI | ROM_PAGE);
        vblk_cpus_wait_boot(c, i, boots + 1);
    }
}

void vblk_cpu_op_begin(VblkCpus *c, unsigned cpu, uint32_t op, uint32_t addr,
                       uint64_t value)
{
    QTestState *qts = c->disk.m->qts;

    g_assert_cmpuint(vblk_cpu_read(c, cpu, VBLK_PAGE_OP), ==, 0);
    vblk_cpu_write(c, cpu, VBLK_PAGE_ADDR, addr);
    qtest_writeq(qts, vblk_cpu_page(cpu) + VBLK_PAGE_VALUE, value);
    vblk_cpu_write(c, cpu, VBLK_PAGE_OP, op);
    if (c->accel->apic) {
        qtest_writel(qts, MSI_ADDRESS | cpu << MSI_CPU_SHIFT, VBLK_VECTOR_WAKE);
    }
}

void vblk_cpu_op_end(VblkCpus *c, unsigned cpu)
{
    gint64 start = g_get_monotonic_time();

    while (vblk_cpu_read(c, cpu, VBLK_PAGE_OP)) {
        g_assert_cmphex(vblk_cpu_read(c, cpu, VBLK_PAGE_FAULT), ==, 0);
        vblk_deadline(start, "the guest to do as it is told");
    }
}

void vblk_cpu_op(VblkCpus *c, unsigned cpu, uint32_t op, uint32_t addr,
                 uint64_t value)
{
    vblk_cpu_op_begin(c, cpu, op, addr, value);
    vblk_cpu_op_end(c, cpu);
}

uint32_t vblk_cpu_count(VblkCpus *c, unsigned cpu, unsigned cpu_vector)
{
    return vblk_cpu_read(c, cpu, VBLK_PAGE_COUNTS + 4 * cpu_vector);
}

void vblk_cpu_wait_count(VblkCpus *c, unsigned cpu, unsigned cpu_vector,
                         uint32_t count)
{
    gint64 start = g_get_monotonic_time();
    uint32_t seen;

    while ((seen = vblk_cpu_count(c, cpu, cpu_vector)) != count) {
        g_assert_cmpuint(seen, <, count);
        g_assert_cmphex(vblk_cpu_read(c, cpu, VBLK_PAGE_FAULT), ==, 0);
        vblk_deadline(start, "an interrupt");
    }
}

struct VblkCounts {
    uint32_t n[VBLK_CPUS_MAX][256];
};

VblkCounts *vblk_counts_take(VblkCpus *c)
{
    VblkCounts *counts = g_new0(VblkCounts, 1);

    for (unsigned i = 0; i < num_cpus(c); i++) {
        qtest_memread(c->disk.m->qts, vblk_cpu_page(i) + VBLK_PAGE_COUNTS,
                      counts->n[i], sizeof(counts->n[i]));
        counts->n[i][VBLK_VECTOR_WAKE] = 0;
    }
    return counts;
}

void vblk_counts_check(VblkCpus *c, VblkCounts *before, unsigned cpu,
                       unsigned cpu_vector, uint32_t expected)
{
    g_autofree VblkCounts *now = NULL;

    before->n[cpu][cpu_vector] += expected;
    if (expected) {
        vblk_cpu_wait_count(c, cpu, cpu_vector, before->n[cpu][cpu_vector]);
    }
    now = vblk_counts_take(c);
    for (unsigned i = 0; i < num_cpus(c); i++) {
        for (unsigned v = 0; v < 256; v++) {
            if (now->n[i][v] != before->n[i][v]) {
                g_error("CPU %u saw vector 0x%x %u times instead of %u", i, v,
                        now->n[i][v], before->n[i][v]);
            }
        }
    }
    g_free(before);
}

/*
 * The disk
 */

/* The legacy BAR, or the one with nothing but the port of modern-pio-notify */
static uint32_t find_port(VblkDevice *d)
{
    if (!d->modern) {
        return d->bar.addr + VIRTIO_PCI_QUEUE_NOTIFY;
    }
    for (uint8_t cap = 0;
         (cap = qpci_find_capability(d->pci, PCI_CAP_ID_VNDR, cap));) {
        uint8_t type = qpci_config_readb(d->pci, cap +
                           offsetof(struct virtio_pci_cap, cfg_type));
        uint8_t bar = qpci_config_readb(d->pci, cap +
                          offsetof(struct virtio_pci_cap, bar));
        uint32_t offset = qpci_config_readl(d->pci, cap +
                              offsetof(struct virtio_pci_cap, offset));
        uint32_t addr = qpci_config_readl(d->pci, PCI_BASE_ADDRESS_0 +
                                          4 * bar);

        if (type == VIRTIO_PCI_CAP_NOTIFY_CFG &&
            (addr & PCI_BASE_ADDRESS_SPACE_IO)) {
            return qpci_iomap(d->pci, bar, NULL).addr + offset;
        }
    }
    g_assert_not_reached();
}

/* Put the modern BAR below 1 MiB, where only PCI devices are. */
static void lower_bar(VblkDevice *d)
{
    uint16_t command = qpci_config_readw(d->pci, PCI_COMMAND);

    g_assert_false(d->machine->variant->pcie);
    qpci_config_writew(d->pci, PCI_COMMAND, command & ~PCI_COMMAND_MEMORY);
    qpci_config_writel(d->pci, MODERN_BAR, VGA_WINDOW);
    qpci_config_writel(d->pci, MODERN_BAR + 4, 0);
    qpci_config_writew(d->pci, PCI_COMMAND, command);
    d->bar.addr = VGA_WINDOW;
}

/* The offset that a queue's notifications have in their structure */
static uint32_t bell_offset(VblkDevice *d, unsigned index)
{
    unsigned reg = offsetof(struct virtio_pci_common_cfg, queue_notify_off);

    vblk_device_queue_size(d, index);           /* selects it */
    return d->notify + d->notify_multiplier *
           qpci_io_readw(d->pci, d->bar, d->common + reg);
}

static uint32_t bell_address(VblkCpus *c, unsigned index)
{
    VblkDevice *d = c->disk.d;

    return c->bell == VBLK_BELL_BY_PORT
           ? c->port : vblk_far_pointer(d->bar.addr + bell_offset(d, index));
}

void vblk_cpus_put_bell(VblkCpus *c, uint8_t *entry, unsigned queue)
{
    g_assert_cmpint(c->bell, !=, VBLK_BELL_BY_CONFIG);
    stl_le_p(entry + VBLK_DRIVE_BELL, bell_address(c, queue));
    stw_le_p(entry + VBLK_DRIVE_BELL_KIND,
             c->bell == VBLK_BELL_BY_PORT ? VBLK_BELL_PORT : VBLK_BELL_MEMORY);
    stw_le_p(entry + VBLK_DRIVE_QUEUE, queue);
}

/* A CPU writes to PCI configuration space. */
static void config_write(VblkCpus *c, unsigned reg, uint32_t op, uint32_t value)
{
    VblkDevice *d = c->disk.d;

    vblk_cpu_op(c, c->kicker, VBLK_OP_OUTL, PCI_ADDRESS_PORT,
                1u << 31 | d->pci->devfn << 8 | (reg & ~3));
    vblk_cpu_op(c, c->kicker, op, PCI_DATA_PORT + (reg & 3), value);
}

static void ring_by_config(VblkCpus *c, unsigned index)
{
    VblkDevice *d = c->disk.d;
    uint8_t cap = 0;
    uint8_t type;

    do {
        cap = qpci_find_capability(d->pci, PCI_CAP_ID_VNDR, cap);
        g_assert_cmpint(cap, !=, 0);
        type = qpci_config_readb(d->pci, cap + offsetof(struct virtio_pci_cap,
                                                        cfg_type));
    } while (type != VIRTIO_PCI_CAP_PCI_CFG);
    config_write(c, cap + offsetof(struct virtio_pci_cap, bar), VBLK_OP_OUTB,
                 (MODERN_BAR - PCI_BASE_ADDRESS_0) / 4);
    config_write(c, cap + offsetof(struct virtio_pci_cap, offset), VBLK_OP_OUTL,
                 bell_offset(d, index));
    config_write(c, cap + offsetof(struct virtio_pci_cap, length), VBLK_OP_OUTL,
                 2);
    config_write(c, cap + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data),
                 VBLK_OP_OUTW, index);
}

/* For the device's transport, which is the one in VblkCpus */
static void ring_bell(VblkDevice *d, unsigned index)
{
    VblkCpus *c = container_of(d->transport, VblkCpus, transport);

    switch (c->bell) {
    case VBLK_BELL_BY_PORT:
        vblk_cpu_op(c, c->kicker, VBLK_OP_OUTW, c->port, index);
        break;
    case VBLK_BELL_BY_MMIO:
        vblk_cpu_op(c, c->kicker, VBLK_OP_POKEW, bell_address(c, index), index);
        break;
    case VBLK_BELL_BY_CONFIG:
        ring_by_config(c, index);
        break;
    }
}

void vblk_cpus_route(VblkCpus *c, unsigned vector, unsigned cpu,
                     unsigned cpu_vector)
{
    vblk_vector_set_message(c->disk.d, vector,
                            MSI_ADDRESS | cpu << MSI_CPU_SHIFT, cpu_vector);
}

void vblk_cpus_open(VblkCpus *c, VblkBell bell)
{
    VblkDevice *d = c->disk.d = vblk_device_open(c->disk.m, 0);

    c->bell = bell;
    c->transport = *d->transport;
    c->transport.notify = ring_bell;
    d->transport = &c->transport;
    if (bell == VBLK_BELL_BY_PORT) {
        c->port = find_port(d);
    } else if (bell == VBLK_BELL_BY_MMIO) {
        lower_bar(d);
    }
    for (unsigned v = 0; v < d->num_vectors; v++) {
        vblk_cpus_route(c, v, 0, VBLK_CPU_VECTOR(v));
    }
}

void vblk_cpus_intx(VblkCpus *c)
{
    static const struct {
        uint16_t port;
        uint8_t value;
    } setup[] = {
        { ELCR_SLAVE, 1 << (INTX_IRQ - 8) },
        { PIC_MASK_SLAVE, (uint8_t)~(1 << (INTX_IRQ - 8)) },
        { PIC_MASK_MASTER, (uint8_t)~(1 << PIC_CASCADE) },
    };
    VblkDevice *d = c->disk.d;
    g_autofree QPCIDevice *bridge = qpci_device_find(c->disk.m->pci,
                                                     PIIX3_DEVFN);

    for (unsigned i = 0; i < 4; i++) {
        qpci_config_writeb(bridge, PIIX3_PIRQ_ROUTE + i, INTX_IRQ);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(setup); i++) {
        vblk_cpu_op(c, 0, VBLK_OP_OUTB, setup[i].port, setup[i].value);
    }
    vblk_cpu_write(c, 0, VBLK_PAGE_ISR_ADDR, d->modern
                   ? vblk_far_pointer(d->bar.addr + d->isr)
                   : d->bar.addr + d->isr);
    vblk_cpu_write(c, 0, VBLK_PAGE_ISR_KIND, d->modern ? VBLK_ISR_MEMORY
                                                       : VBLK_ISR_PORT);
}
