/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/job.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "volume/filesystem.h"
#include "volume/mapping.h"
#include "volume/reencrypt.h"

#define BOOTED "/run/systemd/system" /* sd_booted(3) */
#define SETTLE_TIMEOUT_S                                                                           \
	"30" /* udev's own default is 120; a change of one device takes milliseconds */

/**
 * job_fail() - say what stops a volume: once to the log, once to the report
 * @r:      what to return; 0 or positive becomes -ECANCELED
 * @code:   stable word, a literal
 * @remedy: one sentence on what to do
 * @format: one sentence on what happened
 *
 * Return: a negative errno, for `return job_fail(…)`.
 */
int job_fail(struct job *job, int r, const char *code, const char *remedy, const char *format, ...)
{
	_cleanup_(freep) char *what = NULL;
	va_list arguments;

	errno = r < 0 ? -r : 0;
	va_start(arguments, format);
	if (vasprintf(&what, format, arguments) < 0)
		what = NULL;
	va_end(arguments);
	log_error("Volume %s: %s (%s) %s", job->uuid, what ? what : code, code, remedy);
	(void)faults_add(&job->plan->report.faults, FAULT_ERROR, code, job->uuid,
			 job->progress->step, remedy, "%s", what ? what : code);
	return r < 0 ? r : -ECANCELED;
}

/** job_fail_key() - the same for an answer of the key service. Return: JOB_E_LATER or negative. */
int job_fail_key(struct job *job, const struct key_result *result, const char *what)
{
	const char *code = "key-refused", *remedy = "Grant the machine's identity the permission, "
						    "then try again.";

	switch (result->condition) {
	case KEY_E_UNREACHABLE:
		code = "key-unreachable";
		remedy = job_outlasts_silence(job)
				 ? "Check the network and the vault; it is tried again by itself."
				 : "Check the network and the vault, then ask again.";
		break;
	case KEY_E_GONE:
		code = "key-gone";
		remedy = "Recover the deleted secret or key in the vault.";
		break;
	case KEY_E_DISABLED:
		code = "key-disabled";
		remedy = "Enable the secret and the key encryption key in the vault.";
		break;
	case KEY_E_CONFIG:
		code = "key-config";
		remedy = "Give the machine a managed identity and check the vault's address.";
		break;
	case KEY_E_CORRUPT:
		code = "key-corrupt";
		remedy =
			"The vault holds something else than was stored; look at the secret's versions.";
		break;
	default:
		break;
	}
	(void)job_fail(job, 0, code, remedy, "%s: %s", what,
		       result->message ? result->message
				       : key_condition_to_string(result->condition));
	return result->condition == KEY_E_UNREACHABLE ? JOB_E_LATER : -EACCES;
}

/** job_step() - name the step that runs now, for log, report and status */
void job_step(struct job *job, const char *name)
{
	job->progress->step = name;
	job->progress->state = JOB_RUNNING;
	log_notice("Volume %s: %s.", job->uuid, name);
	(void)plan_publish(job->plan);
}

/** job_settle() - wait until udev has seen what we did. Return: 0 or -errno. */
int job_settle(void)
{
	static const char *const argv[] = { "udevadm", "settle", "--timeout=" SETTLE_TIMEOUT_S,
					    NULL };
	int status;

	return process_run(argv, 60, &status, NULL);
}

/**
 * job_reload() - systemd makes its units of fstab and crypttab again
 *
 * What one of them bound to a name that goes away would be unmounted and closed with it.
 *
 * Return: 0 (also where systemd does not run), or negative, said in the log.
 */
int job_reload(void)
{
	static const char *const argv[] = { "systemctl", "daemon-reload", NULL };
	_cleanup_(freep) char *output = NULL;
	int status = 0, r;

	if (access(BOOTED, F_OK) < 0)
		return 0;
	r = process_run(argv, 60, &status, &output);
	if (r == 0 && status == 0)
		return 0;
	log_warning("The service manager has not read fstab and crypttab again: %s",
		    r < 0    ? strerror(-r)
		    : output ? output
			     : "it refused");
	return r < 0 ? r : -EIO;
}

/**
 * job_look() - see where the volume is now
 *
 * Fills @plain, @backing, @mapped and @header from the disks.
 *
 * Return: 0 or -errno. A volume that is not attached is not an error: @backing is then NULL.
 */
int job_look(struct job *job)
{
	struct stat device;
	int r;

	job->plain = job->backing = job->mapped = NULL;
	job->header = header_info_free(job->header);
	job->inventory = inventory_free(job->inventory);
	r = inventory_read(&job->inventory);
	if (r < 0)
		return r;

	job->mapped = inventory_find_mapping(job->inventory, job->mapping);
	if (stat(job->device, &device) == 0 && S_ISBLK(device.st_mode))
		job->backing = inventory_find_devno(job->inventory, device.st_rdev);
	if (!job->backing || job_is_at_another(job)) {
		struct volume *named = inventory_find_uuid(job->inventory, job->header_uuid);

		job->backing = named ? named : job->backing;
	}
	if (!job->backing) {
		struct volume *named = inventory_find_uuid(job->inventory, job->uuid);

		if (named && named->kind != VOLUME_KIND_CRYPT)
			job->backing = named;
	}
	if (!job->backing)
		return 0;

	if (job->backing->uuid && strcasecmp(job->backing->uuid, job->uuid) == 0)
		job->plain = job->backing;
	if (job->header_file && access(job->header_file, F_OK) == 0)
		r = header_read(job->backing->path, job->header_file, &job->header);
	else
		r = header_read(job->backing->path, NULL, &job->header);
	if (r < 0)
		return r;
	/* a header that we did not make is none of ours, whatever it says */
	if (job->header &&
	    (!job->header->token || strcasecmp(job->header->uuid, job->header_uuid) != 0))
		job->header = header_info_free(job->header);
	return 0;
}

/**
 * job_passphrase() - have the volume's passphrase, from where the header or the journal says
 *
 * Return: 0, JOB_E_LATER, or negative; what is wrong has been said.
 */
int job_passphrase(struct job *job)
{
	_cleanup_(key_reference_freep) struct key_reference *parsed = NULL;
	const struct key_reference *reference = job->reference;
	struct key_result result = { 0 };
	int r;

	if (job->passphrase)
		return 0;
	if (job->header) {
		r = key_reference_from_json(job->header->token->reference, &parsed);
		if (r != 0)
			return job_fail(job, r, "token-malformed",
					"Open the volume with a recovery key.",
					"the token in its header cannot be understood");
		reference = parsed;
	}
	if (!reference)
		return job_fail(job, -ENOKEY, "key-unknown", "Open the volume with a recovery key.",
				"nothing says where its passphrase is");
	r = key_fetch(&reference, 1, 0, KEY_TIMEOUT_MS, &result);
	if (r < 0)
		return job_fail(job, r, "key-service", "See the journal of vmcrypt-keyfetch.",
				"the key service failed: %m");
	if (result.condition != 0)
		r = job_fail_key(job, &result, "cannot fetch its passphrase");
	else
		job->passphrase = steal(result.passphrase);
	key_result_clear(&result);
	return r;
}

/** job_header_file() - where the header is kept that counts now; NULL = on the device itself */
const char *job_header_file(const struct job *job)
{
	return job->header && job->header->is_detached ? job->header_file : NULL;
}

/**
 * job_header_ending() - where the header is kept as it was before its conversion
 *
 * Only a conversion that is cut in its last moment is ended with it; at any other time it would
 * describe a state that is not there. So it has a name of its own, beside the backup.
 *
 * Return: 0 or -ENOMEM.
 */
int job_header_ending(const struct job *job, char **ret)
{
	return job_path(job, "headers", "ending", ret);
}

/* The last step of a conversion was cut twice: only with the backup can it be brought to its end.
 */
static int end_conversion(struct job *job)
{
	_cleanup_(freep) char *backup = NULL;
	struct reencrypt conversion;
	int r = job_header_ending(job, &backup);

	if (r < 0)
		return r;
	conversion = (struct reencrypt){ .device = job->backing->path,
					 .file = job_header_file(job),
					 .passphrase = job->passphrase,
					 .backup = backup };
	r = reencrypt_run(&conversion);
	return r == 0 ? job_look(job) : r;
}

static bool is_mounted_at(const struct volume *volume, const char *target)
{
	for (size_t i = 0; i < volume->n_mounts; i++)
		if (strcmp(volume->mounts[i].target, target) == 0)
			return true;
	return false;
}

/*
 * With a header in a file, another disk of the same size opens like its own: what the mapping shows
 * then is no filesystem. An OS disk is in no other's place.
 */
static bool is_foreign(const struct job *job)
{
	const struct volume *mapped = job->mapped;

	if (job->is_os || job->plan->request->is_format_all || !job->header ||
	    !job->header->is_detached || strcmp(job->filesystem, "unknown") == 0 ||
	    (job->backing->uuid && strcasecmp(job->backing->uuid, job->header_uuid) == 0))
		return false;
	return mapped->n_mounts == 0 && !mapped->uuid && !mapped->has_other_signatures &&
	       !inventory_is_in_conversion(job->inventory, mapped);
}

/**
 * job_attach() - the mapping is active and mounted where the plan says
 *
 * Return: 0, JOB_E_LATER, or negative; what is wrong has been said.
 */
int job_attach(struct job *job)
{
	_cleanup_(freep) char *path = NULL;
	int r;

	if (!job->backing)
		return job_fail(job, -ENODEV, "volume-missing", "Attach the disk again.",
				"its device %s is not there", job->device);
	r = mapping_path(job->mapping, &path);
	if (r < 0)
		return r;
	if (!job->mapped) {
		r = job_passphrase(job);
		if (r != 0)
			return r;
		r = mapping_open(job->backing->path, job_header_file(job), job->mapping,
				 job->passphrase);
		if (r == HEADER_E_TORN && end_conversion(job) == 0)
			r = mapping_open(job->backing->path, job_header_file(job), job->mapping,
					 job->passphrase);
		if (r != 0)
			return job_fail(job, r, "cannot-open",
					"Open it with a recovery key and look at the kernel's log.",
					"its mapping cannot be opened (%s)",
					r == HEADER_E_PASSPHRASE ? "the passphrase does not fit"
					: r == HEADER_E_BUSY     ? "the device is in use"
					: r == HEADER_E_NONE     ? "no LUKS2 header"
								 : strerror(-r));
		(void)job_settle();
	}
	r = job_look(job);
	if (r < 0)
		return r;
	if (!job->mapped)
		return job_fail(job, -ENODEV, "cannot-open", "Look at the kernel's log.",
				"its mapping %s did not appear", job->mapping);
	if (is_foreign(job)) {
		(void)mapping_close(job->mapping);
		job->has_foreign_disk = true;
		return job_wait_for_disk(job);
	}
	/* the initramfs mounts what it needs itself, and the system the rest */
	for (size_t i = 0; !job->is_os && i < job->n_mounts; i++) {
		struct volume was = { .mounts = &job->mounts[i], .n_mounts = 1 };

		if (is_mounted_at(job->mapped, job->mounts[i].target))
			continue;
		r = filesystem_mount_all(path, &was);
		/* its folder is gone, or another mounts it just now: the data is moved nevertheless
		 */
		if ((r == -ENOENT || r == -EBUSY) && !job->plan->request->is_format_all) {
			(void)faults_add(&job->plan->report.faults, FAULT_WARNING, "cannot-mount",
					 job->uuid, "attach", "Mount it by hand.",
					 "The volume is not mounted on %s: %s. Its data is moved.",
					 job->mounts[i].target, strerror(-r));
			continue;
		}
		if (r != 0)
			return job_fail(job, r, "cannot-mount",
					"Mount it by hand and look at the kernel's log.",
					"it cannot be mounted on %s: %s", job->mounts[i].target,
					r < 0 ? strerror(-r) : "the filesystem refused");
	}
	return job_look(job);
}
