/*
 * A machine whose CPUs run: notifications and interrupts are real
 *
 * Everything but these two goes by qtest's socket, which works beside any
 * accelerator.  The transport of the device is replaced by one whose
 * notifications a CPU sends; so the whole library of rings and requests is used
 * as it is.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qobject/qdict.h"
#include "standard-headers/linux/pci_regs.h"
#include "standard-headers/linux/virtio_pci.h"
#include "mq-cpu.h"

/* Interrupt messages: address of the first CPU's APIC */
#define MSI_ADDRESS 0xfee00000
#define MSI_CPU_SHIFT 12

/* x2APIC: the interrupt command register, and what starts a CPU */
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

/* Who polls looks at all its queues, whichever was kicked: io0 does not. */
#define IOTHREADS "-object iothread,id=io0,poll-max-ns=0 " \
                  "-object iothread,id=io1 "

static const MqAccel accels[] = {
    { "kvm", "-accel kvm " WITH_APIC, true, true },
    { "kvm-split", "-accel kvm,kernel-irqchip=split " WITH_APIC, true, true },
    { "kvm-off", "-accel kvm,kernel-irqchip=off " NO_APIC, true, false },
    { "tcg", "-accel tcg " WITH_APIC, false, true },
};

typedef struct MqCpuTest {
    MqCpuTestFn *fn;
    const MqVariant *variant;
    const MqAccel *accel;
    const void *what;
} MqCpuTest;

uint64_t mq_cpu_page(unsigned cpu)
{
    return (MQ_PAGE_SEGMENT << 4) + cpu * MQ_PAGE_SIZE;
}

uint32_t mq_far_pointer(uint64_t addr)
{
    g_assert_cmphex(addr, <, 0x100000);
    return addr >> 4 << 16 | (addr & 0xf);
}

static unsigned num_cpus(MqCpus *c)
{
    return MAX(c->config.cpus, 1);
}

uint32_t mq_cpu_read(MqCpus *c, unsigned cpu, unsigned offset)
{
    return qtest_readl(c->disk.m->qts, mq_cpu_page(cpu) + offset);
}

void mq_cpu_write(MqCpus *c, unsigned cpu, unsigned offset, uint32_t value)
{
    qtest_writel(c->disk.m->qts, mq_cpu_page(cpu) + offset, value);
}

/*
 * NULL if @accel runs our guest, else what is wrong.  The guest's first write
 * to a port ends this QEMU; after an error in KVM it would wait for ever.
 */
static char *probe(const MqAccel *accel)
{
    g_autofree char *command =
        g_strdup_printf("timeout " PROBE_SECONDS " %s -machine pc -m 16"
                        " -nodefaults -display none %s -bios " MQ_CPU_ROM
                        " -device isa-debug-exit,iobase=" MQ_HELLO_PORT_STR,
                        getenv("QTEST_QEMU_BINARY"), accel->args);
    g_autofree char *errors = NULL;
    g_autoptr(GError) error = NULL;
    int status;

    if (access("/dev/kvm", R_OK | W_OK)) {
        return g_strdup_printf("/dev/kvm: %s", g_strerror(errno));
    }
    g_spawn_command_line_sync(command, NULL, &errors, &status, &error);
    g_assert_no_error(error);
    if (WIFEXITED(status) && WEXITSTATUS(status) == (MQ_HELLO << 1 | 1)) {
        return NULL;
    }
    g_strdelimit(g_strstrip(errors), "\n", ' ');
    return g_strdup(*errors ? errors : "a guest of some bytes does not begin");
}

/* The same, tried once */
static const char *problem(const MqAccel *accel)
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
    const MqCpuTest *test = opaque;
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
static bool in_short_run(const MqVariant *v, unsigned a, unsigned set)
{
    if (v->pcie) {
        return false;
    }
    return 1u << a != MQ_KVM_SPLIT || (v->modern && (set & MQ_SHORT_SPLIT));
}

void mq_cpu_test_add_with(const char *path, MqCpuTestFn *fn, const void *what,
                          unsigned variants, unsigned set)
{
    const MqVariant *v;

    for (unsigned i = 0; (v = mq_variant(i)); i++) {
        for (unsigned a = 0; a < ARRAY_SIZE(accels); a++) {
            g_autofree char *full =
                g_strdup_printf("virtio-blk-mq/%s/%s/%s/%s", v->machine,
                                v->interface, accels[a].name, path);
            MqCpuTest *test;

            if ((variants & 1u << i) && (set & 1u << a) &&
                (g_test_slow() || in_short_run(v, a, set))) {
                test = g_new(MqCpuTest, 1);
                *test = (MqCpuTest) { fn, v, &accels[a], what };
                qtest_add_data_func_full(full, test, test_run, g_free);
            }
        }
    }
}

static void run_plain(const MqVariant *v, const MqAccel *accel,
                      const void *what)
{
    void (*fn)(const MqVariant *v, const MqAccel *accel) = what;

    fn(v, accel);
}

void mq_cpu_test_add(const char *path,
                     void (*fn)(const MqVariant *v, const MqAccel *accel),
                     unsigned variants, unsigned set)
{
    mq_cpu_test_add_with(path, run_plain, fn, variants, set);
}

/*
 * The machine
 */

static char *machine_args(MqCpus *c, const MqVariant *v)
{
    g_autofree char *props = g_strdup_printf("drive=disk,%s",
                                             c->config.props);
    g_autofree char *device = mq_device_arg(v, 0, props);
    g_autofree char *node =
        c->config.blkdebug
        ? g_strdup_printf("driver=blkdebug,image.driver=file,"
                          "image.filename=%s,%s", c->disk.image,
                          c->config.blkdebug)
        : g_strdup_printf("driver=raw,file.driver=file,file.filename=%s",
                          c->disk.image);

    return g_strdup_printf("%s -smp %u -bios " MQ_CPU_ROM " "
                           IOTHREADS "-blockdev node-name=disk,%s "
                           "-device %s", c->accel->args, num_cpus(c), node,
                           device);
}

/* Should KVM fail, QEMU goes on with the next accelerator: qtest's, no CPU. */
static void check_accel(MqCpus *c)
{
    QDict *info = qtest_qmp_assert_success_ref(c->disk.m->qts, "{'execute':"
                                               " 'query-kvm'}");

    g_assert_cmpint(qdict_get_bool(info, "enabled"), ==, c->accel->kvm);
    qobject_unref(info);
}

MqCpus *mq_cpus_start(const MqVariant *v, const MqAccel *accel,
                      MqCpusConfig config)
{
    MqCpus *c = g_new0(MqCpus, 1);

    c->accel = accel;
    c->config = config;
    c->drives = g_ptr_array_new_with_free_func(g_free);
    g_assert_cmpuint(num_cpus(c), <=, MQ_CPUS_MAX);
    c->low = mq_cpu_page(num_cpus(c));
    c->disk.image = mq_image_new(MQ_CPUS_DISK_SIZE);
    c->args = machine_args(c, v);
    c->config.props = NULL;
    c->disk.m = mq_machine_start(v, "%s", c->args);
    check_accel(c);
    mq_cpus_wait_boot(c, 0, 1);
    return c;
}

void mq_cpus_stop(MqCpus *c)
{
    for (unsigned i = 0; i < num_cpus(c); i++) {
        g_assert_cmphex(mq_cpu_read(c, i, MQ_PAGE_FAULT), ==, 0);
    }
    mq_disk_stop(&c->disk);
    g_ptr_array_free(c->drives, true);
    g_free(c->args);
    g_free(c);
}

void mq_cpus_migrate(MqCpus *c, bool running)
{
    MqMachine *from = c->disk.m;
    MqMachine *to = mq_machine_start_target(from, "%s", c->args);

    if (running) {
        char *file = mq_image_new(0);

        mq_machine_migrate_begin(from, file);
        mq_machine_migrate_end(from, to, file);
        mq_image_free(file);
    } else {
        mq_machine_migrate(from, to);
    }
    mq_device_move(c->disk.d, to);
    c->disk.m = to;
    check_accel(c);
    mq_machine_stop(from);
    if (!running) {
        qtest_qmp_assert_success(to->qts, "{'execute': 'cont'}");
    }
}

/*
 * CPUs
 */

void mq_cpus_wait_boot(MqCpus *c, unsigned cpu, unsigned times)
{
    gint64 start = g_get_monotonic_time();

    while (mq_cpu_read(c, cpu, MQ_PAGE_BOOTS) != times) {
        g_assert_cmphex(mq_cpu_read(c, cpu, MQ_PAGE_FAULT), ==, 0);
        mq_deadline(start, "a CPU to begin");
    }
    g_assert_cmpuint(mq_cpu_read(c, cpu, MQ_PAGE_X2APIC), ==, c->accel->apic);
}

void mq_cpus_reset(MqCpus *c)
{
    uint32_t boots = mq_cpu_read(c, 0, MQ_PAGE_BOOTS);

    qtest_qmp_assert_success(c->disk.m->qts, "{'execute': 'system_reset'}");
    mq_cpus_wait_boot(c, 0, boots + 1);
    for (unsigned i = 0; i < num_cpus(c); i++) {
        mq_cpu_write(c, i, MQ_PAGE_OP, 0);
        mq_cpu_write(c, i, MQ_PAGE_QUEUES, 0);
    }
    g_ptr_array_set_size(c->drives, 0);
    mq_machine_init_pci(c->disk.m);
    g_clear_pointer(&c->disk.d, mq_device_close);
}

void mq_cpus_sipi(MqCpus *c)
{
    for (unsigned i = 1; i < num_cpus(c); i++) {
        uint64_t target = (uint64_t)i << 32;
        uint32_t boots = mq_cpu_read(c, i, MQ_PAGE_BOOTS);

        mq_cpu_op(c, 0, MQ_OP_WRMSR, MSR_X2APIC_ICR, target | ICR_INIT);
        mq_cpu_op(c, 0, MQ_OP_WRMSR, MSR_X2APIC_ICR,
                  target | ICR_SIPI | ROM_PAGE);
        mq_cpus_wait_boot(c, i, boots + 1);
    }
}

void mq_cpu_op_begin(MqCpus *c, unsigned cpu, uint32_t op, uint32_t addr,
                     uint64_t value)
{
    QTestState *qts = c->disk.m->qts;

    g_assert_cmpuint(mq_cpu_read(c, cpu, MQ_PAGE_OP), ==, 0);
    mq_cpu_write(c, cpu, MQ_PAGE_ADDR, addr);
    qtest_writeq(qts, mq_cpu_page(cpu) + MQ_PAGE_VALUE, value);
    mq_cpu_write(c, cpu, MQ_PAGE_OP, op);
    if (c->accel->apic) {
        qtest_writel(qts, MSI_ADDRESS | cpu << MSI_CPU_SHIFT, MQ_VECTOR_WAKE);
    }
}

void mq_cpu_op_end(MqCpus *c, unsigned cpu)
{
    gint64 start = g_get_monotonic_time();

    while (mq_cpu_read(c, cpu, MQ_PAGE_OP)) {
        g_assert_cmphex(mq_cpu_read(c, cpu, MQ_PAGE_FAULT), ==, 0);
        mq_deadline(start, "the guest to do as it is told");
    }
}

void mq_cpu_op(MqCpus *c, unsigned cpu, uint32_t op, uint32_t addr,
               uint64_t value)
{
    mq_cpu_op_begin(c, cpu, op, addr, value);
    mq_cpu_op_end(c, cpu);
}

uint32_t mq_cpu_count(MqCpus *c, unsigned cpu, unsigned cpu_vector)
{
    return mq_cpu_read(c, cpu, MQ_PAGE_COUNTS + 4 * cpu_vector);
}

void mq_cpu_wait_count(MqCpus *c, unsigned cpu, unsigned cpu_vector,
                       uint32_t count)
{
    gint64 start = g_get_monotonic_time();
    uint32_t seen;

    while ((seen = mq_cpu_count(c, cpu, cpu_vector)) != count) {
        g_assert_cmpuint(seen, <, count);
        g_assert_cmphex(mq_cpu_read(c, cpu, MQ_PAGE_FAULT), ==, 0);
        mq_deadline(start, "an interrupt");
    }
}

struct MqCounts {
    uint32_t n[MQ_CPUS_MAX][256];
};

MqCounts *mq_counts_take(MqCpus *c)
{
    MqCounts *counts = g_new0(MqCounts, 1);

    for (unsigned i = 0; i < num_cpus(c); i++) {
        qtest_memread(c->disk.m->qts, mq_cpu_page(i) + MQ_PAGE_COUNTS,
                      counts->n[i], sizeof(counts->n[i]));
        counts->n[i][MQ_VECTOR_WAKE] = 0;
    }
    return counts;
}

void mq_counts_check(MqCpus *c, MqCounts *before, unsigned cpu,
                     unsigned cpu_vector, uint32_t expected)
{
    g_autofree MqCounts *now = NULL;

    before->n[cpu][cpu_vector] += expected;
    if (expected) {
        mq_cpu_wait_count(c, cpu, cpu_vector, before->n[cpu][cpu_vector]);
    }
    now = mq_counts_take(c);
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
static uint32_t find_port(MqDevice *d)
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

/* Put the modern BAR where nothing but PCI is: below 1 MiB. */
static void lower_bar(MqDevice *d)
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
static uint32_t bell_offset(MqDevice *d, unsigned index)
{
    unsigned reg = offsetof(struct virtio_pci_common_cfg, queue_notify_off);

    mq_device_queue_size(d, index);             /* selects it */
    return d->notify + d->notify_multiplier *
           qpci_io_readw(d->pci, d->bar, d->common + reg);
}

static uint32_t bell_address(MqCpus *c, unsigned index)
{
    MqDevice *d = c->disk.d;

    return c->bell == MQ_BELL_BY_PORT
           ? c->port : mq_far_pointer(d->bar.addr + bell_offset(d, index));
}

void mq_cpus_put_bell(MqCpus *c, uint8_t *entry, unsigned queue)
{
    g_assert_cmpint(c->bell, !=, MQ_BELL_BY_CONFIG);
    stl_le_p(entry + MQ_DRIVE_BELL, bell_address(c, queue));
    stw_le_p(entry + MQ_DRIVE_BELL_KIND,
             c->bell == MQ_BELL_BY_PORT ? MQ_BELL_PORT : MQ_BELL_MEMORY);
    stw_le_p(entry + MQ_DRIVE_QUEUE, queue);
}

/* A CPU writes to PCI configuration space. */
static void config_write(MqCpus *c, unsigned reg, uint32_t op, uint32_t value)
{
    MqDevice *d = c->disk.d;

    mq_cpu_op(c, c->kicker, MQ_OP_OUTL, PCI_ADDRESS_PORT,
              1u << 31 | d->pci->devfn << 8 | (reg & ~3));
    mq_cpu_op(c, c->kicker, op, PCI_DATA_PORT + (reg & 3), value);
}

static void ring_by_config(MqCpus *c, unsigned index)
{
    MqDevice *d = c->disk.d;
    uint8_t cap = 0;
    uint8_t type;

    do {
        cap = qpci_find_capability(d->pci, PCI_CAP_ID_VNDR, cap);
        g_assert_cmpint(cap, !=, 0);
        type = qpci_config_readb(d->pci, cap + offsetof(struct virtio_pci_cap,
                                                        cfg_type));
    } while (type != VIRTIO_PCI_CAP_PCI_CFG);
    config_write(c, cap + offsetof(struct virtio_pci_cap, bar), MQ_OP_OUTB,
                 (MODERN_BAR - PCI_BASE_ADDRESS_0) / 4);
    config_write(c, cap + offsetof(struct virtio_pci_cap, offset), MQ_OP_OUTL,
                 bell_offset(d, index));
    config_write(c, cap + offsetof(struct virtio_pci_cap, length), MQ_OP_OUTL,
                 2);
    config_write(c, cap + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data),
                 MQ_OP_OUTW, index);
}

/* For the device's transport, which is the one in MqCpus */
static void ring_bell(MqDevice *d, unsigned index)
{
    MqCpus *c = container_of(d->transport, MqCpus, transport);

    switch (c->bell) {
    case MQ_BELL_BY_PORT:
        mq_cpu_op(c, c->kicker, MQ_OP_OUTW, c->port, index);
        break;
    case MQ_BELL_BY_MMIO:
        mq_cpu_op(c, c->kicker, MQ_OP_POKEW, bell_address(c, index), index);
        break;
    case MQ_BELL_BY_CONFIG:
        ring_by_config(c, index);
        break;
    }
}

void mq_cpus_route(MqCpus *c, unsigned vector, unsigned cpu,
                   unsigned cpu_vector)
{
    mq_vector_set_message(c->disk.d, vector,
                          MSI_ADDRESS | cpu << MSI_CPU_SHIFT, cpu_vector);
}

void mq_cpus_open(MqCpus *c, MqBell bell)
{
    MqDevice *d = c->disk.d = mq_device_open(c->disk.m, 0);

    c->bell = bell;
    c->transport = *d->transport;
    c->transport.notify = ring_bell;
    d->transport = &c->transport;
    if (bell == MQ_BELL_BY_PORT) {
        c->port = find_port(d);
    } else if (bell == MQ_BELL_BY_MMIO) {
        lower_bar(d);
    }
    for (unsigned v = 0; v < d->num_vectors; v++) {
        mq_cpus_route(c, v, 0, MQ_CPU_VECTOR(v));
    }
}

void mq_cpus_intx(MqCpus *c)
{
    static const struct {
        uint16_t port;
        uint8_t value;
    } setup[] = {
        { ELCR_SLAVE, 1 << (INTX_IRQ - 8) },
        { PIC_MASK_SLAVE, (uint8_t)~(1 << (INTX_IRQ - 8)) },
        { PIC_MASK_MASTER, (uint8_t)~(1 << PIC_CASCADE) },
    };
    MqDevice *d = c->disk.d;
    g_autofree QPCIDevice *bridge = qpci_device_find(c->disk.m->pci,
                                                     PIIX3_DEVFN);

    for (unsigned i = 0; i < 4; i++) {
        qpci_config_writeb(bridge, PIIX3_PIRQ_ROUTE + i, INTX_IRQ);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(setup); i++) {
        mq_cpu_op(c, 0, MQ_OP_OUTB, setup[i].port, setup[i].value);
    }
    mq_cpu_write(c, 0, MQ_PAGE_ISR_ADDR, d->modern
                 ? mq_far_pointer(d->bar.addr + d->isr) : d->bar.addr + d->isr);
    mq_cpu_write(c, 0, MQ_PAGE_ISR_KIND, d->modern ? MQ_ISR_MEMORY
                                                   : MQ_ISR_PORT);
}
