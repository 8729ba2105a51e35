/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/geometry.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"

/* ext4: Documentation/filesystems/ext4/super.rst; offsets within the superblock, which lies at 1024
 */
#define EXT_AT                   1024
#define EXT_BLOCKS_LOW           0x04
#define EXT_FREE_LOW             0x0c
#define EXT_BLOCK_LOG            0x18
#define EXT_MAGIC_AT             0x38
#define EXT_MAGIC                0xef53
#define EXT_STATE                0x3a
#define EXT_STATE_ERRORS         0x2
#define EXT_COMPATIBLE           0x5c
#define EXT_COMPATIBLE_STABLE    0x800 /* inode numbers may not change */
#define EXT_INCOMPATIBLE         0x60
#define EXT_INCOMPATIBLE_RECOVER 0x4
#define EXT_INCOMPATIBLE_64BIT   0x80
#define EXT_UUID                 0x68
#define EXT_JOURNAL_DEVICE       0xe4
#define EXT_BLOCKS_HIGH          0x150
#define EXT_FREE_HIGH            0x158
#define EXT_ERROR_COUNT          0x194
#define EXT_BLOCK_LOG_MAX        6 /* 64 KiB */

/* xfs: struct xfs_dsb of fs/xfs/libxfs/xfs_format.h; all big-endian */
#define XFS_MAGIC               0x58465342 /* "XFSB" */
#define XFS_BLOCK_SIZE          4
#define XFS_DATA_BLOCKS         8
#define XFS_REALTIME_BLOCKS     16
#define XFS_UUID                32
#define XFS_LOG_START           48
#define XFS_GROUP_BLOCKS        84
#define XFS_GROUPS              88
#define XFS_SECTOR_SIZE         102
#define XFS_IN_PROGRESS         126
#define XFS_FREE_BLOCKS         144
#define XFS_INCOMPATIBLE        216
#define XFS_INCOMPATIBLE_REPAIR 0x10

/* btrfs: struct btrfs_super_block of include/uapi/linux/btrfs_tree.h; the first copy lies at 64 KiB
 */
#define BTRFS_AT           65536
#define BTRFS_UUID         0x20
#define BTRFS_FLAGS        0x38
#define BTRFS_FLAG_ERROR   0x4
#define BTRFS_MAGIC_AT     0x40
#define BTRFS_DEVICES      0x88
#define BTRFS_SECTOR_SIZE  0x90
#define BTRFS_DEVICE       0xc9 /* struct btrfs_dev_item of this device */
#define BTRFS_DEVICE_BYTES (BTRFS_DEVICE + 8)
#define BTRFS_DEVICE_USED  (BTRFS_DEVICE + 16)

/* struct xfs_fsop_geom_v1 of fs/xfs/libxfs/xfs_fs.h, kernel ABI; the headers come with xfsprogs
 * only */
struct xfs_geometry {
	uint32_t blocksize, rtextsize, agblocks, agcount, logblocks, sectsize, inodesize, imaxpct;
	uint64_t datablocks, rtblocks, rtextents, logstart;
	uint8_t uuid[16];
	uint32_t sunit, swidth, version, flags, logsectsize, rtsectsize, dirblocksize;
};
#define XFS_IOC_GEOMETRY _IOR('X', 100, struct xfs_geometry)

static uint16_t le16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return le16toh(value);
}

static uint32_t le32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static uint64_t le64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

static uint16_t be16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return be16toh(value);
}

static uint32_t be32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return be32toh(value);
}

static uint64_t be64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return be64toh(value);
}

static bool is_power_of_two(unsigned value, unsigned minimum, unsigned maximum)
{
	return value >= minimum && value <= maximum && (value & (value - 1)) == 0;
}

static int parse_ext(const uint8_t *block, struct geometry *ret)
{
	const uint8_t *super = block + EXT_AT;
	uint32_t incompatible = le32(super + EXT_INCOMPATIBLE);
	bool is_64bit = incompatible & EXT_INCOMPATIBLE_64BIT;
	uint64_t blocks = le32(super + EXT_BLOCKS_LOW), n_free = le32(super + EXT_FREE_LOW);
	uint32_t shift = le32(super + EXT_BLOCK_LOG);

	if (le16(super + EXT_MAGIC_AT) != EXT_MAGIC || shift > EXT_BLOCK_LOG_MAX)
		return -EBADMSG;
	if (is_64bit) {
		blocks |= (uint64_t)le32(super + EXT_BLOCKS_HIGH) << 32;
		n_free |= (uint64_t)le32(super + EXT_FREE_HIGH) << 32;
	}
	ret->block_bytes = ret->unit_bytes = 1024U << shift;
	if (__builtin_mul_overflow(blocks, (uint64_t)ret->block_bytes, &ret->bytes) ||
	    __builtin_mul_overflow(n_free, (uint64_t)ret->block_bytes, &ret->free_bytes))
		return -EBADMSG;
	memcpy(ret->uuid, super + EXT_UUID, sizeof(ret->uuid));
	ret->devices = le32(super + EXT_JOURNAL_DEVICE) != 0 ? 2 : 1;
	ret->has_errors =
		(le16(super + EXT_STATE) & EXT_STATE_ERRORS) || le32(super + EXT_ERROR_COUNT) > 0;
	ret->needs_recovery = incompatible & EXT_INCOMPATIBLE_RECOVER;
	ret->is_rigid = le32(super + EXT_COMPATIBLE) & EXT_COMPATIBLE_STABLE;
	return 0;
}

static int parse_xfs(const uint8_t *super, struct geometry *ret)
{
	uint32_t block_bytes = be32(super + XFS_BLOCK_SIZE);
	uint32_t sector_bytes = be16(super + XFS_SECTOR_SIZE);

	if (be32(super) != XFS_MAGIC || !is_power_of_two(block_bytes, 512, 65536) ||
	    !is_power_of_two(sector_bytes, 512, 32768))
		return -EBADMSG;
	ret->block_bytes = block_bytes;
	ret->unit_bytes = sector_bytes;
	if (__builtin_mul_overflow(be64(super + XFS_DATA_BLOCKS), (uint64_t)block_bytes,
				   &ret->bytes) ||
	    __builtin_mul_overflow(be64(super + XFS_FREE_BLOCKS), (uint64_t)block_bytes,
				   &ret->free_bytes))
		return -EBADMSG;
	memcpy(ret->uuid, super + XFS_UUID, sizeof(ret->uuid));
	ret->devices = 1;
	if (be64(super + XFS_REALTIME_BLOCKS) > 0)
		ret->devices++;
	if (be64(super + XFS_LOG_START) == 0)
		ret->devices++;
	ret->group_bytes = (uint64_t)be32(super + XFS_GROUP_BLOCKS) * block_bytes;
	ret->groups = be32(super + XFS_GROUPS);
	ret->has_errors = super[XFS_IN_PROGRESS] ||
			  (be32(super + XFS_INCOMPATIBLE) & XFS_INCOMPATIBLE_REPAIR);
	return 0;
}

static int parse_btrfs(const uint8_t *super, struct geometry *ret)
{
	uint32_t sector_bytes = le32(super + BTRFS_SECTOR_SIZE);
	uint64_t devices = le64(super + BTRFS_DEVICES), used = le64(super + BTRFS_DEVICE_USED);

	if (memcmp(super + BTRFS_MAGIC_AT, "_BHRfS_M", 8) != 0 ||
	    !is_power_of_two(sector_bytes, 512, 65536) || devices == 0 || devices > UINT32_MAX)
		return -EBADMSG;
	ret->block_bytes = ret->unit_bytes = sector_bytes;
	ret->bytes = le64(super + BTRFS_DEVICE_BYTES);
	if (ret->bytes < used)
		return -EBADMSG;
	ret->free_bytes = ret->bytes - used;
	memcpy(ret->uuid, super + BTRFS_UUID, sizeof(ret->uuid));
	ret->devices = (unsigned)devices;
	ret->device_id = le64(super + BTRFS_DEVICE);
	ret->has_errors = le64(super + BTRFS_FLAGS) & BTRFS_FLAG_ERROR;
	return 0;
}

/* clang-format off */
static const struct format {
	const char *type;
	uint64_t offset; /* of the block that holds the superblock */
	bool is_direct;	 /* to be read past the page cache */
	int (*parse)(const uint8_t *block, struct geometry *ret);
} formats[] = {
	{ "ext2",  0,        false, parse_ext },
	{ "ext3",  0,        false, parse_ext },
	{ "ext4",  0,        false, parse_ext },
	{ "xfs",   0,        true,  parse_xfs },
	{ "btrfs", BTRFS_AT, false, parse_btrfs },
};
/* clang-format on */

static const struct format *format_find(const char *type)
{
	for (size_t i = 0; type && i < ARRAY_SIZE(formats); i++)
		if (strcmp(formats[i].type, type) == 0)
			return &formats[i];
	return NULL;
}

/** geometry_offset() - where to read the block for geometry_parse(); UINT64_MAX: not a type of ours
 */
uint64_t geometry_offset(const char *type)
{
	const struct format *format = format_find(type);

	return format ? format->offset : UINT64_MAX;
}

/**
 * geometry_parse() - understand a superblock
 * @type:  blkid's name
 * @block: what is at geometry_offset() of the device
 *
 * Return: 0, -EBADMSG (not that format, or impossible values) or -EOPNOTSUPP (a type that we do not
 * know).
 */
int geometry_parse(const char *type, const uint8_t block[GEOMETRY_BLOCK_BYTES],
		   struct geometry *ret)
{
	const struct format *format = format_find(type);
	struct geometry geometry = { 0 };
	int r;

	if (!format)
		return -EOPNOTSUPP;
	r = format->parse(block, &geometry);
	if (r < 0)
		return r;
	*ret = geometry;
	return 0;
}

/* xfs writes its superblock past the page cache, so a cached one is old; ext4 keeps the newest one
 * only there while its journal is not written back. Files on a tmpfs refuse O_DIRECT. */
static int open_for(const char *device, const struct format *format)
{
	int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK, fd;

	fd = open(device, format->is_direct ? flags | O_DIRECT : flags);
	if (fd < 0 && errno == EINVAL && format->is_direct)
		fd = open(device, flags);
	return fd < 0 ? -errno : fd;
}

/**
 * geometry_read() - read and understand the superblock of a device
 *
 * A mounted xfs may be ahead of its superblock, see geometry_read_mounted().
 *
 * Return: 0, or as geometry_parse() or -errno.
 */
int geometry_read(const char *device, const char *type, struct geometry *ret)
{
	const struct format *format = format_find(type);
	_cleanup_(closep) int fd = -EBADF;
	_cleanup_(freep) void *block = NULL;
	ssize_t n;

	if (!format)
		return -EOPNOTSUPP;
	fd = open_for(device, format);
	if (fd < 0)
		return fd;
	if (posix_memalign(&block, GEOMETRY_BLOCK_BYTES, GEOMETRY_BLOCK_BYTES) != 0)
		return -ENOMEM;
	n = pread(fd, block, GEOMETRY_BLOCK_BYTES, (off_t)format->offset);
	if (n < 0)
		return -errno;
	if (n != GEOMETRY_BLOCK_BYTES)
		return -EBADMSG;
	return geometry_parse(type, block, ret);
}

/**
 * geometry_read_mounted() - the same for a mounted filesystem, by asking the kernel where it knows
 * better
 * @mount_point: NULL = not mounted
 *
 * Return: 0, or as geometry_read().
 */
int geometry_read_mounted(const char *device, const char *type, const char *mount_point,
			  struct geometry *ret)
{
	_cleanup_(closep) int fd = -EBADF;
	struct geometry geometry;
	int r;

	r = geometry_read(device, type, &geometry);
	if (r < 0)
		return r;
	if (mount_point && strcmp(type, "xfs") == 0) {
		struct xfs_geometry live = { 0 };

		fd = open(mount_point, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || ioctl(fd, XFS_IOC_GEOMETRY, &live) < 0)
			return -errno;
		if (memcmp(live.uuid, geometry.uuid, sizeof(live.uuid)) != 0)
			return -ESTALE;
		geometry.bytes = live.datablocks * live.blocksize;
		geometry.group_bytes = (uint64_t)live.agblocks * live.blocksize;
		geometry.groups = live.agcount;
	} else if (mount_point && strcmp(type, "btrfs") == 0) {
		struct btrfs_ioctl_dev_info_args live = { .devid = geometry.device_id };

		fd = open(mount_point, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || ioctl(fd, BTRFS_IOC_DEV_INFO, &live) < 0)
			return -errno;
		if (live.bytes_used > live.total_bytes)
			return -EBADMSG;
		geometry.bytes = live.total_bytes;
		geometry.free_bytes = live.total_bytes - live.bytes_used;
	} else if (mount_point) {
		struct statvfs live;

		/* the superblock's count is 0 from the mount on, on some kernels */
		if (statvfs(mount_point, &live) < 0)
			return -errno;
		geometry.free_bytes = (uint64_t)live.f_bfree * live.f_frsize;
	}
	*ret = geometry;
	return 0;
}
