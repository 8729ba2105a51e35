/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/inventory.h - every block device of the machine, and what it is for
 *
 * Reads sysfs, the udev links, superblocks (libblkid) and the mount table (libmount); changes
 * nothing. Identity is the UUID of the filesystem or of the LUKS2 header; kernel names serve only
 * to reach the device now. Roles are decided here, selection by volume type too (volume_excuse()).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "base/json.h"

#define STACK_DEPTH_MAX 16 /* partition, md, LVM, crypt, snapshot …; a longer chain is a circle */

enum volume_kind {
	VOLUME_KIND_DISK,
	VOLUME_KIND_PARTITION,
	VOLUME_KIND_LVM,   /* logical volume */
	VOLUME_KIND_CRYPT, /* dm-crypt mapping (also of a volume in conversion) */
	VOLUME_KIND_MD,
	VOLUME_KIND_LOOP,
	VOLUME_KIND_OTHER, /* other device-mapper targets, ram, optical, network block devices … */
};

enum volume_role {
	VOLUME_ROLE_DATA,
	VOLUME_ROLE_OS,   /* / or /usr, or another filesystem on the disks that those lie on */
	VOLUME_ROLE_BOOT, /* /boot, /boot/efi, /efi, EFI system and BIOS boot partitions */
	VOLUME_ROLE_SWAP,
	VOLUME_ROLE_RESOURCE,  /* the platform's temporary disk: its content does not outlive a move
				*/
	VOLUME_ROLE_BEK,       /* the platform's key volume */
	VOLUME_ROLE_CONTAINER, /* has partitions, or is a member of LVM, md or a mapping: not itself
				  a volume */
};

/* Why a volume is not selected; stable words for machines, volume_excuse_sentence() for people. */
enum volume_excuse {
	VOLUME_EXCUSE_NONE,       /* it is selected */
	VOLUME_EXCUSE_OTHER_TYPE, /* OS when Data was asked for, or the reverse */
	VOLUME_EXCUSE_BOOT,
	VOLUME_EXCUSE_SWAP,
	VOLUME_EXCUSE_RESOURCE,
	VOLUME_EXCUSE_BEK,
	VOLUME_EXCUSE_CONTAINER,
	VOLUME_EXCUSE_READ_ONLY,
	VOLUME_EXCUSE_REMOVABLE,
	VOLUME_EXCUSE_NO_FILESYSTEM,
	VOLUME_EXCUSE_NO_UUID,
	VOLUME_EXCUSE_UNSUPPORTED_FILESYSTEM,
	VOLUME_EXCUSE_UNSUPPORTED_DEVICE, /* loop, ram, optical, network … */
	VOLUME_EXCUSE_ENCRYPTED,   /* LUKS, ours or foreign, or on top of a dm-crypt mapping */
	VOLUME_EXCUSE_NOT_MOUNTED, /* neither mounted nor in fstab: nobody says that it is wanted */
	VOLUME_EXCUSE_AMBIVALENT,  /* traces of several formats: which one is alive is a guess */
	VOLUME_EXCUSE_SEVERAL_DEVICES, /* its filesystem spans several devices */
};

struct volume_mount {
	char *target, *root,
		*options; /* root: subvolume or folder of the filesystem that is mounted there;
			  options: also fstab's own, and "private" where it is */
	char *filesystem;
};

struct volume {
	char *name; /* kernel name, "sdc1", "dm-0" */
	char *path; /* /dev/sdc1, /dev/mapper/vg-lv */
	dev_t devno;
	enum volume_kind kind;
	enum volume_role role;
	uint64_t size_bytes;
	unsigned logical_block_bytes, physical_block_bytes;
	bool is_read_only, is_removable, is_swap_active, has_fstab_entry;
	bool is_resource_disk,
		is_bek_disk;     /* the platform says so of the device or of what it lies on */
	bool is_root;            /* holds / itself */
	bool is_suspended;       /* a read waits until it is resumed, perhaps for ever */
	bool is_conversion_part; /* hotzone or overlay of a volume in conversion */

	char *filesystem; /* blkid's TYPE: "ext4", "xfs", "btrfs", "crypto_LUKS", "LVM2_member",
			     "swap" … or NULL */
	char *uuid, *label;
	uint64_t filesystem_bytes;       /* size by its superblock; 0 = unknown */
	unsigned filesystem_block_bytes; /* xfs: its sector size; ext: its block size; btrfs: its
					    sector size; 0 = unknown */
	unsigned filesystem_devices;     /* how many devices it spans; 0 = unknown */
	bool has_other_signatures;       /* blkid is ambivalent */

	char *partition_uuid, *partition_label, *partition_type;
	unsigned partition_number; /* 0 = none */
	char *table_type;          /* "gpt", "dos" of the table on this device, or NULL */

	char *mapping;      /* device-mapper name, or NULL */
	char *mapping_uuid; /* device-mapper UUID, "CRYPT-LUKS2-…", "LVM-…", or NULL */
	char *link; /* a name that stays: by-partuuid, by-id, azure lun, by-path …; NULL = none */
	char *lun;  /* "lun0" from /dev/disk/azure/…, or NULL */
	char *fstab_target; /* where fstab mounts it (the first entry), or NULL */

	size_t *parents, *children; /* indexes into the inventory: parent = what it lies on */
	size_t n_parents, n_children;
	struct volume_mount *mounts; /* in mount order */
	size_t n_mounts;
};

struct inventory {
	struct volume *volumes;
	size_t n;
};

/* Of other tables, encrypted data has now and then the look. */
static inline bool volume_has_table(const struct volume *volume)
{
	return volume->table_type &&
	       (strcmp(volume->table_type, "gpt") == 0 || strcmp(volume->table_type, "dos") == 0);
}

bool inventory_is_in_conversion(const struct inventory *inventory, const struct volume *volume);
int inventory_read(struct inventory **ret);
struct inventory *inventory_free(struct inventory *inventory);
void inventory_freep(struct inventory **inventory);

int inventory_drop_phantoms(struct inventory *inventory);
struct volume *inventory_find_uuid(struct inventory *inventory, const char *uuid);
struct volume *inventory_find_devno(struct inventory *inventory, dev_t devno);
struct volume *inventory_find_mapping(struct inventory *inventory, const char *mapping);
const struct volume *inventory_disk_of(const struct inventory *inventory,
				       const struct volume *partition);

enum volume_excuse volume_excuse(const struct inventory *inventory, const struct volume *volume,
				 bool wants_os, bool wants_data);
const char *volume_excuse_to_string(enum volume_excuse excuse);
const char *volume_excuse_sentence(enum volume_excuse excuse);
const char *volume_kind_to_string(enum volume_kind kind);
const char *volume_role_to_string(enum volume_role role);
int volume_to_json(const struct inventory *inventory, const struct volume *volume,
		   struct json_object **ret);
