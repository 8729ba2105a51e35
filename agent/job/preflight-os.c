/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/preflight-os.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "boot/cmdline.h"
#include "boot/initramfs-conf.h"
#include "boot/initramfs.h"
#include "job/snapshot.h"
#include "job/split.h"
#include "job/steps.h"
#include "volume/room.h"

#define STAGED_HEADERS   3 /* as built, in its commit, and for the end of a conversion */
#define EXPORTED_HEADERS 2 /* the one that counts from then on, and in the snapshot */
#define RESUME           "/sys/power/resume"
#define RESUME_MAX_BYTES 64
#define RESUME_NONE      "0:0"

static int machine(struct plan *plan, enum fault_level level, const char *code, const char *remedy,
		   const char *what)
{
	return faults_add(&plan->report.faults, level, code, NULL, "preflight", remedy, "%s", what);
}

/*
 * What comes to /boot before a conversion begins. Images are made beside that, and made again when
 * it cannot begin; when they are there, filesystems give way. Return: 0 or -errno.
 */
static int boot_bytes(const struct plan *plan, struct inventory *inventory, uint64_t *ret)
{
	_cleanup_(initramfs_images_clear) struct initramfs_images images = { 0 };
	bool is_encrypt = plan->request->kind == REQUEST_ENCRYPT, has_root = false;
	uint64_t anew = 0, changes = 0, there;
	int r;

	*ret = 0;
	for (size_t i = 0; i < plan->n_jobs; i++) {
		const struct volume *volume = inventory_find_uuid(inventory, plan->jobs[i].uuid);
		uint64_t one = 0;

		if (!plan->jobs[i].is_os)
			continue;
		if (is_encrypt && volume && room_needs_changes(volume, plan->jobs[i].room)) {
			r = room_changes_bytes(volume, &one);
			if (r < 0)
				return r;
		}
		changes = one > changes ? one : changes;
		has_root |= plan->jobs[i].is_root;
		*ret += 2 * SNAPSHOT_EDGE_BYTES +
			(is_encrypt ? STAGED_HEADERS : EXPORTED_HEADERS) * HEADER_SHIFT_BYTES;
	}
	if (!has_root || plan->split) /* a new one's size is seen to when it is planned */
		return 0;
	r = initramfs_find("", &images);
	if (r < 0)
		return r;
	if (!is_encrypt) {
		*ret += initramfs_second_bytes(&images);
		return 0;
	}
	r = initramfs_room("", &images, &anew, &there);
	*ret += anew > changes ? anew : changes;
	return r < 0 ? r : 0;
}

/* Where is /boot, and has it room for what the initramfs needs? */
static int check_boot(struct plan *plan, struct inventory *inventory)
{
	bool is_encrypt = plan->request->kind == REQUEST_ENCRYPT;
	uint64_t needed, there;
	int r;

	if (access("/boot", F_OK) < 0)
		return machine(plan, FAULT_ERROR, "no-boot", "Mount the boot filesystem on /boot.",
			       "There is no /boot.");
	if (is_encrypt && split_is_inside(inventory)) {
		r = split_decide(plan, inventory);
		if (r < 0)
			return r;
	}
	r = directory_make(BOOT_DIRECTORY, 0700);
	/* it is there from an earlier look, and /boot read-only since */
	if (r == 0 && access(BOOT_DIRECTORY, W_OK) < 0)
		r = -errno;
	if (r == 0)
		r = directory_free_bytes(BOOT_DIRECTORY, &there);
	if (r < 0)
		return faults_add(&plan->report.faults, FAULT_ERROR, "boot-unwritable", NULL,
				  "preflight", "Remount it writable.", "/boot cannot be used: %s.",
				  strerror(-r));
	r = boot_bytes(plan, inventory, &needed);
	if (r < 0 || there >= needed)
		return r < 0 ? r : 0;
	return faults_add(&plan->report.faults, FAULT_ERROR, "boot-space", NULL, "preflight",
			  "Remove old kernels, or enlarge /boot.",
			  "/boot has %llu MiB free, %llu MiB are needed while it is %s.",
			  (unsigned long long)(there / 1024 / 1024),
			  (unsigned long long)(needed / 1024 / 1024),
			  is_encrypt ? "encrypted" : "decrypted");
}

/* Can an initramfs be made that unlocks the root? */
static int check_initramfs(struct plan *plan)
{
	_cleanup_(initramfs_images_clear) struct initramfs_images images = { 0 };
	int r = initramfs_find("", &images);

	if (r < 0)
		return machine(plan, FAULT_ERROR, "no-initramfs", "Look at the journal.",
			       "The installed kernels cannot be listed.");
	if (images.generator == INITRAMFS_GENERATOR_NONE)
		return machine(plan, FAULT_ERROR, "no-initramfs",
			       "Install initramfs-tools or dracut.",
			       "Nothing here makes an initramfs that could unlock the root.");
	r = initramfs_has_network("", images.generator);
	if (r < 0)
		return r;
	if (r == 0)
		return machine(plan, FAULT_ERROR, "no-initramfs",
			       "Install dracut's network modules (dracut-network).",
			       "dracut here cannot make an initramfs with a network.");
	for (size_t i = 0; i < images.n; i++)
		if (!images.kernels[i].is_rescue)
			return 0;
	return machine(plan, FAULT_ERROR, "no-initramfs", "Mount /boot, or install a kernel.",
		       "No kernel is on /boot, and none has a loader entry.");
}

/* Can every boot entry be made to find the root when it is encrypted? */
static int check_loader(struct plan *plan)
{
	_cleanup_(freep) char *detail = NULL;
	const struct job *root = NULL;
	int r;

	for (size_t i = 0; i < plan->n_jobs; i++)
		if (plan->jobs[i].is_os && plan->jobs[i].is_root)
			root = &plan->jobs[i];
	if (!root)
		return 0;
	r = cmdline_can_set_root("", root->uuid, &detail);
	if (r == 0 || r == -ENOMEM)
		return r;
	if (r == CMDLINE_E_NO_LOADER)
		return machine(plan, FAULT_ERROR, "boot-loader",
			       "Boot with GRUB or with loader entries, and mount what they lie on.",
			       "There is no menu of GRUB and there are no loader entries (unified "
			       "kernel images are not supported).");
	return faults_add(&plan->report.faults, FAULT_ERROR, "boot-loader", root->uuid, "preflight",
			  "Make the kernel's arguments say root=UUID=… and try again.",
			  "The boot loader cannot be told to find the root by its UUID: %s.",
			  detail ? detail : strerror(r < 0 ? -r : EIO));
}

/* A memory image on a swap partition would hold the root's content in the clear. */
static int check_hibernation(struct plan *plan)
{
	_cleanup_(freep) char *text = NULL;
	size_t size_bytes;

	if (file_read(RESUME, RESUME_MAX_BYTES, &text, &size_bytes) < 0 ||
	    strncmp(text, RESUME_NONE, strlen(RESUME_NONE)) == 0)
		return 0;
	return machine(
		plan, FAULT_ERROR, "hibernation",
		"Remove resume= from the kernel's arguments and add noresume to them (a swap "
		"partition may be chosen for it without either), mask hibernate.target, and "
		"reboot.",
		"The machine can hibernate: an image of its memory, with the keys in it, would be "
		"written to the disk in the clear.");
}

/* What stays in the clear, so that nobody believes otherwise; other swap space gets a random key.
 */
static int check_swap(struct plan *plan, const struct inventory *inventory)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < inventory->n; i++) {
		const struct volume *volume = &inventory->volumes[i];
		const char *excuse;

		if (!step_is_swap(inventory, volume))
			continue;
		excuse = step_swap_excuse(inventory, volume);
		if (excuse)
			r = faults_add(
				&plan->report.faults, FAULT_WARNING, "swap-plain", volume->uuid,
				"preflight",
				"Use a swap file on the root, or give it a random key by hand "
				"(crypttab(5), option swap).",
				"The swap space %s will not be encrypted: it %s.", volume->path,
				excuse);
	}
	return r;
}

/* Does every boot entry name the encrypted root so that it is found? */
static int check_arguments(struct plan *plan)
{
	_cleanup_(initramfs_conf_clear) struct initramfs_conf conf = { 0 };
	_cleanup_(freep) char *detail = NULL;
	int r = initramfs_conf_read(INITRAMFS_CONF, &conf);

	if (r != 0)
		return r == -ENOMEM ? r : 0; /* said with the images */
	r = cmdline_check_root("", conf.root_uuid, &detail);
	if (r == 0 || r == -ENOMEM)
		return r;
	if (r != CMDLINE_E_OTHER_ROOT)
		return machine(plan, FAULT_WARNING, "boot-loader",
			       "Make the arguments of each kernel say root=UUID=….",
			       "It cannot be told how the boot loader's entries name the root.");
	return faults_add(&plan->report.faults, FAULT_ERROR, "boot-loader", NULL, "preflight",
			  "Run /usr/lib/vmcrypt/vmcrypt-worker --kernel, or make the kernel's "
			  "arguments say root=UUID=….",
			  "A boot entry does not name the root by its UUID %s: %s.", conf.root_uuid,
			  detail);
}

static int check_images(struct plan *plan)
{
	_cleanup_(initramfs_faults_clear) struct initramfs_faults faults = { 0 };
	int r;

	r = initramfs_verify_installed("", NULL, &faults);
	if (r == -ENOMEM)
		return r;
	if (r != 0)
		return machine(
			plan, FAULT_WARNING, "initramfs-unknown",
			"Run update-initramfs -u -k all (or dracut -f --regenerate-all).",
			"It cannot be told whether the installed kernels can unlock the root.");
	for (size_t i = 0; r == 0 && i < faults.n; i++)
		r = faults_add(
			&plan->report.faults, FAULT_ERROR, "initramfs-stale", NULL, "preflight",
			"Run update-initramfs -u -k all (or dracut -f --regenerate-all), where that "
			"kernel has no image yet update-initramfs -c -k with its version; or remove "
			"that kernel.",
			"The initramfs of kernel %s cannot unlock the root: it lacks %s.",
			faults.faults[i].version, faults.faults[i].missing);
	return r;
}

/** preflight_images() - kernels that could not find or unlock an encrypted root. Return: 0 or
 * -errno. */
int preflight_images(struct plan *plan)
{
	int r;

	if (access(INITRAMFS_CONF, F_OK) < 0)
		return 0;
	r = check_images(plan);
	return r == 0 ? check_arguments(plan) : r;
}

/** preflight_os() - reasons of the machine's own. Return: 0 or -errno. */
int preflight_os(struct plan *plan, struct inventory *inventory)
{
	int r;

	r = check_boot(plan, inventory);
	if (r < 0 || plan->request->kind != REQUEST_ENCRYPT)
		return r;
	/* without it, both are where it was looked for */
	if (access("/boot", F_OK) == 0) {
		r = check_initramfs(plan);
		if (r == 0)
			r = check_loader(plan);
	}
	if (r == 0)
		r = check_hibernation(plan);
	if (r == 0)
		r = check_swap(plan, inventory);
	if (r == 0 && plan->request->provider == KEY_PROVIDER_FILE)
		r = machine(
			plan, FAULT_ERROR, "os-needs-vault",
			"Name a key vault (--disk-encryption-keyvault).",
			"A key file beside the OS disk would have to lie in the clear on /boot.");
	return r;
}
