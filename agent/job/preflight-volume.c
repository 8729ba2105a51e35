/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/preflight-volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/process.h"
#include "volume/filesystem.h"
#include "volume/holders.h"

#define BUSY_SAMPLES     4 /* who is there in each of them is there to stay */
#define BUSY_INTERVAL_MS 500

static int reason(struct plan *plan, const struct job *job, enum fault_level level,
		  const char *code, const char *remedy, const char *what)
{
	return faults_add(&plan->report.faults, level, code, job->uuid, "preflight", remedy, "%s",
			  what);
}

static int check_room(struct plan *plan, const struct inventory *inventory,
		      const struct volume *volume, struct job *job)
{
	_cleanup_(freep) char *detail = NULL;
	enum room_way way;

	if (job->room != ROOM_NONE)
		return 0;
	/* a filesystem in use frees room too: asked again, it may give way now */
	if (room_find(inventory, volume, &way, &detail) == 0 && way != ROOM_NONE) {
		job->room = way;
		return 0;
	}
	return faults_add(&plan->report.faults, FAULT_ERROR, "no-room", job->uuid, "preflight",
			  "Grow the disk or free its last 32 MiB, or use --detached-header.",
			  "There is no room for a LUKS2 header: %s",
			  detail ? detail : "nothing gives way.");
}

/* An ext filesystem gives way in an overlay, whose changes lie beside the volume's state. */
static int check_changes(struct plan *plan, const struct volume *volume, struct job *job)
{
	static const char *const load[] = { "modprobe", "-q", "-a", "dm-snapshot", "loop", NULL };
	uint64_t needed, there;
	int r, status;

	if (!room_needs_changes(volume, job->room))
		return 0;
	(void)process_run(load, 30, &status, NULL);
	/* built in, both have parameters, and so show below /sys/module too */
	if (access("/sys/module/dm_snapshot", F_OK) < 0 || access("/sys/module/loop", F_OK) < 0)
		return reason(
			plan, job, FAULT_ERROR, "dm-snapshot-missing",
			"Install the kernel's modules dm-snapshot and loop, grow the disk by 32 MiB, or "
			"use --detached-header.",
			"The kernel has no dm-snapshot or no loop devices, so its filesystem cannot be "
			"made smaller safely.");
	r = room_changes_bytes(volume, &needed);
	/* what is wrong with /boot is said with the machine's own reasons */
	if (r == 0 && job->is_os &&
	    (access("/boot", F_OK) < 0 || directory_make(job_state_directory(job), 0700) < 0))
		return 0;
	if (r == 0)
		r = directory_make(job_state_directory(job), 0700);
	if (r == 0)
		r = directory_free_bytes(job_state_directory(job), &there);
	if (r < 0 || there >= needed)
		return r;
	return faults_add(&plan->report.faults, FAULT_ERROR, "snapshot-space", job->uuid,
			  "preflight", "Make room there.",
			  "%s has %llu MiB free, making its filesystem smaller needs %llu MiB.",
			  job_state_directory(job), (unsigned long long)(there / 1024 / 1024),
			  (unsigned long long)(needed / 1024 / 1024));
}

static int check_filesystem(struct plan *plan, const struct volume *volume, struct job *job)
{
	_cleanup_(freep) char *detail = NULL;
	int r = filesystem_check(volume->path, job->filesystem, &detail);

	if (r == FILESYSTEM_E_UNCLEAN)
		return faults_add(
			&plan->report.faults, FAULT_ERROR, "filesystem-unclean", job->uuid,
			"preflight", "Unmount it, repair it (fsck), and try again.",
			"Its filesystem has errors: %s", detail ? detail : "see the kernel's log.");
	if (r == FILESYSTEM_E_NO_TOOL)
		return faults_add(&plan->report.faults, FAULT_ERROR, "tools-missing", job->uuid,
				  "preflight", "Install e2fsprogs, xfsprogs or btrfs-progs.",
				  "The tools for %s are not installed.", job->filesystem);
	return r < 0 ? r : 0;
}

static bool holder_stays(const struct holder *holder, const struct holders *later)
{
	for (size_t i = 0; i < later->n; i++)
		if (later->holders[i].pid == holder->pid &&
		    strcmp(later->holders[i].name, holder->name) == 0)
			return true;
	return false;
}

/* Only who stays is a reason: programs that open a file for a moment do not keep a volume from
 * being unmounted. */
static int check_busy(struct plan *plan, const struct volume *volume, struct job *job)
{
	const struct timespec interval = { .tv_nsec = BUSY_INTERVAL_MS * 1000000L };
	_cleanup_(freep) char *names = NULL;
	struct holders first = { 0 }, later = { 0 };
	size_t n = 0;
	int r;

	r = holders_find(volume, &first);
	if (r < 0)
		return r;
	for (int i = 1; i < BUSY_SAMPLES && first.n > 0; i++) {
		(void)nanosleep(&interval, NULL);
		if (holders_find(volume, &later) < 0)
			break;
		for (size_t k = 0; k < first.n; k++)
			if (first.holders[k].pid >= 0 && !holder_stays(&first.holders[k], &later))
				first.holders[k].pid = -1;
		holders_clear(&later);
	}
	for (size_t i = 0; r == 0 && i < first.n; i++) {
		const struct holder *holder = &first.holders[i];
		char *longer;

		if (holder->pid < 0)
			continue;
		if (holder->pid == 0) {
			bool is_swap = strstr(holder->name, "swap") != NULL;

			r = faults_add(&plan->report.faults, FAULT_ERROR,
				       is_swap                         ? "swap-on-volume"
				       : strstr(holder->name, "mount") ? "nested-mounts"
								       : "volume-busy",
				       job->uuid, "preflight",
				       is_swap ? "Turn it off (swapoff) and try again."
					       : "Unmount or detach it first.",
				       "The kernel keeps it busy: %s %s.", holder->name,
				       holder->what);
			continue;
		}
		if (n++ >= 8)
			continue;
		if (text_format(&longer, "%s%s%s (%d, %s)", names ? names : "", names ? ", " : "",
				holder->name, (int)holder->pid, holder->what) < 0)
			r = -ENOMEM;
		else {
			free(names);
			names = longer;
		}
	}
	holders_clear(&first);
	if (r == 0 && n > 0)
		r = faults_add(
			&plan->report.faults,
			plan->request->is_next_boot ? FAULT_WARNING : FAULT_ERROR, "volume-busy",
			job->uuid, "preflight",
			"Stop these processes, or use --next-boot to do it early at the next boot.",
			"It is in use by %s%s.", names, n > 8 ? " and others" : "");
	return r;
}

/* Other filesystems below its mount points would go with it. */
static int check_nested(struct plan *plan, const struct inventory *inventory,
			const struct volume *volume, struct job *job)
{
	for (size_t i = 0; i < volume->n_mounts; i++) {
		const char *above = volume->mounts[i].target;
		size_t length = strlen(above);

		for (size_t k = 0; k < inventory->n; k++) {
			const struct volume *other = &inventory->volumes[k];

			for (size_t m = 0; other != volume && m < other->n_mounts; m++)
				if (strncmp(other->mounts[m].target, above, length) == 0 &&
				    other->mounts[m].target[length] == '/')
					return faults_add(
						&plan->report.faults, FAULT_ERROR, "nested-mounts",
						job->uuid, "preflight",
						"Unmount it first, or use --next-boot.",
						"Another volume is mounted below it, on %s.",
						other->mounts[m].target);
		}
	}
	return 0;
}

static int check_fstab(struct plan *plan, const struct volume *volume, struct job *job)
{
	struct fstab_device device = {
		.path = volume->path,
		.uuid = volume->uuid,
		.label = volume->label,
		.partition_uuid = volume->partition_uuid,
		.partition_label = volume->partition_label,
		.mapping = volume->mapping,
	};
	struct fstab_entries entries = { 0 };
	int r = fstab_find(FSTAB_PATH, &device, &entries);
	size_t n = entries.n;

	fstab_entries_clear(&entries);
	if (r != 0)
		return reason(plan, job, FAULT_ERROR, "fstab-unresolvable", "Repair /etc/fstab.",
			      "/etc/fstab cannot be read as text.");
	if (n == 0 && volume->n_mounts > 0 && volume->has_fstab_entry)
		return reason(plan, job, FAULT_ERROR, "fstab-unresolvable",
			      "Name it by UUID= in /etc/fstab.",
			      "Its entry in /etc/fstab names it in a way that cannot be followed.");
	if (n == 0)
		return reason(
			plan, job, FAULT_WARNING, "fstab-missing",
			"Add an entry to /etc/fstab if it shall be mounted at boot.",
			"It is mounted, but /etc/fstab does not name it: no boot will mount it.");
	return 0;
}

/* A key beside the data that it opens protects nothing and can be lost with it. */
static int check_key_directory(struct plan *plan, const struct volume *volume, struct job *job)
{
	const char *path =
		plan->request->key_directory ? plan->request->key_directory : KEY_DIRECTORY;
	struct stat keys, state, target;
	_cleanup_(freep) char *above = strdup(path);

	if (!above)
		return -ENOMEM;
	while (stat(above, &keys) < 0) {
		char *slash = strrchr(above, '/');

		if (!slash || slash == above)
			break;
		*slash = '\0';
	}
	for (size_t i = 0; i < volume->n_mounts; i++) {
		if (stat(volume->mounts[i].target, &target) < 0)
			continue;
		if (plan->request->provider == KEY_PROVIDER_FILE && stat(above, &keys) == 0 &&
		    keys.st_dev == target.st_dev)
			return reason(plan, job, FAULT_ERROR, "key-on-volume",
				      "Choose another one with --key-directory.",
				      "The key files would lie on the volume that they open.");
		if (!job->is_os && stat(STATE_DIRECTORY, &state) == 0 &&
		    state.st_dev == target.st_dev)
			return reason(plan, job, FAULT_ERROR, "state-on-volume",
				      "Move /var/lib/vmcrypt to another volume.",
				      "Our own state lies on this volume.");
	}
	return 0;
}

/* The new filesystem is smaller than the old one by the header: too small for some. */
static int check_format(struct plan *plan, const struct volume *volume, struct job *job)
{
	_cleanup_(freep) char *detail = NULL;
	int r = reason(plan, job, FAULT_WARNING, "data-destroyed",
		       "Leave out --encrypt-format-all.",
		       "All data on it will be destroyed: a new filesystem is made.");

	if (r == 0)
		r = directory_make(RUNTIME_DIRECTORY, 0755);
	if (r == 0 && volume->size_bytes > HEADER_SHIFT_BYTES)
		r = filesystem_can_make(job->filesystem, volume->size_bytes - HEADER_SHIFT_BYTES,
					RUNTIME_DIRECTORY, &detail);
	if (r == FILESYSTEM_E_NO_ROOM)
		return faults_add(
			&plan->report.faults, FAULT_ERROR, "no-room", job->uuid, "preflight",
			"Grow the disk, or encrypt it as it is (without --encrypt-format-all).",
			"No new %s fits beside a LUKS2 header: %.*s", job->filesystem,
			detail ? (int)strcspn(detail, "\n") : 0, detail ? detail : "");
	if (r == FILESYSTEM_E_NO_TOOL)
		return faults_add(&plan->report.faults, FAULT_ERROR, "tools-missing", job->uuid,
				  "preflight", "Install e2fsprogs, xfsprogs or btrfs-progs.",
				  "The tools for %s are not installed.", job->filesystem);
	return r < 0 ? r : 0;
}

/* Without it there is no system to open it, and the initramfs waits for the root alone. */
static int check_usr(struct plan *plan, const struct volume *volume, const struct job *job)
{
	bool is_usr = volume->fstab_target && strcmp(volume->fstab_target, "/usr") == 0;

	for (size_t i = 0; i < volume->n_mounts; i++)
		is_usr |= strcmp(volume->mounts[i].target, "/usr") == 0;
	return is_usr && !volume->is_root
		       ? reason(plan, job, FAULT_ERROR, "usr-separate",
				"Move /usr onto the root filesystem, or name the other volumes "
				"(--volume).",
				"It holds /usr, which a boot needs before it could be opened.")
		       : 0;
}

static int check_encrypt(struct plan *plan, struct inventory *inventory,
			 const struct volume *volume, struct job *job)
{
	int r = 0;

	if (job->sector_bytes == 0)
		r = reason(plan, job, FAULT_ERROR, "sector-size", "Use --encrypt-format-all.",
			   "No encryption sector size fits its filesystem and its device.");
	if (r == 0)
		r = check_usr(plan, volume, job);
	if (r == 0 && plan->request->is_format_all && !job->is_os)
		r = check_format(plan, volume, job);
	if (r == 0 && (!plan->request->is_format_all || job->is_os))
		r = check_room(plan, inventory, volume, job);
	if (r == 0 && (!plan->request->is_format_all || job->is_os))
		r = check_changes(plan, volume, job);
	if (r == 0 && (!plan->request->is_format_all || job->is_os))
		r = check_filesystem(plan, volume, job);
	if (r == 0)
		r = check_fstab(plan, volume, job);
	if (r == 0)
		r = check_key_directory(plan, volume, job);
	return r;
}

/** preflight_volume() - reasons of one volume. Return: 0 or -errno. */
int preflight_volume(struct plan *plan, struct inventory *inventory, struct job *job)
{
	bool is_encrypt = plan->request->kind == REQUEST_ENCRYPT;
	const struct volume *volume = is_encrypt ? inventory_find_uuid(inventory, job->uuid)
						 : inventory_find_mapping(inventory, job->mapping);
	int r = 0;

	if (!volume && !is_encrypt)
		return reason(plan, job, FAULT_ERROR, "not-unlocked",
			      "Unlock it (systemctl start vmcrypt-unlock) and try again.",
			      "It is encrypted and not unlocked.");
	if (!volume)
		return reason(plan, job, FAULT_ERROR, "volume-missing", "Attach the disk again.",
			      "Its device is not there.");
	if (is_encrypt)
		r = check_encrypt(plan, inventory, volume, job);
	if (r == 0 && is_encrypt && job->room == ROOM_DETACHED)
		r = reason(
			plan, job, FAULT_WARNING, "header-detached",
			"When it is encrypted, and after each change of its keyslots, copy the file "
			"(column HEADER of `vmcryptctl show`) to another machine.",
			"Its header will be a file below /boot/vmcrypt/headers. Without that file "
			"nobody can read the volume again, with any key.");
	if (r == 0 && is_encrypt && !plan->request->is_next_boot && !job->is_os)
		r = check_nested(plan, inventory, volume, job);
	if (r == 0 && is_encrypt && !job->is_os)
		r = check_busy(plan, volume, job);
	return r;
}

/** preflight_left_out() - data volumes that stay as they are, so that nobody believes otherwise */
int preflight_left_out(struct plan *plan, struct inventory *inventory)
{
	const struct request *request = plan->request;

	if (request->n_volumes > 0)
		return 0;
	for (size_t i = 0; i < inventory->n; i++) {
		const struct volume *volume = &inventory->volumes[i];
		enum volume_excuse excuse =
			volume_excuse(inventory, volume, request->wants_os, request->wants_data);
		int r;

		if (volume->role != VOLUME_ROLE_DATA || volume->n_mounts == 0 ||
		    (excuse != VOLUME_EXCUSE_UNSUPPORTED_FILESYSTEM &&
		     excuse != VOLUME_EXCUSE_UNSUPPORTED_DEVICE &&
		     excuse != VOLUME_EXCUSE_SEVERAL_DEVICES &&
		     excuse != VOLUME_EXCUSE_AMBIVALENT && excuse != VOLUME_EXCUSE_NO_UUID &&
		     excuse != VOLUME_EXCUSE_READ_ONLY))
			continue;
		r = faults_add(&plan->report.faults, FAULT_WARNING, "left-out", volume->uuid,
			       "preflight", "Change it first if it shall be encrypted too.",
			       "The volume on %s is left out: %s", volume->mounts[0].target,
			       volume_excuse_sentence(excuse));
		if (r < 0)
			return r;
	}
	return 0;
}
