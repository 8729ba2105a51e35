/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/grub.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"

#define INSTALL           "/usr/sbin/grub-install"
#define MODULES           "/usr/lib/grub/"
#define FIRMWARE          "/sys/firmware/efi"
#define ESP               "/boot/efi"
#define ESP_FOLDERS       ESP "/EFI"
#define FALLBACK          ESP_FOLDERS "/BOOT"
#define STUB_MAX_BYTES    (64 * 1024) /* three lines */
#define INSTALL_TIMEOUT_S 300
#define DETAIL_MAX_BYTES  2048

static const char *const efi_targets[] = { "x86_64-efi", "arm64-efi" };

static bool is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

/* Return: 0, GRUB_E_FAILED with what it said, or -errno. */
static int run(const char *const argv[], char **ret_detail)
{
	_cleanup_(freep) char *output = NULL;
	size_t size;
	int status, r = process_run(argv, INSTALL_TIMEOUT_S, &status, &output);

	if (r < 0 && r != -ETIMEDOUT)
		return r;
	if (r == 0 && status == 0)
		return 0;
	size = output ? strlen(output) : 0;
	free(*ret_detail);
	*ret_detail = NULL;
	r = text_copy(size > DETAIL_MAX_BYTES ? output + size - DETAIL_MAX_BYTES
					      : (output ? output : ""),
		      ret_detail);
	return r < 0 ? r : GRUB_E_FAILED;
}

static int install_bios(const char *disk, char **ret_detail)
{
	return run((const char *const[]){ INSTALL, "--target=i386-pc", disk, NULL }, ret_detail);
}

/* Debian's own option; where the fallback path is in use, it is to follow, too. */
static bool knows_fallback(void)
{
	_cleanup_(freep) char *output = NULL;
	int status;

	return is_there(FALLBACK) &&
	       process_run((const char *const[]){ INSTALL, "--help", NULL }, INSTALL_TIMEOUT_S,
			   &status, &output) == 0 &&
	       strstr(output, "--force-extra-removable");
}

static int install_efi(const char *target, char **ret_detail)
{
	_cleanup_(freep) char *option = NULL;
	const char *argv[] = { INSTALL, NULL, "--efi-directory=" ESP, "--no-nvram", NULL, NULL };
	int r = text_format(&option, "--target=%s", target);

	if (r < 0)
		return r;
	argv[1] = option;
	if (knows_fallback())
		argv[4] = "--force-extra-removable";
	return run(argv, ret_detail);
}

static const char *efi_target(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(efi_targets); i++) {
		_cleanup_(freep) char *path = NULL;

		if (text_format(&path, MODULES "%s", efi_targets[i]) == 0 && is_there(path))
			return efi_targets[i];
	}
	return NULL;
}

/**
 * grub_stub_follow_text() - the few lines on the EFI system partition that lead to the menu
 * @ret: owned by the caller, with 1 only
 *
 * Return: 1, 0 (they do not name the old filesystem) or -ENOMEM.
 */
int grub_stub_follow_text(const char *text, const char *old_uuid, const char *new_uuid, char **ret)
{
	static const char folder[] = "/boot/grub";
	_cleanup_(freep) char *changed = NULL;
	const char *at = text;
	size_t size;
	FILE *out;

	if (!strcasestr(text, old_uuid))
		return 0;
	out = open_memstream(&changed, &size);
	if (!out)
		return -ENOMEM;
	while (*at) {
		if (strncasecmp(at, old_uuid, strlen(old_uuid)) == 0) {
			(void)fputs(new_uuid, out);
			at += strlen(old_uuid);
		} else if (strncmp(at, folder, strlen(folder)) == 0) {
			(void)fputs("/grub", out);
			at += strlen(folder);
		} else {
			(void)fputc(*at++, out);
		}
	}
	if (fclose(out) != 0)
		return -ENOMEM;
	*ret = steal(changed);
	return 1;
}

static int follow_stub(const char *path, const char *old_uuid, const char *new_uuid)
{
	_cleanup_(freep) char *text = NULL, *changed = NULL;
	int r = file_read(path, STUB_MAX_BYTES, &text, NULL);

	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r == 0)
		r = grub_stub_follow_text(text, old_uuid, new_uuid, &changed);
	return r <= 0 ? r : file_write_atomic(path, changed, strlen(changed), 0644);
}

static int follow_stubs(const char *old_uuid, const char *new_uuid)
{
	_cleanup_(closedirp) DIR *folder = opendir(ESP_FOLDERS);
	struct dirent *entry;
	int r = 0;

	while (r == 0 && folder && (entry = readdir(folder))) {
		_cleanup_(freep) char *path = NULL;

		if (entry->d_name[0] == '.')
			continue;
		r = text_format(&path, ESP_FOLDERS "/%s/grub.cfg", entry->d_name);
		if (r == 0)
			r = follow_stub(path, old_uuid, new_uuid);
	}
	return r;
}

/**
 * grub_install() - GRUB finds the menu on what is mounted at /boot now
 * @disk:       the whole disk that the machine boots from
 * @old_uuid:   of the filesystem that /boot was on
 * @ret_detail: with GRUB_E_FAILED what grub-install said last; owned by the caller
 *
 * For the firmware that this boot came by it must succeed; for the other kind, which some images
 * are prepared for too, it is tried.
 *
 * Return: 0, GRUB_E_FAILED, GRUB_E_NO_TOOL or -errno.
 */
int grub_install(const char *disk, const char *old_uuid, const char *new_uuid, char **ret_detail)
{
	_cleanup_(freep) char *ignored = NULL;
	bool is_efi = is_there(FIRMWARE), has_bios = is_there(MODULES "i386-pc");
	const char *target = is_there(ESP_FOLDERS) ? efi_target() : NULL;
	int r = 0;

	*ret_detail = NULL;
	if (!is_there(INSTALL))
		return GRUB_E_NO_TOOL;
	if (is_efi ? !target : !has_bios) {
		r = text_copy(is_efi ? "there is no " ESP_FOLDERS " or no " MODULES "*-efi"
				     : "there is no " MODULES "i386-pc",
			      ret_detail);
		return r < 0 ? r : GRUB_E_FAILED;
	}
	r = is_efi ? install_efi(target, ret_detail) : install_bios(disk, ret_detail);
	if (r == 0 && is_efi && has_bios && install_bios(disk, &ignored) != 0)
		log_debug("GRUB for BIOS did not follow: %s", ignored ? ignored : "");
	if (r == 0 && !is_efi && target && install_efi(target, &ignored) != 0)
		log_debug("GRUB for EFI did not follow: %s", ignored ? ignored : "");
	return r == 0 ? follow_stubs(old_uuid, new_uuid) : r;
}
