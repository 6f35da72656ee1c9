/*
 * virtio-blk as a driver with several queues sees it, and PCI's registers
 *
 *     status, features, queue addresses, vectors:  registers in a BAR,
 *                                                  legacy or modern layout
 *     interrupts:  MSI-X messages, one word of guest RAM for each vector,
 *                  so that a test sees who has been raised and who has not;
 *                  without MSI-X the ISR byte and the INTx line
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/pci_regs.h"
#include "standard-headers/linux/virtio_pci.h"
#include "mq-device.h"
#include "mq-ring.h"

#define COMMON(field) offsetof(struct virtio_pci_common_cfg, field)

/* More than any test offers; bounds the search for the last queue. */
#define MAX_QUEUES 1024

/* The choices of a driver that asks for nothing special. */
#define USUAL_RING 256

/*
 * Never accepted: an interrupt for every emptied ring (legacy only) would hide
 * a missing one, and bit 30 is the trap for drivers that accept anything.
 */
#define REFUSED_FEATURES (BIT_ULL(VIRTIO_F_NOTIFY_ON_EMPTY) | BIT_ULL(30))

/* The data of a vector's message; never 0, which means "none yet". */
static uint32_t message_data(unsigned vector)
{
    return 0x4d510001 + vector;
}

static uint8_t reg_readb(MqDevice *d, uint32_t offset)
{
    return qpci_io_readb(d->pci, d->bar, offset);
}

static uint16_t reg_readw(MqDevice *d, uint32_t offset)
{
    return qpci_io_readw(d->pci, d->bar, offset);
}

static uint32_t reg_readl(MqDevice *d, uint32_t offset)
{
    return qpci_io_readl(d->pci, d->bar, offset);
}

static void reg_writeb(MqDevice *d, uint32_t offset, uint8_t value)
{
    qpci_io_writeb(d->pci, d->bar, offset, value);
}

static void reg_writew(MqDevice *d, uint32_t offset, uint16_t value)
{
    qpci_io_writew(d->pci, d->bar, offset, value);
}

static void reg_writel(MqDevice *d, uint32_t offset, uint32_t value)
{
    qpci_io_writel(d->pci, d->bar, offset, value);
}

static void reg_write64(MqDevice *d, uint32_t offset, uint64_t value)
{
    reg_writel(d, offset, value);
    reg_writel(d, offset + 4, value >> 32);
}

/* Find the capability for a structure: its offset in config space. */
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

/* Where the structure of @type lies in the BAR, which all share. */
static uint32_t structure_offset(MqDevice *d, uint8_t type)
{
    uint8_t cap = find_structure(d->pci, type);

    return qpci_config_readl(d->pci,
                             cap + offsetof(struct virtio_pci_cap, offset));
}

static void map_modern(MqDevice *d)
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

static void map_legacy(MqDevice *d)
{
    d->bar = qpci_iomap(d->pci, 0, NULL);
    g_assert_true(d->bar.is_io);
    d->isr = VIRTIO_PCI_ISR;
    d->config = VIRTIO_PCI_CONFIG_OFF(d->num_vectors > 0);
}

static uint64_t vector_entry(MqDevice *d, unsigned vector)
{
    g_assert_cmpuint(vector, <, d->num_vectors);
    return d->pci->msix_table_off + vector * PCI_MSIX_ENTRY_SIZE;
}

static void vector_write(MqDevice *d, unsigned vector, unsigned field,
                         uint32_t value)
{
    qpci_io_writel(d->pci, d->pci->msix_table_bar,
                   vector_entry(d, vector) + field, value);
}

static uint64_t message_addr(MqDevice *d, unsigned vector)
{
    return d->messages + vector * sizeof(uint32_t);
}

static void enable_msix(MqDevice *d)
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

static uint8_t pci_get_status(MqDevice *d)
{
    return reg_readb(d, d->modern ? d->common + COMMON(device_status)
                                  : VIRTIO_PCI_STATUS);
}

static void pci_set_status(MqDevice *d, uint8_t status)
{
    reg_writeb(d, d->modern ? d->common + COMMON(device_status)
                            : VIRTIO_PCI_STATUS, status);
}

static uint64_t pci_get_features(MqDevice *d)
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

static void pci_set_features(MqDevice *d, uint64_t features)
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

static void select_queue(MqDevice *d, unsigned index)
{
    reg_writew(d, d->modern ? d->common + COMMON(queue_select)
                            : VIRTIO_PCI_QUEUE_SEL, index);
}

static unsigned pci_queue_size(MqDevice *d, unsigned index)
{
    select_queue(d, index);
    return reg_readw(d, d->modern ? d->common + COMMON(queue_size)
                                  : VIRTIO_PCI_QUEUE_NUM);
}

static bool pci_queue_enabled(MqDevice *d, unsigned index)
{
    select_queue(d, index);
    return d->modern ? reg_readw(d, d->common + COMMON(queue_enable))
                     : reg_readl(d, VIRTIO_PCI_QUEUE_PFN);
}

static void pci_enable_queue(MqDevice *d, unsigned index, unsigned size,
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

static void pci_notify(MqDevice *d, unsigned index)
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

static uint32_t pci_config_read(MqDevice *d, unsigned offset, unsigned size)
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

static void pci_config_writeb(MqDevice *d, unsigned offset, uint8_t value)
{
    reg_writeb(d, d->config + offset, value);
}

static uint8_t pci_isr_read(MqDevice *d)
{
    return reg_readb(d, d->isr);
}

static const MqTransport pci_transport = {
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

static void open_pci(MqDevice *d, unsigned slot)
{
    MqMachine *m = d->machine;

    d->pci = qpci_device_find(m->pci, mq_slot_devfn(m->variant, slot));
    g_assert_nonnull(d->pci);
    mq_slot_window(m, slot);
    qpci_device_enable(d->pci);
    enable_msix(d);
    if (d->modern) {
        map_modern(d);
    } else {
        map_legacy(d);
    }
}

MqDevice *mq_device_open(MqMachine *m, unsigned slot)
{
    MqDevice *d = g_new0(MqDevice, 1);

    d->owned = g_ptr_array_new_with_free_func(g_free);
    d->machine = m;
    d->qts = m->qts;
    d->modern = m->variant->modern;
    d->largest = USUAL_RING;
    if (m->variant->mmio) {
        d->transport = &mq_mmio_transport;
        d->mmio = mq_slot_mmio(slot);
    } else {
        d->transport = &pci_transport;
        open_pci(d, slot);
    }
    while (d->max_queues < MAX_QUEUES &&
           mq_device_queue_size(d, d->max_queues)) {
        d->max_queues++;
    }
    d->queues = g_new0(MqQueue *, d->max_queues);
    return d;
}

static void forget_queues(MqDevice *d)
{
    for (unsigned i = 0; i < d->max_queues; i++) {
        g_clear_pointer(&d->queues[i], mq_queue_free);
    }
}

void mq_device_close(MqDevice *d)
{
    forget_queues(d);
    g_free(d->queues);
    g_free(d->pci);
    g_ptr_array_free(d->owned, true);
    g_free(d);
}

void mq_device_move(MqDevice *d, MqMachine *to)
{
    d->machine = to;
    d->qts = to->qts;
    d->pci->bus = to->pci;
}

uint8_t mq_device_status(MqDevice *d)
{
    return d->transport->get_status(d);
}

void mq_device_set_status(MqDevice *d, uint8_t status)
{
    d->transport->set_status(d, status);
}

uint64_t mq_device_offered(MqDevice *d)
{
    return d->transport->get_features(d);
}

unsigned mq_device_queue_size(MqDevice *d, unsigned index)
{
    return d->transport->queue_size(d, index);
}

bool mq_device_queue_enabled(MqDevice *d, unsigned index)
{
    return d->transport->queue_enabled(d, index);
}

void mq_device_enable_queue(MqDevice *d, unsigned index, unsigned size,
                            uint64_t desc, uint64_t driver, uint64_t device)
{
    d->transport->enable_queue(d, index, size, desc, driver, device);
}

void mq_device_notify(MqDevice *d, unsigned index)
{
    d->transport->notify(d, index);
}

uint8_t mq_config_readb(MqDevice *d, unsigned offset)
{
    return d->transport->config_read(d, offset, 1);
}

uint16_t mq_config_readw(MqDevice *d, unsigned offset)
{
    return d->transport->config_read(d, offset, 2);
}

uint32_t mq_config_readl(MqDevice *d, unsigned offset)
{
    return d->transport->config_read(d, offset, 4);
}

void mq_config_writeb(MqDevice *d, unsigned offset, uint8_t value)
{
    d->transport->config_writeb(d, offset, value);
}

uint8_t mq_isr_read(MqDevice *d)
{
    return d->transport->isr_read(d);
}

/* Add a bit to the status and check that the device agrees. */
static void status_step(MqDevice *d, uint8_t bit)
{
    uint8_t status = mq_device_status(d) | bit;

    mq_device_set_status(d, status);
    g_assert_cmphex(mq_device_status(d), ==, status);
}

void mq_device_reset(MqDevice *d)
{
    gint64 start = g_get_monotonic_time();

    mq_device_set_status(d, 0);
    while (mq_device_status(d)) {
        mq_deadline(start, "the end of a reset");
    }
    forget_queues(d);
    d->features = 0;
}

void mq_device_wait_broken(MqDevice *d)
{
    gint64 start = g_get_monotonic_time();

    g_assert_true(d->modern);
    while (!(mq_device_status(d) & VIRTIO_CONFIG_S_NEEDS_RESET)) {
        mq_deadline(start, "DEVICE_NEEDS_RESET");
    }
}

void mq_device_negotiate(MqDevice *d, uint64_t wanted)
{
    mq_device_reset(d);
    status_step(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    status_step(d, VIRTIO_CONFIG_S_DRIVER);
    d->features = mq_device_offered(d) & wanted & ~REFUSED_FEATURES;
    d->transport->set_features(d, d->features);
    if (d->modern) {
        g_assert_true(d->features & BIT_ULL(VIRTIO_F_VERSION_1));
        status_step(d, VIRTIO_CONFIG_S_FEATURES_OK);
    }
}

void mq_device_set_driver_ok(MqDevice *d)
{
    status_step(d, VIRTIO_CONFIG_S_DRIVER_OK);
}

void mq_device_start(MqDevice *d, uint64_t ring_features, unsigned queues)
{
    queues = MIN(queues, d->max_queues);
    mq_device_negotiate(d, ~(MQ_RING_FEATURES & ~ring_features));
    g_assert_cmphex(d->features & MQ_RING_FEATURES, ==, ring_features);
    if (d->num_vectors) {
        g_assert_cmpuint(mq_device_set_config_vector(d, 0), ==, 0);
    }
    for (unsigned i = 0; i < queues; i++) {
        mq_queue_new(d, i);
        if (d->num_vectors) {
            uint16_t vector = MIN(i + 1, d->num_vectors - 1);

            g_assert_cmpuint(mq_device_set_queue_vector(d, i, vector), ==,
                             vector);
        }
    }
    mq_device_set_driver_ok(d);
}

void mq_device_reset_queue(MqDevice *d, unsigned index)
{
    uint32_t reg = d->common +
                   offsetof(struct virtio_pci_modern_common_cfg, queue_reset);
    gint64 start = g_get_monotonic_time();

    g_assert_cmphex(d->features & BIT_ULL(VIRTIO_F_RING_RESET), !=, 0);
    select_queue(d, index);
    reg_writew(d, reg, 1);
    while (reg_readw(d, reg)) {
        mq_deadline(start, "the reset of a queue");
    }
    if (index < d->max_queues) {
        g_clear_pointer(&d->queues[index], mq_queue_free);
    }
}

uint16_t mq_device_set_queue_vector(MqDevice *d, unsigned index,
                                    uint16_t vector)
{
    uint32_t reg = d->modern ? d->common + COMMON(queue_msix_vector)
                             : VIRTIO_MSI_QUEUE_VECTOR;

    select_queue(d, index);
    reg_writew(d, reg, vector);
    return reg_readw(d, reg);
}

uint16_t mq_device_set_config_vector(MqDevice *d, uint16_t vector)
{
    uint32_t reg = d->modern ? d->common + COMMON(msix_config)
                             : VIRTIO_MSI_CONFIG_VECTOR;

    reg_writew(d, reg, vector);
    return reg_readw(d, reg);
}

uint64_t mq_config_readq(MqDevice *d, unsigned offset)
{
    uint64_t low = mq_config_readl(d, offset);

    return low | (uint64_t)mq_config_readl(d, offset + 4) << 32;
}

bool mq_intx_level(MqDevice *d)
{
    return qpci_config_readw(d->pci, PCI_STATUS) & PCI_STATUS_INTERRUPT;
}

bool mq_vector_take(MqDevice *d, unsigned vector)
{
    uint32_t data = qtest_readl(d->qts, message_addr(d, vector));

    if (!data) {
        return false;
    }
    g_assert_cmphex(data, ==, message_data(vector));
    qtest_writel(d->qts, message_addr(d, vector), 0);
    return true;
}

void mq_vector_wait(MqDevice *d, unsigned vector)
{
    gint64 start = g_get_monotonic_time();

    while (!mq_vector_take(d, vector)) {
        mq_deadline(start, "an MSI-X message");
    }
}

void mq_vectors_silent(MqDevice *d)
{
    g_autofree uint32_t *data = g_new(uint32_t, d->num_vectors);

    qtest_memread(d->qts, d->messages, data,
                  d->num_vectors * sizeof(uint32_t));
    for (unsigned v = 0; v < d->num_vectors; v++) {
        g_assert_cmphex(data[v], ==, 0);
    }
}

void mq_vector_mask(MqDevice *d, unsigned vector, bool masked)
{
    vector_write(d, vector, PCI_MSIX_ENTRY_VECTOR_CTRL,
                 masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
}

void mq_vector_set_message(MqDevice *d, unsigned vector, uint32_t addr,
                           uint32_t data)
{
    vector_write(d, vector, PCI_MSIX_ENTRY_LOWER_ADDR, addr);
    vector_write(d, vector, PCI_MSIX_ENTRY_DATA, data);
}

bool mq_vector_pending(MqDevice *d, unsigned vector)
{
    return qpci_msix_pending(d->pci, vector);
}
