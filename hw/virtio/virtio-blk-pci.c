/*
 * virtio-blk on PCI: one MSI-X vector per queue and one for the config space
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/base-version.h"
#include "qapi/error.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/virtio-blk.h"
#include "hw/virtio/virtio-pci.h"
#include "qemu/module.h"
#include "qom/object.h"

#define TYPE_VIRTIO_BLK_PCI "virtio-blk-pci-base"
OBJECT_DECLARE_SIMPLE_TYPE(VirtIOBlkPCI, VIRTIO_BLK_PCI)

struct VirtIOBlkPCI {
    VirtIOPCIProxy parent_obj;
    VirtIOBlock vdev;
};

static const Property virtio_blk_pci_properties[] = {
    DEFINE_PROP_UINT32("vectors", VirtIOPCIProxy, nvectors,
                       DEV_NVECTORS_UNSPECIFIED),
    DEFINE_PROP_BIT("ioeventfd", VirtIOPCIProxy, flags,
                    VIRTIO_PCI_FLAG_USE_IOEVENTFD_BIT, true),
    DEFINE_PROP_UINT32("class", VirtIOPCIProxy, class_code, 0),
};

static void virtio_blk_pci_realize(VirtIOPCIProxy *proxy, Error **errp)
{
    VirtIOBlkPCI *pci = VIRTIO_BLK_PCI(proxy);
    VirtIOBlkConf *conf = &pci->vdev.conf;

    /* Each vCPU has a queue of its own by default. */
    if (conf->num_queues == VIRTIO_BLK_AUTO_NUM_QUEUES) {
        conf->num_queues = virtio_pci_optimal_num_queues(0);
    }
    if (proxy->nvectors == DEV_NVECTORS_UNSPECIFIED) {
        proxy->nvectors = conf->num_queues + 1;
    }
    qdev_realize(DEVICE(&pci->vdev), BUS(&proxy->bus), errp);
}

static void virtio_blk_pci_instance_init(Object *obj)
{
    VirtIOBlkPCI *pci = VIRTIO_BLK_PCI(obj);

    virtio_instance_init_common(obj, &pci->vdev, sizeof(pci->vdev),
                                TYPE_VIRTIO_BLK);
    object_property_add_alias(obj, "bootindex", OBJECT(&pci->vdev),
                              "bootindex");
}

static void virtio_blk_pci_class_init(ObjectClass *klass, ClassInitData *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pci = PCI_DEVICE_CLASS(klass);

    set_bit(DEVICE_CATEGORY_STORAGE, dc->categories);
    device_class_set_props(dc, virtio_blk_pci_properties);
    object_class_property_set_description(klass, "vectors",
        "Number of MSI-X vectors; 4294967295 means one per virtqueue, and one "
        "for the configuration");
    VIRTIO_PCI_CLASS(klass)->realize = virtio_blk_pci_realize;
    pci->class_id = PCI_CLASS_STORAGE_SCSI;
    pci->vendor_id = PCI_VENDOR_ID_REDHAT_QUMRANET;
    pci->device_id = PCI_DEVICE_ID_VIRTIO_BLOCK;
    pci->revision = VIRTIO_PCI_ABI_VERSION;
}

static const VirtioPCIDeviceTypeInfo virtio_blk_pci_types = {
    .generic_name = "virtio-blk-pci",
    .non_transitional_name = "virtio-blk-pci-non-transitional",
    .transitional_name = "virtio-blk-pci-transitional",
    .base_name = TYPE_VIRTIO_BLK_PCI,
    .class_init = virtio_blk_pci_class_init,
    .instance_init = virtio_blk_pci_instance_init,
    .instance_size = sizeof(VirtIOBlkPCI),
};

static void virtio_blk_pci_register_types(void)
{
    virtio_pci_types_register(&virtio_blk_pci_types);
}

type_init(virtio_blk_pci_register_types)
