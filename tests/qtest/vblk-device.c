/*
 * virtio-blk as a driver with several queues sees it, and PCI's registers
 *
 *     status, features, queue addresses, vectors:  registers in a BAR,
 *                                                  legacy or modern layout
 *     interrupts:  MSI-X messages, one word of guest RAM for each vector,
 *                  so that a test sees which vectors have been raised;
 *                  without MSI-X the ISR byte and the INTx line
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/pci_regs.h"
#include "standard-headers/linux/virtio_pci.h"
#include "vblk-device.h"
#include "vblk-ring.h"

#define COMMON(field) offsetof(struct virtio_pci_common_cfg, field)

/* More than any test offers; bounds the search for the last queue. */
#define MAX_QUEUES 1024

/* The choices of a driver that asks for nothing special. */
#define USUAL_RING 256

/*
 * The library never accepts these features.  With the first one (legacy only),
 * an interrupt for each emptied ring could hide that another one is missing.
 * Bit 30 tells bad drivers, which accept all features.
 */
#define REFUSED_FEATURES (BIT_ULL(VIRTIO_F_NOTIFY_ON_EMPTY) | BIT_ULL(30))

/* The data of a vector's message; never 0, which means "none yet". */
static uint32_t message_data(unsigned vector)
{
    return 0x4d510001 + vector;
}

static uint8_t reg_readb(VblkDevice *d, uint32_t offset)
{
    return qpci_io_readb(d->pci, d->bar, offset);
}

static uint16_t reg_readw(VblkDevice *d, uint32_t offset)
{
    return qpci_io_readw(d->pci, d->bar, offset);
}

static uint32_t reg_readl(VblkDevice *d, uint32_t offset)
{
    return qpci_io_readl(d->pci, d->bar, offset);
}

static void reg_writeb(VblkDevice *d, uint32_t offset, uint8_t value)
{
    qpci_io_writeb(d->pci, d->bar, offset, value);
}

static void reg_writew(VblkDevice *d, uint32_t offset, uint16_t value)
{
    qpci_io_writew(d->pci, d->bar, offset, value);
}

static void reg_writel(VblkDevice *d, uint32_t offset, uint32_t value)
{
    qpci_io_writel(d->pci, d->bar, offset, value);
}

static void reg_write64(VblkDevice *d, uint32_t offset, uint64_t value)
{
    reg_writel(d, offset, value);
    reg_writel(d, offset + 4, value >> 32);
}

/* Return the offset in config space of the capability for a structure. */
static uint8_t find_structure(QPCIDevice *pci, uint8_t type)
{
    uint8_t cap = 0;

    do {
        cap = qpci_find_capability(pci, PCI_CAP_ID_VNDR, cap);
        g_assert_cmpint(cap, !=, 0);
    } while (qpci_config_readb(pci, cap + offsetof(struct virtio_pci_cap,
                                                   cfg_type)) != type);
    return cap;
}

/* Return the offset of the structure of @type in the BAR that has them all. */
static uint32_t structure_offset(VblkDevice *d, uint8_t type)
{
    uint8_t cap = find_structure(d->pci, type);

    return qpci_config_readl(d->pci,
                             cap + offsetof(struct virtio_pci_cap, offset));
}

static void map_modern(VblkDevice *d)
{
    uint8_t common = find_structure(d->pci, VIRTIO_PCI_CAP_COMMON_CFG);
    uint8_t notify = find_structure(d->pci, VIRTIO_PCI_CAP_NOTIFY_CFG);
    uint8_t bar = qpci_config_readb(d->pci, common +
                                    offsetof(struct virtio_pci_cap, bar));

    d->bar = qpci_iomap(d->pci, bar, NULL);
    d->common = structure_offset(d, VIRTIO_PCI_CAP_COMMON_CFG);
    d->notify = structure_offset(d, VIRTIO_PCI_CAP_NOTIFY_CFG);
    d->isr = structure_offset(d, VIRTIO_PCI_CAP_ISR_CFG);
    d->config = structure_offset(d, VIRTIO_PCI_CAP_DEVICE_CFG);
    d->notify_multiplier =
        qpci_config_readl(d->pci, notify +
                          offsetof(struct virtio_pci_notify_cap,
                                   notify_off_multiplier));
}

static void map_legacy(VblkDevice *d)
{
    d->bar = qpci_iomap(d->pci, 0, NULL);
    g_assert_true(d->bar.is_io);
    d->isr = VIRTIO_PCI_ISR;
    d->config = VIRTIO_PCI_CONFIG_OFF(d->num_vectors > 0);
}

static uint64_t vector_entry(VblkDevice *d, unsigned vector)
{
    g_assert_cmpuint(vector, <, d->num_vectors);
    return d->pci->msix_table_off + vector * PCI_MSIX_ENTRY_SIZE;
}

static void vector_write(VblkDevice *d, unsigned vector, unsigned field,
                         uint32_t value)
{
    qpci_io_writel(d->pci, d->pci->msix_table_bar,
                   vector_entry(d, vector) + field, value);
}

static uint64_t message_addr(VblkDevice *d, unsigned vector)
{
    return d->messages + vector * sizeof(uint32_t);
}

static void enable_msix(VblkDevice *d)
{
    if (!qpci_config_readb(d->pci, PCI_CAPABILITY_LIST) ||
        !qpci_find_capability(d->pci, PCI_CAP_ID_MSIX, 0)) {
        return;
    }
    d->num_vectors = qpci_msix_table_size(d->pci);
    d->messages = guest_alloc(&d->machine->alloc,
                              d->num_vectors * sizeof(uint32_t));
    qtest_memset(d->qts, d->messages, 0, d->num_vectors * sizeof(uint32_t));

    qpci_msix_enable(d->pci);
    for (unsigned v = 0; v < d->num_vectors; v++) {
        vector_write(d, v, PCI_MSIX_ENTRY_LOWER_ADDR, message_addr(d, v));
        vector_write(d, v, PCI_MSIX_ENTRY_UPPER_ADDR, 0);
        vector_write(d, v, PCI_MSIX_ENTRY_DATA, message_data(v));
        vector_write(d, v, PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
    }
}

static uint8_t pci_get_status(VblkDevice *d)
{
    return reg_readb(d, d->modern ? d->common + COMMON(device_status)
                                  : VIRTIO_PCI_STATUS);
}

static void pci_set_status(VblkDevice *d, uint8_t status)
{
    reg_writeb(d, d->modern ? d->common + COMMON(device_status)
                            : VIRTIO_PCI_STATUS, status);
}

static uint64_t pci_get_features(VblkDevice *d)
{
    uint64_t features;

    if (!d->modern) {
        return reg_readl(d, VIRTIO_PCI_HOST_FEATURES);
    }
    reg_writel(d, d->common + COMMON(device_feature_select), 1);
    features = reg_readl(d, d->common + COMMON(device_feature));
    reg_writel(d, d->common + COMMON(device_feature_select), 0);
    return features << 32 | reg_readl(d, d->common + COMMON(device_feature));
}

static void pci_set_features(VblkDevice *d, uint64_t features)
{
    if (!d->modern) {
        reg_writel(d, VIRTIO_PCI_GUEST_FEATURES, features);
        return;
    }
    for (unsigned half = 0; half < 2; half++) {
        reg_writel(d, d->common + COMMON(guest_feature_select), half);
        reg_writel(d, d->common + COMMON(guest_feature),
                   features >> (32 * half));
    }
}

static void select_queue(VblkDevice *d, unsigned index)
{
    reg_writew(d, d->modern ? d->common + COMMON(queue_select)
                            : VIRTIO_PCI_QUEUE_SEL, index);
}

static unsigned pci_queue_size(VblkDevice *d, unsigned index)
{
    select_queue(d, index);
    return reg_readw(d, d->modern ? d->common + COMMON(queue_size)
                                  : VIRTIO_PCI_QUEUE_NUM);
}

static bool pci_queue_enabled(VblkDevice *d, unsigned index)
{
    select_queue(d, index);
    return d->modern ? reg_readw(d, d->common + COMMON(queue_enable))
                     : reg_readl(d, VIRTIO_PCI_QUEUE_PFN);
}

static void pci_enable_queue(VblkDevice *d, unsigned index, unsigned size,
                             uint64_t desc, uint64_t driver, uint64_t device)
{
    select_queue(d, index);
    if (!d->modern) {
        reg_writel(d, VIRTIO_PCI_QUEUE_PFN,
                   desc >> VIRTIO_PCI_QUEUE_ADDR_SHIFT);
        return;
    }
    reg_writew(d, d->common + COMMON(queue_size), size);
    reg_write64(d, d->common + COMMON(queue_desc_lo), desc);
    reg_write64(d, d->common + COMMON(queue_avail_lo), driver);
    reg_write64(d, d->common + COMMON(queue_used_lo), device);
    reg_writew(d, d->common + COMMON(queue_enable), 1);
}

static void pci_notify(VblkDevice *d, unsigned index)
{
    uint16_t offset;

    if (!d->modern) {
        reg_writew(d, VIRTIO_PCI_QUEUE_NOTIFY, index);
        return;
    }
    select_queue(d, index);
    offset = reg_readw(d, d->common + COMMON(queue_notify_off));
    reg_writew(d, d->notify + offset * d->notify_multiplier, index);
}

static uint32_t pci_config_read(VblkDevice *d, unsigned offset, unsigned size)
{
    switch (size) {
    case 1:
        return reg_readb(d, d->config + offset);
    case 2:
        return reg_readw(d, d->config + offset);
    default:
        return reg_readl(d, d->config + offset);
    }
}

static void pci_config_writeb(VblkDevice *d, unsigned offset, uint8_t value)
{
    reg_writeb(d, d->config + offset, value);
}

static uint8_t pci_isr_read(VblkDevice *d)
{
    return reg_readb(d, d->isr);
}

static const VblkTransport pci_transport = {
    .get_status = pci_get_status,
    .set_status = pci_set_status,
    .get_features = pci_get_features,
    .set_features = pci_set_features,
    .queue_size = pci_queue_size,
    .queue_enabled = pci_queue_enabled,
    .enable_queue = pci_enable_queue,
    .notify = pci_notify,
    .config_read = pci_config_read,
    .config_writeb = pci_config_writeb,
    .isr_read = pci_isr_read,
};

static void open_pci(VblkDevice *d, unsigned slot)
{
    VblkMachine *m = d->machine;

    d->pci = qpci_device_find(m->pci, vblk_slot_devfn(m->variant, slot));
    g_assert_nonnull(d->pci);
    vblk_slot_window(m, slot);
    qpci_device_enable(d->pci);
    enable_msix(d);
    if (d->modern) {
        map_modern(d);
    } else {
        map_legacy(d);
    }
}

VblkDevice *vblk_device_open(VblkMachine *m, unsigned slot)
{
    VblkDevice *d = g_new0(VblkDevice, 1);

    d->owned = g_ptr_array_new_with_free_func(g_free);
    d->machine = m;
    d->qts = m->qts;
    d->modern = m->variant->modern;
    d->largest = USUAL_RING;
    if (m->variant->mmio) {
        d->transport = &vblk_mmio_transport;
        d->mmio = vblk_slot_mmio(slot);
    } else {
        d->transport = &pci_transport;
        open_pci(d, slot);
    }
    while (d->max_queues < MAX_QUEUES &&
           vblk_device_queue_size(d, d->max_queues)) {
        d->max_queues++;
    }
    d->queues = g_new0(VblkQueue *, d->max_queues);
    return d;
}

static void forget_queues(VblkDevice *d)
{
    for (unsigned i = 0; i < d->max_queues; i++) {
        g_clear_pointer(&d->queues[i], vblk_queue_free);
    }
}

void vblk_device_close(VblkDevice *d)
{
    forget_queues(d);
    g_free(d->queues);
    g_free(d->pci);
    g_ptr_array_free(d->owned, true);
    g_free(d);
}

void vblk_device_move(VblkDevice *d, VblkMachine *to)
{
    d->machine = to;
    d->qts = to->qts;
    d->pci->bus = to->pci;
}

uint8_t vblk_device_status(VblkDevice *d)
{
    return d->transport->get_status(d);
}

void vblk_device_set_status(VblkDevice *d, uint8_t status)
{
    d->transport->set_status(d, status);
}

uint64_t vblk_device_offered(VblkDevice *d)
{
    return d->transport->get_features(d);
}

unsigned vblk_device_queue_size(VblkDevice *d, unsigned index)
{
    return d->transport->queue_size(d, index);
}

bool vblk_device_queue_enabled(VblkDevice *d, unsigned index)
{
    return d->transport->queue_enabled(d, index);
}

void vblk_device_enable_queue(VblkDevice *d, unsigned index, unsigned size,
                              uint64_t desc, uint64_t driver, uint64_t device)
{
    d->transport->enable_queue(d, index, size, desc, driver, device);
}

void vblk_device_notify(VblkDevice *d, unsigned index)
{
    d->transport->notify(d, index);
}

uint8_t vblk_config_readb(VblkDevice *d, unsigned offset)
{
    return d->transport->config_read(d, offset, 1);
}

uint16_t vblk_config_readw(VblkDevice *d, unsigned offset)
{
    return d->transport->config_read(d, offset, 2);
}

uint32_t vblk_config_readl(VblkDevice *d, unsigned offset)
{
    return d->transport->config_read(d, offset, 4);
}

void vblk_config_writeb(VblkDevice *d, unsigned offset, uint8_t value)
{
    d->transport->config_writeb(d, offset, value);
}

uint8_t vblk_isr_read(VblkDevice *d)
{
    return d->transport->isr_read(d);
}

/* Add a bit to the status and check that the device agrees. */
static void status_step(VblkDevice *d, uint8_t bit)
{
    uint8_t status = vblk_device_status(d) | bit;

    vblk_device_set_status(d, status);
    g_assert_cmphex(vblk_device_status(d), ==, status);
}

void vblk_device_reset(VblkDevice *d)
{
    gint64 start = g_get_monotonic_time();

    vblk_device_set_status(d, 0);
    while (vblk_device_status(d)) {
        vblk_deadline(start, "the end of a reset");
    }
    forget_queues(d);
    d->features = 0;
}

void vblk_device_wait_broken(VblkDevice *d)
{
    gint64 start = g_get_monotonic_time();

    g_assert_true(d->modern);
    while (!(vblk_device_status(d) & VIRTIO_CONFIG_S_NEEDS_RESET)) {
        vblk_deadline(start, "DEVICE_NEEDS_RESET");
    }
}

void vblk_device_negotiate(VblkDevice *d, uint64_t wanted)
{
    vblk_device_reset(d);
    status_step(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    status_step(d, VIRTIO_CONFIG_S_DRIVER);
    d->features = vblk_device_offered(d) & wanted & ~REFUSED_FEATURES;
    d->transport->set_features(d, d->features);
    if (d->modern) {
        g_assert_true(d->features & BIT_ULL(VIRTIO_F_VERSION_1));
        status_step(d, VIRTIO_CONFIG_S_FEATURES_OK);
    }
}

void vblk_device_set_driver_ok(VblkDevice *d)
{
    status_step(d, VIRTIO_CONFIG_S_DRIVER_OK);
}

void vblk_device_start(VblkDevice *d, uint64_t ring_features, unsigned queues)
{
    queues = MIN(queues, d->max_queues);
    vblk_device_negotiate(d, ~(VBLK_RING_FEATURES & ~ring_features));
    g_assert_cmphex(d->features & VBLK_RING_FEATURES, ==, ring_features);
    if (d->num_vectors) {
        g_assert_cmpuint(vblk_device_set_config_vector(d, 0), ==, 0);
    }
    for (unsigned i = 0; i < queues; i++) {
        vblk_queue_new(d, i);
        if (d->num_vectors) {
            uint16_t vector = MIN(i + 1, d->num_vectors - 1);

            g_assert_cmpuint(vblk_device_set_queue_vector(d, i, vector), ==,
                             vector);
        }
    }
    vblk_device_set_driver_ok(d);
}

void vblk_device_reset_queue(VblkDevice *d, unsigned index)
{
    uint32_t reg = d->common +
                   offsetof(struct virtio_pci_modern_common_cfg, queue_reset);
    gint64 start = g_get_monotonic_time();

    g_assert_cmphex(d->features & BIT_ULL(VIRTIO_F_RING_RESET), !=, 0);
    select_queue(d, index);
    reg_writew(d, reg, 1);
    while (reg_readw(d, reg)) {
        vblk_deadline(start, "the reset of a queue");
    }
    if (index < d->max_queues) {
        g_clear_pointer(&d->queues[index], vblk_queue_free);
    }
}

uint16_t vblk_device_set_queue_vector(VblkDevice *d, unsigned index,
                                      uint16_t vector)
{
    uint32_t reg = d->modern ? d->common + COMMON(queue_msix_vector)
                             : VIRTIO_MSI_QUEUE_VECTOR;

    select_queue(d, index);
    reg_writew(d, reg, vector);
    return reg_readw(d, reg);
}

uint16_t vblk_device_set_config_vector(VblkDevice *d, uint16_t vector)
{
    uint32_t reg = d->modern ? d->common + COMMON(msix_config)
                             : VIRTIO_MSI_CONFIG_VECTOR;

    reg_writew(d, reg, vector);
    return reg_readw(d, reg);
}

uint64_t vblk_config_readq(VblkDevice *d, unsigned offset)
{
    uint64_t low = vblk_config_readl(d, offset);

    return low | (uint64_t)vblk_config_readl(d, offset + 4) << 32;
}

bool vblk_intx_level(VblkDevice *d)
{
    return qpci_config_readw(d->pci, PCI_STATUS) & PCI_STATUS_INTERRUPT;
}

bool vblk_vector_take(VblkDevice *d, unsigned vector)
{
    uint32_t data = qtest_readl(d->qts, message_addr(d, vector));

    if (!data) {
        return false;
    }
    g_assert_cmphex(data, ==, message_data(vector));
    qtest_writel(d->qts, message_addr(d, vector), 0);
    return true;
}

void vblk_vector_wait(VblkDevice *d, unsigned vector)
{
    gint64 start = g_get_monotonic_time();

    while (!vblk_vector_take(d, vector)) {
        vblk_deadline(start, "an MSI-X message");
    }
}

void vblk_vectors_silent(VblkDevice *d)
{
    g_autofree uint32_t *data = g_new(uint32_t, d->num_vectors);

    qtest_memread(d->qts, d->messages, data,
                  d->num_vectors * sizeof(uint32_t));
    for (unsigned v = 0; v < d->num_vectors; v++) {
        g_assert_cmphex(data[v], ==, 0);
    }
}

void vblk_vector_mask(VblkDevice *d, unsigned vector, bool masked)
{
    vector_write(d, vector, PCI_MSIX_ENTRY_VECTOR_CTRL,
                 masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
}

void vblk_vector_set_message(VblkDevice *d, unsigned vector, uint32_t addr,
                             uint32_t data)
{
    vector_write(d, vector, PCI_MSIX_ENTRY_LOWER_ADDR, addr);
    vector_write(d, vector, PCI_MSIX_ENTRY_DATA, data);
}

bool vblk_vector_pending(VblkDevice *d, unsigned vector)
{
    return qpci_msix_pending(d->pci, vector);
}

void vblk_vector_wait_pending(VblkDevice *d, unsigned vector)
{
    gint64 start = g_get_monotonic_time();

    while (!vblk_vector_pending(d, vector)) {
        vblk_deadline(start, "a pending bit");
    }
}
