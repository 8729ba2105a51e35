/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/room.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "volume/extents.h"
#include "volume/filesystem.h"
#include "volume/geometry.h"
#include "volume/overlay.h"
#include "volume/table.h"

/* As things are now; the inventory may be older. */
struct now {
	uint64_t device_bytes, filesystem_bytes;
	const char *mount_point;
};

static const char *mount_point_of(const struct volume *volume)
{
	for (size_t i = 0; i < volume->n_mounts; i++)
		if (!volume->mounts[i].root || strcmp(volume->mounts[i].root, "/") == 0)
			return volume->mounts[i].target;
	return volume->n_mounts > 0 ? volume->mounts[0].target : NULL;
}

static int look(const struct volume *volume, struct now *ret)
{
	_cleanup_(closep) int fd = -EBADF;
	struct geometry geometry;
	int r;

	ret->mount_point = mount_point_of(volume);
	fd = open(volume->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &ret->device_bytes) < 0)
		return -errno;
	r = geometry_read_mounted(volume->path, volume->filesystem, ret->mount_point, &geometry);
	if (r < 0)
		return r;
	ret->filesystem_bytes = geometry.bytes;
	return 0;
}

static bool is_there(const struct now *now)
{
	return now->device_bytes >= ROOM_BYTES &&
	       now->filesystem_bytes <= now->device_bytes - ROOM_BYTES;
}

/* By how much the device must grow, or the filesystem give way */
static uint64_t needed(const struct now *now)
{
	return now->filesystem_bytes + ROOM_BYTES - now->device_bytes;
}

static int say(char **ret_detail, const char *text)
{
	char *detail = text ? strdup(text) : NULL;

	if (text && !detail)
		return -ENOMEM;
	free(*ret_detail);
	*ret_detail = detail;
	return 0;
}

/**
 * room_find() - which way is there to 32 MiB behind the data? Changes nothing.
 * @ret:        ROOM_IS_THERE, ROOM_PARTITION, ROOM_EXTENTS, ROOM_FILESYSTEM or ROOM_NONE; the first
 * in this order that goes
 * @ret_detail: with ROOM_NONE: why, or NULL; owned by the caller
 *
 * A way that touches no data comes before one that does. Tools that cannot be asked count as no
 * way.
 *
 * Return: 0 or -errno.
 */
int room_find(const struct inventory *inventory, const struct volume *volume, enum room_way *ret,
	      char **ret_detail)
{
	const struct volume *disk = inventory_disk_of(inventory, volume);
	struct now now;
	uint64_t gap_bytes;
	int r;

	*ret_detail = NULL;
	*ret = ROOM_NONE;
	if (!filesystem_is_supported(volume->filesystem))
		return say(ret_detail, "its filesystem is not supported");
	r = look(volume, &now);
	if (r < 0)
		return r;
	if (is_there(&now)) {
		*ret = ROOM_IS_THERE;
		return 0;
	}
	if (disk && table_gap(disk->path, volume->partition_number, &gap_bytes) == 0 &&
	    gap_bytes >= needed(&now)) {
		*ret = ROOM_PARTITION;
		return 0;
	}
	if (volume->kind == VOLUME_KIND_LVM && extents_find(inventory, volume, needed(&now)) == 0) {
		*ret = ROOM_EXTENTS;
		return 0;
	}
	r = filesystem_can_shrink(volume->path, volume->filesystem, now.mount_point, needed(&now),
				  ret_detail);
	if (r == 0) {
		*ret = ROOM_FILESYSTEM;
		return say(ret_detail, NULL);
	}
	if (r < 0)
		return r;
	return *ret_detail ? 0 : say(ret_detail, "its filesystem cannot give way");
}

static int grow_partition(const struct inventory *inventory, const struct volume *volume,
			  const struct now *now, char **ret_detail)
{
	const struct volume *disk = inventory_disk_of(inventory, volume);
	int held, r;

	if (!disk)
		return FILESYSTEM_E_NO_ROOM;
	held = open(volume->path, O_RDONLY | O_CLOEXEC);
	if (held < 0)
		return -errno;
	r = table_grow(disk->path, volume->partition_number, needed(now));
	/* udev reads the table again when the disk has been written, some time after; where nobody
	 * has a partition open they all go away for a moment. So it stays open, as long as the
	 * process: in the initramfs nobody else has */
	if (r == 0)
		return 0;
	(void)close(held);
	if (r < 0)
		return r;
	r = say(ret_detail, r == TABLE_E_NO_GAP ? "there is no gap behind its partition"
						: "its partition table is not supported");
	return r < 0 ? r : FILESYSTEM_E_NO_ROOM;
}

static int grow_logical(const struct inventory *inventory, const struct volume *volume,
			const struct now *now, char **ret_detail)
{
	int r = extents_add(inventory, volume, needed(now));

	if (r <= 0)
		return r;
	if (r == EXTENTS_E_NO_TOOL)
		return FILESYSTEM_E_NO_TOOL;
	r = say(ret_detail, "its volume group has no free extents for it");
	return r < 0 ? r : FILESYSTEM_E_NO_ROOM;
}

/**
 * room_make() - make room in a way that room_find() found
 * @way:     ROOM_PARTITION, ROOM_EXTENTS: at any time. ROOM_FILESYSTEM: xfs and btrfs while
 * mounted, ext unmounted, as @volume says
 * @changes: for ROOM_FILESYSTEM with ext: a file on another device, where the changes lie until
 * they are whole; one name for each volume and job, the same for room_finish()
 *
 * A power cut leaves the filesystem as it was, as it shall be, or one that nothing recognises until
 * room_finish() has been called.
 *
 * Asks first whether the room is there already, and afterwards whether it is there now.
 *
 * Return: 0, FILESYSTEM_E_* or -errno.
 */
int room_make(const struct inventory *inventory, const struct volume *volume, enum room_way way,
	      const char *changes, char **ret_detail)
{
	struct now now;
	int r;

	*ret_detail = NULL;
	if (way == ROOM_DETACHED)
		return 0;
	r = look(volume, &now);
	if (r < 0 || is_there(&now))
		return r;
	switch (way) {
	case ROOM_PARTITION:
		r = grow_partition(inventory, volume, &now, ret_detail);
		break;
	case ROOM_EXTENTS:
		r = grow_logical(inventory, volume, &now, ret_detail);
		break;
	case ROOM_FILESYSTEM:
		if (now.device_bytes < ROOM_BYTES)
			return FILESYSTEM_E_NO_ROOM;
		r = filesystem_shrink(volume->path, volume->filesystem, now.mount_point,
				      now.device_bytes - ROOM_BYTES, changes, ret_detail);
		break;
	case ROOM_IS_THERE:
	case ROOM_DETACHED:
	case ROOM_NONE:
		return FILESYSTEM_E_NO_ROOM;
	}
	if (r != 0)
		return r;
	r = look(volume, &now);
	if (r < 0)
		return r;
	return is_there(&now) ? 0 : -EIO;
}

/**
 * room_finish() - bring to its end, or take back, what a power cut left of room_make()
 * @device:  the backing device's path; its filesystem may be hidden, so it is not found by UUID
 * @changes: as given to room_make()
 *
 * Idempotent, and cheap when there is nothing to do. To be called before the volume is looked at,
 * at each start and before any undoing.
 *
 * Return: 0, FILESYSTEM_E_BUSY, FILESYSTEM_E_NO_TOOL, FILESYSTEM_E_UNCLEAN (the file is lost) or
 * -errno; unless 0, the volume is as it was left.
 */
int room_finish(const char *device, const char *changes, char **ret_detail)
{
	int r;

	*ret_detail = NULL;
	r = overlay_finish(device, changes);
	switch (r) {
	case OVERLAY_E_BUSY:
		return FILESYSTEM_E_BUSY;
	case OVERLAY_E_NO_TARGET:
		r = say(ret_detail, "the kernel has no dm-snapshot or no loop devices");
		return r < 0 ? r : FILESYSTEM_E_NO_TOOL;
	case OVERLAY_E_LOST:
		r = say(ret_detail, "it was being made smaller, and the file with the changes is "
				    "not there");
		return r < 0 ? r : FILESYSTEM_E_UNCLEAN;
	default:
		return r;
	}
}

/** room_needs_changes() - does this way need the file, dm-snapshot and loop devices? */
bool room_needs_changes(const struct volume *volume, enum room_way way)
{
	return way == ROOM_FILESYSTEM && volume->filesystem &&
	       strncmp(volume->filesystem, "ext", strlen("ext")) == 0;
}

/** room_changes_bytes() - what must be free where the file shall lie. Return: 0 or -errno. */
int room_changes_bytes(const struct volume *volume, uint64_t *ret)
{
	struct geometry geometry;
	int r = geometry_read(volume->path, volume->filesystem, &geometry);

	if (r == 0)
		*ret = overlay_minimum_bytes(&geometry);
	return r;
}

const char *room_way_to_string(enum room_way way)
{
	static const char *const words[] = {
		[ROOM_IS_THERE] = "is-there", [ROOM_PARTITION] = "partition",
		[ROOM_EXTENTS] = "extents",   [ROOM_FILESYSTEM] = "filesystem",
		[ROOM_DETACHED] = "detached", [ROOM_NONE] = "none",
	};

	return words[way];
}
