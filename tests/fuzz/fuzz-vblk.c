/*
 * Fuzzing virtio-blk-pci: a driver that does anything, and an administrator
 *
 * Requests are well-formed for the most part, so that the fuzzer gets behind
 * the checks; other operations write anything anywhere.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/address-spaces.h"
#include "exec/ioport.h"
#include "hw/boards.h"
#include "hw/pci/pci_regs.h"
#include "qapi/error.h"
#include "tests/qtest/fuzz/fuzz.h"
#include "fuzz-machine.h"
#include "fuzz-vblk.h"

#define PCIHP_EJECT     0xae08
#define PCIHP_SELECT    0xae10

typedef struct VblkDevice {
    const char *properties;
    unsigned interfaces;
    bool main_loop;             /* it cannot have IOThreads */
} VblkDevice;

typedef struct Vblk {
    VblkDriver driver;          /* first: operations take it */
    VblkDriver saved;           /* when the machine was saved */
    unsigned device;            /* of devices[] */
    unsigned threads;
    bool plugged;
    MemoryRegion other_ram;
    MemoryRegion areas[VBLK_AREAS];     /* of rings */
} Vblk;

static const VblkDevice devices[] = {
#define DEVICE(more) \
    "{'driver': 'virtio-blk-pci', 'addr': '04.0', 'num-queues': 4" more "}"
    { DEVICE(", 'packed': true, 'rerror': 'stop', 'werror': 'stop'"),
      VBLK_LEGACY | VBLK_MODERN },
    { DEVICE(", 'packed': true"), VBLK_LEGACY | VBLK_MODERN },
    { DEVICE(", 'packed': true, 'rerror': 'stop', 'werror': 'stop',"
             " 'logical_block_size': 4096, 'physical_block_size': 4096"),
      VBLK_LEGACY | VBLK_MODERN },
    { DEVICE(", 'packed': true, 'ioeventfd': false, 'vectors': 2"),
      VBLK_LEGACY | VBLK_MODERN, true },
    { DEVICE(", 'queue-size': 16, 'event_idx': false, 'in_order': true"),
      VBLK_LEGACY | VBLK_MODERN },
    { DEVICE(", 'packed': true, 'request-merging': false, 'vectors': 0,"
             " 'indirect_desc': false"), VBLK_LEGACY | VBLK_MODERN },
    { DEVICE(", 'iommu_platform': true, 'disable-legacy': 'on',"
             " 'config-wce': false, 'queue_reset': false"), VBLK_MODERN },
    { DEVICE(", 'disable-modern': true, 'rerror': 'stop'"), VBLK_LEGACY },
    { DEVICE(", 'packed': true, 'in_order': true"),
      VBLK_LEGACY | VBLK_MODERN },
};

/* A device that cannot have IOThreads gets none: see fuzz_plug(). */
static unsigned threads_of(unsigned device, unsigned threads)
{
    return devices[device].main_loop ? FUZZ_MAIN_LOOP : threads;
}

/*
 * The driver
 */

static unsigned some_size(VblkDriver *d, FuzzInput *in)
{
    static const uint16_t sizes[] = { 256, 1, 2, 3, 8, 128, 1024, 7 };
    unsigned size = sizes[fuzz_below(in, ARRAY_SIZE(sizes))];

    return d->ring == VBLK_PACKED || is_power_of_2(size) ? size : 4;
}

static void op_start(void *opaque, FuzzInput *in)
{
    VblkDriver *d = opaque;
    /* Features of rings, of the first and of the second word */
    uint64_t refused = (uint64_t)fuzz_byte(in) << 28 |
                       (uint64_t)fuzz_byte(in) << 34;

    vblk_start(d, refused, some_size(d, in));
}

static void op_start_legacy(void *opaque, FuzzInput *in)
{
    vblk_start_legacy(opaque, (uint64_t)fuzz_byte(in) << 24);
}

static void op_enable(void *opaque, FuzzInput *in)
{
    VblkDriver *d = opaque;
    int queue = fuzz_below(in, VBLK_QUEUES);

    d->spoilt = true;
    vblk_queue_enable(d, queue, some_size(d, in));
}

static void op_reset_queue(void *opaque, FuzzInput *in)
{
    VblkDriver *d = opaque;
    int queue = fuzz_below(in, VBLK_QUEUES + 1);

    d->spoilt = true;
    vblk_common_put(queue_select, queue, 2);
    vblk_put(VBLK_BAR_MODERN + VIRTIO_PCI_COMMON_Q_RESET, 1, 2);
    if (queue < VBLK_QUEUES) {
        d->queues[queue].size = 0;
    }
}

static void op_reset(void *opaque, FuzzInput *in)
{
    vblk_reset(opaque);
}

static void op_request(void *opaque, FuzzInput *in)
{
    VblkDriver *d = opaque;
    int how = fuzz_byte(in);
    int queue = how % VBLK_QUEUES;
    VblkSegment segments[VBLK_SEGMENTS];
    int count = vblk_some_request(in, segments);
    VblkTable table;

    vblk_need_queue(d, queue);
    if (how & 0x40) {
        table = vblk_some_table(in, how >> 2 & 15, count);
        vblk_offer(d, queue, segments, count, &table);
    } else {
        vblk_offer(d, queue, segments, count, NULL);
        if ((how & 0x18) == 0x18) {
            vblk_break_chain(d, queue, in);
        }
    }
    if (how & 0x80) {
        vblk_notify(d, queue);
    }
}

static void op_notify(void *opaque, FuzzInput *in)
{
    vblk_notify(opaque, fuzz_below(in, VBLK_QUEUES + 1));
}

/*
 * Anything anywhere
 */

/* In a ring's area: what is offered, and where events are wanted. */
static void op_scribble(void *opaque, FuzzInput *in)
{
    VblkDriver *d = opaque;
    int queue = fuzz_below(in, VBLK_QUEUES);
    unsigned part = fuzz_below(in, VBLK_PARTS);
    unsigned offset = fuzz_byte(in);

    d->spoilt = true;
    vblk_put(d->queues[queue].parts[part] + offset, fuzz_take(in, 2), 2);
}

static void op_break_chain(void *opaque, FuzzInput *in)
{
    vblk_break_chain(opaque, fuzz_below(in, VBLK_QUEUES), in);
}

static void op_common(void *opaque, FuzzInput *in)
{
    VblkDriver *d = opaque;
    unsigned offset = fuzz_below(in, 0x44);

    d->spoilt = true;
    vblk_put(VBLK_BAR_MODERN + offset, fuzz_take(in, 4), 1 << offset % 3);
}

static void op_read(void *opaque, FuzzInput *in)
{
    unsigned offset = fuzz_below(in, 0x44);

    vblk_get(VBLK_BAR_MODERN + offset, 1 << offset % 3);
    vblk_get(VBLK_CONFIG + offset, 1 << offset % 3);
}

static void op_config(void *opaque, FuzzInput *in)
{
    unsigned offset = fuzz_below(in, 0x60);

    vblk_put(VBLK_CONFIG + offset, fuzz_byte(in), 1);
}

static void op_vector(void *opaque, FuzzInput *in)
{
    uint64_t entry = VBLK_BAR_MSIX + 16 * fuzz_below(in, VBLK_QUEUES + 2);

    vblk_put(entry, 0xfee00000 | (fuzz_byte(in) & 0xf) << 12, 4);
    vblk_put(entry + 4, 0, 4);
    vblk_put(entry + 8, fuzz_byte(in), 4);
    vblk_put(entry + 12, fuzz_byte(in) & 1, 4);
}

static void op_queue_vector(void *opaque, FuzzInput *in)
{
    vblk_common_put(queue_select, fuzz_below(in, VBLK_QUEUES), 2);
    vblk_common_put(queue_msix_vector, (int8_t)fuzz_byte(in), 2);
}

static void op_msix(void *opaque, FuzzInput *in)
{
    vblk_pci_write(VBLK_MSIX, (uint32_t)(fuzz_byte(in) & 0xc0) << 24);
}

static void op_command(void *opaque, FuzzInput *in)
{
    ((VblkDriver *)opaque)->spoilt = true;
    vblk_pci_write(PCI_COMMAND, fuzz_byte(in) & 7);
    vblk_pci_write(PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY |
                   (fuzz_byte(in) & PCI_COMMAND_MASTER));
}

static void op_legacy(void *opaque, FuzzInput *in)
{
    unsigned port = VBLK_BAR_LEGACY + fuzz_below(in, 0x40);
    uint32_t value = fuzz_take(in, 4);

    ((VblkDriver *)opaque)->spoilt = true;
    switch (port % 3) {
    case 0:
        cpu_outb(port, value);
        break;
    case 1:
        cpu_outw(port, value);
        break;
    case 2:
        cpu_outl(port, value);
        break;
    }
    cpu_inl(port);
}

/* RAM goes or comes back: that of some buffers, or of a part of a ring. */
static void op_memory(void *opaque, FuzzInput *in)
{
    Vblk *v = opaque;
    unsigned which = fuzz_byte(in);
    MemoryRegion *ram = which < 0x80 ? &v->other_ram
                                     : &v->areas[which % VBLK_AREAS];

    v->driver.spoilt |= ram != &v->other_ram;
    memory_region_set_enabled(ram, !ram->enabled);
}

/*
 * The administrator
 */

/*
 * A device that comes or goes changes the memory map twenty times.  It takes
 * longer than most inputs to make a map for each change, so it is made once.
 */

static void unplug(Vblk *v)
{
    fuzz_ask_unplug();
    memory_region_transaction_begin();
    cpu_outl(PCIHP_SELECT, 0);
    cpu_outl(PCIHP_EJECT, 1 << VBLK_SLOT);
    memory_region_transaction_commit();
    fuzz_wait_unplugged();
    fuzz_forget_saved();
    v->plugged = false;
}

static void plug(Vblk *v, unsigned device, unsigned threads)
{
    fuzz_forget_saved();
    memory_region_transaction_begin();
    v->plugged = fuzz_plug(devices[device].properties,
                           threads_of(device, threads));
    memory_region_transaction_commit();
    v->driver.interfaces = devices[device].interfaces;
    v->driver.legacy = false;
    v->device = device;
    v->threads = threads;
    memset(v->driver.queues, 0, sizeof(v->driver.queues));
    vblk_pci_place();
}

static void op_plug(void *opaque, FuzzInput *in)
{
    Vblk *v = opaque;

    if (v->plugged) {
        unplug(v);
    } else {
        unsigned how = fuzz_byte(in);

        plug(v, how % ARRAY_SIZE(devices), how / ARRAY_SIZE(devices) % 3);
    }
}

static void op_save(void *opaque, FuzzInput *in)
{
    Vblk *v = opaque;

    fuzz_op_save(opaque, in);
    v->saved = v->driver;
}

/* The rings and their driver come back as they were, or do not. */
static void op_load(void *opaque, FuzzInput *in)
{
    Vblk *v = opaque;

    if (!fuzz_is_saved()) {
        op_save(v, in);
    }
    if (fuzz_load(in)) {
        v->driver = v->saved;
    } else {
        v->driver.spoilt = true;
    }
}

static FuzzOp *const ops[] = {
    op_notify, op_start, fuzz_op_settle, op_notify, fuzz_op_settle,
    op_scribble, op_break_chain, op_reset, op_reset_queue, op_enable,
    fuzz_op_stop, fuzz_op_continue, fuzz_op_move, op_plug, op_memory,
    op_save, op_load, op_vector, op_queue_vector, op_msix,
    op_command, op_common, op_read, op_config, op_legacy, fuzz_op_throttle,
    fuzz_op_query, op_start_legacy, fuzz_op_log,
};

static Vblk vblk;

/* Half of all inputs get the first device. */
static void begin_with(Vblk *v, unsigned how)
{
    unsigned device = how < 0x80 ? 0 : how % ARRAY_SIZE(devices);
    unsigned threads = how < 0x80 ? 0 : how / ARRAY_SIZE(devices) % 3;

    if (v->plugged && (v->device != device || v->threads != threads)) {
        unplug(v);
    }
    if (!v->plugged) {
        plug(v, device, threads);
    } else {
        vblk_pci_place();
    }
}

static void memory_comes_back(Vblk *v)
{
    memory_region_transaction_begin();
    memory_region_set_enabled(&v->other_ram, true);
    for (int i = 0; i < VBLK_AREAS; i++) {
        memory_region_set_enabled(&v->areas[i], true);
    }
    memory_region_transaction_commit();
}

/* Leave the machine as the next input wants to find it. */
static void end(Vblk *v, int queue)
{
    fuzz_settle();
    fuzz_throttle(0);
    memory_comes_back(v);
    fuzz_op_continue(v, NULL);
    if (v->plugged) {
        vblk_check_given_back(&v->driver);
        fuzz_op_continue(v, NULL);
    }
    if (!fuzz_forget_loaded() && v->plugged) {
        vblk_pci_reset();
    }
    if (v->plugged) {
        vblk_check_served(&v->driver, queue);
        vblk_reset(&v->driver);
    }
    fuzz_settle();
    fuzz_stop_log();
    memset(v->driver.queues, 0, sizeof(v->driver.queues));
}

static void fuzz(VblkRing ring, const unsigned char *data, size_t size)
{
    FuzzInput in = { data, size };

    vblk.driver.wanted = ring;
    vblk.driver.spoilt = false;
    begin_with(&vblk, fuzz_byte(&in));
    fuzz_operations(&in, &vblk, op_request, ops, ARRAY_SIZE(ops));
    end(&vblk, size % VBLK_QUEUES);
}

static void fuzz_split(QTestState *s, const unsigned char *data, size_t size)
{
    fuzz(VBLK_SPLIT, data, size);
}

static void fuzz_packed(QTestState *s, const unsigned char *data, size_t size)
{
    fuzz(VBLK_PACKED, data, size);
}

static void add_ram(MemoryRegion *ram, const char *name, hwaddr addr)
{
    memory_region_init_ram(ram, NULL, name, VBLK_AREA_BYTES, &error_abort);
    memory_region_add_subregion(get_system_memory(), addr, ram);
    fuzz_save_memory(ram);
}

static void begin(QTestState *s)
{
    fuzz_save_memory(current_machine->ram);
    add_ram(&vblk.other_ram, "other-ram", VBLK_OTHER_RAM);
    for (int i = 0; i < VBLK_AREAS; i++) {
        g_autofree char *name = g_strdup_printf("area%d", i);

        add_ram(&vblk.areas[i], name, VBLK_AREA(i));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
        for (unsigned threads = 0; threads < FUZZ_THREADS; threads++) {
            plug(&vblk, i, threads);
            assert(vblk.plugged);
            vblk_check_served(&vblk.driver, threads);
            unplug(&vblk);
        }
    }
}

static GString *command_line(FuzzTarget *target)
{
    GString *line = g_string_new(TARGET_NAME);

    g_string_append(line, " -machine pc,accel=qtest,smm=off,vmport=off,"
                    "hpet=off,i8042=off -m 8 -nodefaults -display none"
                    FUZZ_DISK);
    return line;
}

static void register_targets(void)
{
    fuzz_add_target(&(FuzzTarget) {
        .name = "vblk-split",
        .description = "virtio-blk with 4 queues, split rings, and control",
        .get_init_cmdline = command_line,
        .pre_fuzz = begin,
        .fuzz = fuzz_split,
    });
    fuzz_add_target(&(FuzzTarget) {
        .name = "vblk-packed",
        .description = "the same with packed rings",
        .get_init_cmdline = command_line,
        .pre_fuzz = begin,
        .fuzz = fuzz_packed,
    });
}

fuzz_target_init(register_targets);
