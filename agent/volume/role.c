/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/role.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"

/* Partition types of what firmware and boot loaders read: the UEFI specification, table 5.7; GRUB's
 * BIOS boot; PReP; systemd's XBOOTLDR; and the MBR's 0xef and 0x41. */
static const char *const boot_types[] = {
	"c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
	"21686148-6449-6e6f-744e-656564454649",
	"9e1a2d38-c612-4316-aa26-8b49521e5a8b",
	"bc13c2ff-59e6-4262-a352-b275fd6f7172",
	"0xef",
	"0x41",
};

static const char *const boot_targets[] = { "/boot", "/boot/efi", "/efi", "/boot/firmware" };
static const char *const os_targets[] = { "/", "/usr" };

/* Types that are not data but parts of something. */
static const char *const member_types[] = { "LVM2_member",
					    "LVM1_member",
					    "linux_raid_member",
					    "mpath_member",
					    "bcache",
					    "zfs_member",
					    "ddf_raid_member",
					    "isw_raid_member",
					    "drbd",
					    "DM_snapshot_cow",
					    "jbd",
					    "xfs_external_log",
					    "stratis" };

static const char *const encrypted_types[] = { "crypto_LUKS", "BitLocker" };
static const char *const supported_types[] = { "ext2", "ext3", "ext4", "xfs", "btrfs" };

static bool is_among(const char *text, const char *const *list, size_t n)
{
	for (size_t i = 0; text && i < n; i++)
		if (strcasecmp(text, list[i]) == 0)
			return true;
	return false;
}

static bool is_mounted_at(const struct volume *volume, const char *const *targets, size_t n)
{
	for (size_t i = 0; i < volume->n_mounts; i++)
		if (is_among(volume->mounts[i].target, targets, n))
			return true;
	return is_among(volume->fstab_target, targets, n);
}

/* Does it hold for the volume or anything that it lies on? */
static bool any_below(const struct inventory *inventory, const struct volume *volume,
		      bool (*holds)(const struct volume *volume), unsigned depth)
{
	if (holds(volume))
		return true;
	if (depth == STACK_DEPTH_MAX)
		return false;
	for (size_t i = 0; i < volume->n_parents; i++)
		if (any_below(inventory, &inventory->volumes[volume->parents[i]], holds, depth + 1))
			return true;
	return false;
}

static bool is_resource(const struct volume *volume)
{
	return volume->is_resource_disk;
}

static bool is_bek(const struct volume *volume)
{
	return volume->is_bek_disk;
}

static bool is_crypt(const struct volume *volume)
{
	return volume->kind == VOLUME_KIND_CRYPT;
}

static bool is_read_only(const struct volume *volume)
{
	return volume->is_read_only;
}

static bool is_removable(const struct volume *volume)
{
	return volume->is_removable;
}

static bool is_unsupported_device(const struct volume *volume)
{
	return volume->kind == VOLUME_KIND_LOOP || volume->kind == VOLUME_KIND_OTHER;
}

bool role_is_above_crypt(const struct inventory *inventory, const struct volume *volume)
{
	return any_below(inventory, volume, is_crypt, 0);
}

/* Mark, by index, everything that a volume lies on. */
static void mark_below(const struct inventory *inventory, size_t index, bool *marks, unsigned depth)
{
	const struct volume *volume = &inventory->volumes[index];

	marks[index] = true;
	for (size_t i = 0; depth < STACK_DEPTH_MAX && i < volume->n_parents; i++)
		mark_below(inventory, volume->parents[i], marks, depth + 1);
}

static bool is_on_marked_disk(const struct inventory *inventory, size_t index, const bool *marks,
			      unsigned depth)
{
	const struct volume *volume = &inventory->volumes[index];

	if (volume->n_parents == 0)
		return marks[index];
	for (size_t i = 0; depth < STACK_DEPTH_MAX && i < volume->n_parents; i++)
		if (is_on_marked_disk(inventory, volume->parents[i], marks, depth + 1))
			return true;
	return false;
}

static enum volume_role role_of(const struct inventory *inventory, size_t index,
				const bool *os_marks)
{
	const struct volume *volume = &inventory->volumes[index];

	if (volume->n_children > 0 || (volume->table_type && !volume->filesystem) ||
	    is_among(volume->filesystem, member_types, ARRAY_SIZE(member_types)))
		return VOLUME_ROLE_CONTAINER;
	if (is_mounted_at(volume, os_targets, ARRAY_SIZE(os_targets)))
		return VOLUME_ROLE_OS;
	if (is_among(volume->partition_type, boot_types, ARRAY_SIZE(boot_types)) ||
	    is_mounted_at(volume, boot_targets, ARRAY_SIZE(boot_targets)))
		return VOLUME_ROLE_BOOT;
	if (any_below(inventory, volume, is_bek, 0) ||
	    (volume->label && strcmp(volume->label, "BEK VOLUME") == 0 && volume->filesystem &&
	     strcmp(volume->filesystem, "vfat") == 0))
		return VOLUME_ROLE_BEK;
	if (any_below(inventory, volume, is_resource, 0) ||
	    (volume->label && strcmp(volume->label, "Temporary Storage") == 0))
		return VOLUME_ROLE_RESOURCE;
	if (volume->is_swap_active ||
	    (volume->filesystem && (strcmp(volume->filesystem, "swap") == 0 ||
				    strcmp(volume->filesystem, "swsuspend") == 0)))
		return VOLUME_ROLE_SWAP;
	if (is_on_marked_disk(inventory, index, os_marks, 0))
		return VOLUME_ROLE_OS;
	return VOLUME_ROLE_DATA;
}

/**
 * role_assign_all() - decide what each volume is for
 * @inventory: links, formats, mounts and names are filled in; roles are set
 *
 * Return: 0 or -ENOMEM.
 */
int role_assign_all(struct inventory *inventory)
{
	_cleanup_(freep) bool *marks = calloc(inventory->n + 1, sizeof(*marks));

	if (!marks)
		return -ENOMEM;
	for (size_t i = 0; i < inventory->n; i++)
		if (is_mounted_at(&inventory->volumes[i], os_targets, ARRAY_SIZE(os_targets)))
			mark_below(inventory, i, marks, 0);
	for (size_t i = 0; i < inventory->n; i++)
		inventory->volumes[i].role = role_of(inventory, i, marks);
	return 0;
}

/**
 * volume_excuse() - is a volume selected, and why not?
 * @wants_os, @wants_data: the volume type that was asked for
 *
 * The most fundamental reason is the answer: what a device is, then what it is for, then what is on
 * it.
 */
enum volume_excuse volume_excuse(const struct inventory *inventory, const struct volume *volume,
				 bool wants_os, bool wants_data)
{
	if (is_among(volume->filesystem, encrypted_types, ARRAY_SIZE(encrypted_types)))
		return VOLUME_EXCUSE_ENCRYPTED;
	switch (volume->role) {
	case VOLUME_ROLE_CONTAINER:
		return VOLUME_EXCUSE_CONTAINER;
	case VOLUME_ROLE_BEK:
		return VOLUME_EXCUSE_BEK;
	case VOLUME_ROLE_RESOURCE:
		return VOLUME_EXCUSE_RESOURCE;
	case VOLUME_ROLE_BOOT:
		return VOLUME_EXCUSE_BOOT;
	case VOLUME_ROLE_OS:
	case VOLUME_ROLE_DATA:
	case VOLUME_ROLE_SWAP:
		break;
	}
	if (role_is_above_crypt(inventory, volume))
		return VOLUME_EXCUSE_ENCRYPTED;
	if (volume->role == VOLUME_ROLE_SWAP)
		return VOLUME_EXCUSE_SWAP;
	if (any_below(inventory, volume, is_unsupported_device, 0))
		return VOLUME_EXCUSE_UNSUPPORTED_DEVICE;
	if (any_below(inventory, volume, is_removable, 0))
		return VOLUME_EXCUSE_REMOVABLE;
	if (any_below(inventory, volume, is_read_only, 0))
		return VOLUME_EXCUSE_READ_ONLY;
	if (volume->role == VOLUME_ROLE_OS ? !wants_os : !wants_data)
		return VOLUME_EXCUSE_OTHER_TYPE;
	if (volume->has_other_signatures)
		return VOLUME_EXCUSE_AMBIVALENT;
	if (!volume->filesystem)
		return VOLUME_EXCUSE_NO_FILESYSTEM;
	if (!is_among(volume->filesystem, supported_types, ARRAY_SIZE(supported_types)))
		return VOLUME_EXCUSE_UNSUPPORTED_FILESYSTEM;
	if (volume->filesystem_devices > 1)
		return VOLUME_EXCUSE_SEVERAL_DEVICES;
	if (!volume->uuid)
		return VOLUME_EXCUSE_NO_UUID;
	if (volume->n_mounts == 0 && !volume->has_fstab_entry)
		return VOLUME_EXCUSE_NOT_MOUNTED;
	return VOLUME_EXCUSE_NONE;
}
