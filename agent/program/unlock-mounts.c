/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-unlock: the mounts that hang on a volume */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "boot/fstab.h"
#include "program/unlock.h"
#include "volume/mapping.h"

#define FSTAB               "/etc/fstab"
#define MOUNTINFO           "/proc/self/mountinfo"
#define MOUNTINFO_MAX_BYTES (4 * 1024 * 1024)
#define SYSTEMCTL_TIMEOUT_S 20
#define MOUNT_TIMEOUT_S     60 /* the filesystem may have a log to replay */

/* systemd runs, and this is the machine's own root: in an initramfs others mount. */
static bool has_mount_units(void)
{
	return access("/run/systemd/system", F_OK) == 0 && access("/etc/initrd-release", F_OK) < 0;
}

static bool has_option(const char *options, const char *option)
{
	size_t length = strlen(option);

	for (const char *at = options; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (strncmp(at, option, length) == 0 && (at[length] == ',' || at[length] == '\0'))
			return true;
	}
	return false;
}

/* All is decrypted, so that there will be no mapping; the job that has yet to say so in fstab may
 * wait for other volumes. */
static bool is_plain(const struct unlock_volume *volume)
{
	const struct header_info *header = volume->header;
	bool is_active = true;

	return header->conversion == HEADER_CONVERSION_NONE && header->encrypted_bytes == 0 &&
	       mapping_is_active(volume->mapping, &is_active) == 0 && !is_active;
}

/* What has to wait for us: of a plain volume, only what names the mapping. */
static int read_entries(const struct unlock_volume *volume, bool is_decrypted,
			struct fstab_entries *ret)
{
	const struct fstab_device device = {
		.uuid = is_decrypted ? NULL : volume->header->token->filesystem_uuid,
		.mapping = volume->mapping,
	};
	int r = fstab_find(FSTAB, &device, ret);

	return r > 0 ? -EBADMSG : r;
}

static bool is_for_us(const struct fstab_entry *entry)
{
	return entry->target[0] == '/' && strcmp(entry->target, "/") != 0 &&
	       !has_option(entry->options, "noauto");
}

/* mountinfo writes blanks as octal: a target with one is looked for in that form. */
static bool is_mounted(const char *mountinfo, const char *target)
{
	_cleanup_(freep) char *field = malloc(4 * strlen(target) + 3);
	char *out = field;

	if (!field)
		return false;
	*out++ = ' ';
	for (const char *c = target; *c; c++) {
		if (*c == ' ' || *c == '\t' || *c == '\n' || *c == '\\') {
			unsigned byte = (unsigned char)*c;

			*out++ = '\\';
			*out++ = (char)('0' + (byte >> 6));
			*out++ = (char)('0' + ((byte >> 3) & 7));
			*out++ = (char)('0' + (byte & 7));
		} else {
			*out++ = *c;
		}
	}
	*out++ = ' ';
	*out = '\0';
	return strstr(mountinfo, field) != NULL;
}

static int start_unit(const char *target)
{
	const char *const escape[] = { "systemd-escape", "--path", "--suffix=mount", "--",
				       target,           NULL };
	_cleanup_(freep) char *unit = NULL;
	int r;

	r = process_run(escape, SYSTEMCTL_TIMEOUT_S, NULL, &unit);
	if (r < 0)
		return r;
	unit[strcspn(unit, "\n")] = '\0';
	/* not waited for: we may be ordered before what it waits for */
	return process_run(
		(const char *const[]){ "systemctl", "start", "--no-block", "--", unit, NULL },
		SYSTEMCTL_TIMEOUT_S, NULL, NULL);
}

/* By its UUID, which the device shows now: names of devices may have changed places. */
static int mount_plain(const struct unlock_volume *volume, const struct fstab_entry *entry)
{
	_cleanup_(freep) char *source = NULL;
	int r = text_format(&source, "UUID=%s", volume->header->token->filesystem_uuid);

	if (r < 0)
		return r;
	return process_run((const char *const[]){ "mount", "-t", entry->type, "-o", entry->options,
						  "--", source, entry->target, NULL },
			   MOUNT_TIMEOUT_S, NULL, NULL);
}

/**
 * unlock_mounts_start() - start the mounts of fstab that were waiting for this volume
 *
 * Those whose wait for the device has timed out are not started by anyone else. Nor are those of a
 * plain volume that fstab still names by its mapping: it is mounted from its device.
 *
 * Return: 0, or -errno of the last one that could not be started.
 */
int unlock_mounts_start(const struct unlock_volume *volume)
{
	_cleanup_(fstab_entries_clear) struct fstab_entries entries = { 0 };
	_cleanup_(freep) char *mountinfo = NULL;
	bool is_decrypted;
	int r, result = 0;

	if (!volume->header || !volume->header->token)
		return 0;
	is_decrypted = is_plain(volume);
	if (!is_decrypted && !has_mount_units())
		return 0;
	r = read_entries(volume, is_decrypted, &entries);
	if (r == 0)
		r = file_read(MOUNTINFO, MOUNTINFO_MAX_BYTES, &mountinfo, NULL);
	if (r < 0)
		return r;
	for (size_t i = 0; i < entries.n; i++) {
		if (!is_for_us(&entries.entries[i]) ||
		    is_mounted(mountinfo, entries.entries[i].target))
			continue;
		r = is_decrypted ? mount_plain(volume, &entries.entries[i])
				 : start_unit(entries.entries[i].target);
		if (r < 0)
			result =
				log_warning_errno(r, "Volume %s: mount of %s cannot be started: %m",
						  volume->mapping, entries.entries[i].target);
	}
	return result;
}

/** unlock_mounts_are_there() - is everything mounted that fstab mounts from this volume? */
bool unlock_mounts_are_there(const struct unlock_volume *volume)
{
	_cleanup_(fstab_entries_clear) struct fstab_entries entries = { 0 };
	_cleanup_(freep) char *mountinfo = NULL;

	if (!volume->header || !volume->header->token || !has_mount_units() ||
	    read_entries(volume, is_plain(volume), &entries) < 0 ||
	    file_read(MOUNTINFO, MOUNTINFO_MAX_BYTES, &mountinfo, NULL) < 0)
		return true;
	for (size_t i = 0; i < entries.n; i++)
		if (is_for_us(&entries.entries[i]) &&
		    !is_mounted(mountinfo, entries.entries[i].target))
			return false;
	return true;
}
