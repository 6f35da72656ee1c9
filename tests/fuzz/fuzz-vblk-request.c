/*
 * Requests of virtio-blk, most of them well-formed
 *
 * A fuzzer that has to find the form of a request by itself never gets behind
 * the checks.  So the form is given, and what the input chooses are values
 * that may be wrong.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "fuzz-machine.h"
#include "fuzz-vblk.h"

#define HEADERS     (VBLK_BUFFERS - 0x1000)
#define BUFFER(i)   (VBLK_BUFFERS + 0x20000 * (i))

static VblkSegment some_segment(FuzzInput *in, int i)
{
    static const uint32_t lengths[] = {
        512, 4096, 16, 1, 0, 1024, 511, 65536, 0x7fffffff, UINT32_MAX
    };
    unsigned how = fuzz_byte(in);
    VblkSegment segment = {
        .addr = BUFFER(i) + (how & 3),
        .len = lengths[(how >> 2) % ARRAY_SIZE(lengths)],
        .write = how & 0x80,
    };

    switch (how >> 4 & 7) {
    case 1:
        segment.addr = VBLK_RAM_END - 512;      /* goes over the end */
        break;
    case 2:
        segment.addr = VBLK_OTHER_RAM;
        break;
    case 3:
        segment.addr = VBLK_AREA(i % VBLK_QUEUES);
        break;
    case 4:
        segment.addr = VBLK_BAR_MODERN;         /* the device itself */
        break;
    case 5:
        segment.addr = fuzz_take(in, 8);
        break;
    }
    return segment;
}

/* Whole sectors, in the direction that the request wants. */
static VblkSegment good_segment(unsigned how, int i, bool write)
{
    return (VblkSegment) {
        .addr = BUFFER(i) + 512 * (how & 7),
        .len = 512 << (how >> 3 & 7),
        .write = write,
    };
}

static uint32_t some_type(FuzzInput *in)
{
    static const uint32_t types[] = {
        VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH,
        VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_DISCARD,
        VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
        VIRTIO_BLK_T_SECURE_ERASE, VIRTIO_BLK_T_ZONE_REPORT,
        VIRTIO_BLK_T_ZONE_APPEND, VIRTIO_BLK_T_ZONE_OPEN,
        VIRTIO_BLK_T_SCSI_CMD,
    };
    unsigned which = fuzz_byte(in);

    return which < 0xf0 ? types[which % ARRAY_SIZE(types)] : fuzz_take(in, 4);
}

static bool type_reads(uint32_t type)
{
    return type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID ||
           type == VIRTIO_BLK_T_ZONE_REPORT;
}

static bool type_has_ranges(uint32_t type)
{
    return type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES ||
           type == VIRTIO_BLK_T_SECURE_ERASE;
}

static uint64_t some_sector(FuzzInput *in)
{
    return fuzz_sector(in, FUZZ_DISK_SECTORS, FUZZ_BAD_SECTOR);
}

/* Of a discard: sector, sectors, flags. */
static void put_range(FuzzInput *in, uint64_t addr)
{
    vblk_put(addr, some_sector(in), 8);
    vblk_put(addr + 8, fuzz_take(in, 2), 4);
    vblk_put(addr + 12, fuzz_byte(in), 4);
}

static VblkSegment data_segment(FuzzInput *in, uint32_t type, int i)
{
    unsigned how = fuzz_byte(in);
    VblkSegment segment = how & 0x80 ? some_segment(in, i)
                                     : good_segment(how, i, type_reads(type));

    if (type_has_ranges(type)) {
        if (!(how & 0x80)) {
            segment.len = 16;
        }
        put_range(in, segment.addr);
    }
    return segment;
}

int vblk_some_request(FuzzInput *in, VblkSegment *segments)
{
    unsigned how = fuzz_byte(in);
    uint32_t type = some_type(in);
    uint64_t header = HEADERS + (how & 0x3f) * 0x20;
    int data = how >> 6 == 3 ? fuzz_below(in, VBLK_SEGMENTS - 1) : how >> 6;
    int count = 0;

    vblk_put(header, type, 4);
    vblk_put(header + 4, 0, 4);
    vblk_put(header + 8, some_sector(in), 8);
    segments[count++] = (VblkSegment) { header, 16, false };
    for (int i = 0; i < data; i++, count++) {
        segments[count] = data_segment(in, type, count);
    }
    segments[count++] = (VblkSegment) { header + 16, 1, true };
    return count;
}
