/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/split.h"

#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "boot/cmdline.h"
#include "boot/fstab.h"
#include "boot/grub.h"
#include "boot/initramfs.h"
#include "boot/pairs.h"
#include "job/snapshot.h"
#include "volume/filesystem.h"
#include "volume/room.h"
#include "volume/tablesplit.h"
#include "volume/tail.h"

#define GRAIN_BYTES (1024ULL * 1024)      /* where partitions begin by custom */
#define FINE_BYTES  4096                  /* what a size is a multiple of, for 4096-byte sectors */
#define SPARE_BYTES (48ULL * 1024 * 1024) /* journal and tables of the new filesystem */
#define STAGED      3                     /* headers of a conversion: see preflight-os.c */
#define NFTW_DEPTH  16

#define FOLDER_MAX_BYTES 1024

struct split *split_free(struct split *split)
{
	if (!split)
		return NULL;
	free(split->boot_uuid);
	free(split->folder);
	split_conf_clear(&split->conf);
	free(split);
	return NULL;
}

static void split_freep(struct split **split)
{
	split_free(*split);
}

/** split_to_json() - for the journal. Return: 0 or -ENOMEM. */
int split_to_json(const struct split *split, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *object = json_object_new_object();
	const struct split_conf *conf = &split->conf;

	if (!object || json_set_string(object, "boot_uuid", split->boot_uuid) < 0 ||
	    json_set_string(object, "folder", split->folder) < 0 ||
	    json_set_string(object, "job", conf->job) < 0 ||
	    json_set_string(object, "root_uuid", conf->root_uuid) < 0 ||
	    json_set_string(object, "device", conf->device) < 0 ||
	    json_set_string(object, "partition_uuid", conf->partition_uuid) < 0 ||
	    json_set_int(object, "number", (int64_t)conf->number) < 0 ||
	    json_set_int(object, "filesystem_bytes", (int64_t)conf->filesystem_bytes) < 0 ||
	    json_set_int(object, "keeps_bytes", (int64_t)conf->keeps_bytes) < 0 ||
	    json_set_int(object, "start_bytes", (int64_t)conf->start_bytes) < 0 ||
	    json_set_int(object, "size_bytes", (int64_t)conf->size_bytes) < 0)
		return -ENOMEM;
	*ret = steal(object);
	return 0;
}

/* One word of GRUB's script. */
static bool is_folder(const char *value)
{
	return value[0] == '/' && strlen(value) < FOLDER_MAX_BYTES &&
	       !strpbrk(value, " \t\n\"'\\$");
}

static bool is_right(const char *text, bool (*test)(const char *value))
{
	return text && test(text);
}

/** split_from_json() - what split_to_json() made. Return: 0, PLAN_E_DAMAGED or -ENOMEM. */
int split_from_json(struct json_object *object, struct split **ret)
{
	_cleanup_(split_freep) struct split *split = calloc(1, sizeof(*split));
	struct split_conf conf = {
		.job = (char *)json_get_string(object, "job"),
		.root_uuid = (char *)json_get_string(object, "root_uuid"),
		.device = (char *)json_get_string(object, "device"),
		.partition_uuid = (char *)json_get_string(object, "partition_uuid"),
		.number = (uint64_t)json_get_int(object, "number", 0),
		.filesystem_bytes = (uint64_t)json_get_int(object, "filesystem_bytes", 0),
		.keeps_bytes = (uint64_t)json_get_int(object, "keeps_bytes", 0),
		.start_bytes = (uint64_t)json_get_int(object, "start_bytes", 0),
		.size_bytes = (uint64_t)json_get_int(object, "size_bytes", 0),
	};
	int r;

	if (!split)
		return -ENOMEM;
	if (!is_right(json_get_string(object, "boot_uuid"), pairs_is_uuid) ||
	    !is_right(json_get_string(object, "folder"), is_folder) ||
	    !is_right(conf.job, pairs_is_name) || !is_right(conf.root_uuid, pairs_is_uuid) ||
	    !is_right(conf.device, pairs_is_device) || conf.number == 0 || conf.number > 255 ||
	    conf.keeps_bytes == 0 || conf.start_bytes == 0 || conf.size_bytes == 0 ||
	    (conf.partition_uuid && !pairs_is_uuid(conf.partition_uuid)))
		return PLAN_E_DAMAGED;
	r = text_copy(json_get_string(object, "boot_uuid"), &split->boot_uuid);
	if (r == 0)
		r = text_copy(json_get_string(object, "folder"), &split->folder);
	if (r == 0)
		r = split_conf_copy(&conf, &split->conf);
	if (r == 0)
		*ret = steal(split);
	return r;
}

/** split_is_inside() - is /boot a folder (or subvolume) of the root's filesystem? */
bool split_is_inside(const struct inventory *inventory)
{
	struct stat root, boot;

	for (size_t i = 0; i < inventory->n; i++)
		for (size_t k = 0; k < inventory->volumes[i].n_mounts; k++)
			if (strcmp(inventory->volumes[i].mounts[k].target, "/boot") == 0)
				return inventory->volumes[i].is_root;
	return stat("/", &root) == 0 && stat("/boot", &boot) == 0 && root.st_dev == boot.st_dev;
}

static int refuse(struct plan *plan, const char *remedy, const char *why)
{
	return faults_add(
		&plan->report.faults, FAULT_ERROR, "boot-inside-root", NULL, "preflight", remedy,
		"/boot lies on the root filesystem: the boot loader could not read it any "
		"more. It cannot be split off here: %s.",
		why);
}

static const char by_hand[] = "Give /boot a partition of its own (512 MiB) and try again.";

static uint64_t content_bytes; /* nftw() has no context */

static int on_file(const char *path, const struct stat *status, int kind, struct FTW *where)
{
	content_bytes += (uint64_t)status->st_blocks * 512;
	return 0;
}

/* What goes into the new one: /boot as it is, what a conversion adds, the second image of a kernel
 * while it is made, and what the root's filesystem gives way beside. Return: 0 or -errno. */
static int needed_bytes(const struct plan *plan, const struct volume *root, uint64_t *ret)
{
	_cleanup_(initramfs_images_clear) struct initramfs_images images = { 0 };
	uint64_t needed = SPARE_BYTES, anew = 0, changes = 0, there;
	int r = initramfs_find("", &images);

	if (r == 0)
		r = initramfs_room("", &images, &anew, &there);
	if (r >= 0 && room_needs_changes(root, ROOM_FILESYSTEM))
		r = room_changes_bytes(root, &changes);
	if (r < 0)
		return r;
	for (size_t i = 0; i < plan->n_jobs; i++)
		if (plan->jobs[i].is_os)
			needed += 2 * SNAPSHOT_EDGE_BYTES + STAGED * HEADER_SHIFT_BYTES;
	content_bytes = 0;
	(void)nftw("/boot", on_file, NFTW_DEPTH, FTW_MOUNT | FTW_PHYS);
	*ret = content_bytes + needed + (anew > changes ? anew : changes);
	return 0;
}

/* A place that takes nothing from the root. Return: 0, TABLE_E_NO_GAP or -errno. */
static int find_gap(const char *disk, const struct table_place *place, enum room_way room,
		    uint64_t *ret_start)
{
	uint64_t end = place->start_bytes + place->size_bytes, start;
	/* the root's header wants its own */
	uint64_t kept = room == ROOM_PARTITION ? ROOM_BYTES + GRAIN_BYTES : 0;
	int r;

	if (place->gap_bytes >= SPLIT_BYTES + GRAIN_BYTES + kept) {
		*ret_start = (end + place->gap_bytes - SPLIT_BYTES) / GRAIN_BYTES * GRAIN_BYTES;
		return 0;
	}
	r = table_find_free(disk, SPLIT_BYTES, &start);
	if (r != 0)
		return r == TABLE_E_UNSUPPORTED ? TABLE_E_NO_GAP : r;
	if (start >= end && start < end + place->gap_bytes)
		return TABLE_E_NO_GAP;
	*ret_start = start;
	return 0;
}

/* The root's end. Return: 0, or what has been said about it: 1, or -errno. */
static int find_end(struct plan *plan, const struct volume *root, const struct table_place *place,
		    struct split_conf *conf)
{
	uint64_t limit = place->start_bytes + place->size_bytes + place->gap_bytes;
	_cleanup_(freep) char *detail = NULL;
	int r;

	if (!root->filesystem || strcmp(root->filesystem, "ext4") != 0) {
		r = refuse(plan, by_hand,
			   "its filesystem cannot give way, and no gap is on the disk");
		return r < 0 ? r : 1;
	}
	if (limit < place->start_bytes + 2 * SPLIT_BYTES) {
		r = refuse(plan, "Enlarge the disk and try again.", "the disk is too small");
		return r < 0 ? r : 1;
	}
	conf->start_bytes = (limit - SPLIT_BYTES) / GRAIN_BYTES * GRAIN_BYTES;
	conf->keeps_bytes = conf->start_bytes - place->start_bytes;
	if (conf->keeps_bytes > place->size_bytes)
		conf->keeps_bytes = place->size_bytes;
	conf->keeps_bytes -= conf->keeps_bytes % FINE_BYTES;
	/* and what the root's header will want */
	conf->filesystem_bytes = conf->keeps_bytes - ROOM_BYTES;
	r = tail_can_shrink(root->path, conf->filesystem_bytes, "/boot", true);
	if (r == 0 && root->filesystem_bytes > conf->filesystem_bytes &&
	    filesystem_can_shrink(root->path, root->filesystem, "/",
				  root->filesystem_bytes - conf->filesystem_bytes, &detail) != 0)
		r = TAIL_E_NO_ROOM;
	if (r == 0)
		return 0;
	r = refuse(plan,
		   r == TAIL_E_BOOT_MOVES
			   ? "Make a copy of /boot (cp -a) take its place, or enlarge the disk."
			   : "Free some space, or enlarge the disk by 600 MiB, and try again.",
		   detail ? detail : tail_sentence(r));
	return r < 0 ? r : 1;
}

static struct job *root_job(const struct plan *plan)
{
	for (size_t i = 0; i < plan->n_jobs; i++)
		if (plan->jobs[i].is_os && plan->jobs[i].is_root)
			return &plan->jobs[i];
	return NULL;
}

/* Where GRUB's menu is on the root's filesystem. Return: 0 or -ENOMEM. */
static int find_folder(const struct volume *root, char **ret)
{
	const char *name = access("/boot/grub/grub.cfg", F_OK) < 0 ? "grub2" : "grub";
	const char *above = "", *boot = "/boot";

	for (size_t i = 0; i < root->n_mounts; i++) {
		const struct volume_mount *mount = &root->mounts[i];
		bool is_boot = strcmp(mount->target, "/boot") == 0;

		if (!is_boot && strcmp(mount->target, "/") != 0)
			continue;
		above = mount->root && strcmp(mount->root, "/") != 0 ? mount->root : "";
		boot = is_boot ? "" : "/boot";
		if (is_boot) /* a subvolume of its own */
			break;
	}
	return text_format(ret, "%s%s/%s", above, boot, name);
}

/* Can the loader be told? Return: 0, 1 (said) or -errno. */
static int check_loader(struct plan *plan, const struct volume *root, const struct volume *disk,
			const char *folder)
{
	const struct grub_place here = { root->uuid, folder };
	_cleanup_(freep) char *why = NULL;
	int r = cmdline_has_menu("");

	if (r < 0)
		return r;
	if (r == 0) {
		r = refuse(plan, by_hand, "its boot loader is none that can be made to follow");
		return r < 0 ? r : 1;
	}
	r = grub_can_follow(disk->path, &here, &why);
	if (r <= 0 || r == GRUB_E_NO_TOOL)
		return r < 0 ? r : 0;
	r = refuse(plan, "Install and mount what grub-install needs and try again.", why);
	return r < 0 ? r : 1;
}

/* A line for /boot that is not mounted: which of the two is it? Return: 0, 1 (said) or -errno. */
static int check_fstab(struct plan *plan, const struct volume *root)
{
	_cleanup_(freep) char *text = NULL, *changed = NULL;
	int r = file_read(FSTAB_PATH, FSTAB_MAX_BYTES, &text, NULL);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = fstab_add_text(text, "/boot", "none /boot none", &changed);
	if (r != FSTAB_E_TAKEN)
		return r < 0 ? r : 0;
	for (size_t i = 0; i < root->n_mounts; i++) {
		if (strcmp(root->mounts[i].target, "/boot") != 0)
			continue;
		r = refuse(plan, by_hand, "it is a subvolume with a line of its own in /etc/fstab");
		return r < 0 ? r : 1;
	}
	r = refuse(plan, "Mount /boot, or take its line out of /etc/fstab, and try again.",
		   "/etc/fstab has a line for /boot, which is not mounted");
	return r < 0 ? r : 1;
}

/* Is it in nobody's use? */
static bool is_spare(const struct inventory *inventory, const struct volume *disk, unsigned number)
{
	for (size_t i = 0; i < inventory->n; i++) {
		const struct volume *volume = &inventory->volumes[i];

		if (volume->kind == VOLUME_KIND_PARTITION && volume->partition_number == number &&
		    inventory_disk_of(inventory, volume) == disk)
			return volume->n_mounts == 0 && volume->n_children == 0 &&
			       !volume->has_fstab_entry;
	}
	return false;
}

/* One that an earlier try has made and left. Return: 1 (@conf says which), 0 or -errno. */
static int find_spare(const struct inventory *inventory, const struct volume *disk,
		      struct split_conf *conf)
{
	_cleanup_(json_putp) struct json_object *object = NULL;
	_cleanup_(split_freep) struct split *made = NULL;
	unsigned number;
	int r = json_read_file(SPLIT_MADE, SPLIT_MADE_MAX_BYTES, &object);

	if (r == 0)
		r = split_from_json(object, &made);
	if (r != 0)
		return r == -ENOMEM ? r : 0;
	if (table_find(disk->path, made->conf.start_bytes, made->conf.size_bytes, &number) != 0 ||
	    made->conf.size_bytes != SPLIT_BYTES || !is_spare(inventory, disk, number))
		return 0;
	conf->start_bytes = made->conf.start_bytes;
	return 1;
}

/* Where a new one is made. Return: 0, 1 (said) or -errno. */
static int find_place(struct plan *plan, struct job *job, const struct volume *root,
		      const struct volume *disk, struct split_conf *conf)
{
	struct table_place place;
	int r = table_place(disk->path, root->partition_number, &place);

	if (r < 0)
		return r;
	if (r > 0 || table_can_add(disk->path) != 1) {
		r = refuse(plan, by_hand, "the partition table takes no further partition");
		return r < 0 ? r : 1;
	}
	conf->keeps_bytes = place.size_bytes;
	r = find_gap(disk->path, &place, job->room, &conf->start_bytes);
	if (r != TABLE_E_NO_GAP)
		return r;
	r = find_end(plan, root, &place, conf);
	if (r != 0)
		conf->start_bytes = 0;
	else if (job->room == ROOM_PARTITION)
		job->room =
			ROOM_FILESYSTEM; /* the gap goes to /boot, and it gives way in any case */
	return r;
}

static int tell(struct plan *plan)
{
	return faults_add(&plan->report.faults, FAULT_WARNING, "boot-split", NULL, "preflight",
			  "Nothing needs to be done.",
			  "/boot lies on the root filesystem: first it gets a partition of its own "
			  "of 512 MiB%s.",
			  plan->split->conf.filesystem_bytes > 0 ? ", at one reboot more" : "");
}

/**
 * split_decide() - where the partition for /boot comes from, or why there is no way
 * @plan: with its jobs decided; reasons are added to its report
 *
 * Return: 0 when it could look (there may be reasons), or -errno.
 */
int split_decide(struct plan *plan, struct inventory *inventory)
{
	_cleanup_(split_freep) struct split *split = calloc(1, sizeof(*split));
	struct job *job = root_job(plan);
	const struct volume *root = job ? inventory_find_uuid(inventory, job->uuid) : NULL;
	const struct volume *disk = root ? inventory_disk_of(inventory, root) : NULL;
	uint64_t needed = 0;
	bool is_refused;
	int r;

	if (!split)
		return -ENOMEM;
	if (!disk || root->kind != VOLUME_KIND_PARTITION || !root->link || !root->uuid)
		return refuse(plan, by_hand, "the root is no partition");
	/* what lies in a mount point tells nothing of what will be mounted there */
	r = check_fstab(plan, root);
	if (r != 0)
		return r < 0 ? r : 0;
	r = find_folder(root, &split->folder);
	if (r == 0)
		r = check_loader(plan, root, disk, split->folder);
	if (r < 0)
		return r;
	is_refused = r > 0;
	r = needed_bytes(plan, root, &needed);
	if (r < 0)
		return r;
	if (needed > SPLIT_BYTES) {
		is_refused = true;
		r = refuse(plan, "Remove old kernels and try again.",
			   "512 MiB are too little for what is in it");
		if (r < 0)
			return r;
	}
	split->conf.number = root->partition_number;
	split->conf.size_bytes = SPLIT_BYTES;
	r = find_spare(inventory, disk, &split->conf);
	if (r == 0)
		r = find_place(plan, job, root, disk, &split->conf);
	else if (r > 0)
		split->conf.keeps_bytes = root->size_bytes;
	if (r < 0 || is_refused || split->conf.start_bytes == 0)
		return r < 0 ? r : 0;
	r = 0;
	if (r == 0)
		r = text_copy(plan->id ? plan->id : "none", &split->conf.job);
	if (r == 0)
		r = text_copy(root->uuid, &split->conf.root_uuid);
	if (r == 0)
		r = text_copy(root->link, &split->conf.device);
	if (r == 0)
		r = plan_make_uuid(&split->boot_uuid);
	if (r == 0 && disk->table_type && strcmp(disk->table_type, "gpt") == 0)
		r = plan_make_uuid(&split->conf.partition_uuid);
	if (r < 0)
		return r;
	/* shown before the keyslots are made, which here is after a boot, with nobody there */
	if (plan->request->has_recovery_key && split->conf.filesystem_bytes > 0)
		return refuse(plan,
			      "Run enable without --recovery-key and reboot once; then disable, "
			      "and enable with it.",
			      "a recovery key cannot be shown after the reboot that this takes");
	plan->split = split_free(plan->split);
	plan->split = steal(split);
	return tell(plan);
}

/** split_waits() - the next boot has to make the partition first */
bool split_waits(const struct plan *plan)
{
	return plan->split && access(SPLIT_CONF, F_OK) == 0;
}
