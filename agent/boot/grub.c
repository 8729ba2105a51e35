/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/grub.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "boot/bootfs.h"

#define MODULES           "/usr/lib/grub/"
#define FIRMWARE          "/sys/firmware/efi"
#define SECURE_BOOT       FIRMWARE "/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
#define ESP               "/boot/efi"
#define ESP_FOLDERS       ESP "/EFI"
#define FALLBACK          ESP_FOLDERS "/BOOT"
#define STUB_MAX_BYTES    (64 * 1024) /* three lines */
#define BOOT_SECTOR_BYTES 512
#define INSTALL_TIMEOUT_S 300
#define DETAIL_MAX_BYTES  2048

static const char *const efi_targets[] = { "x86_64-efi", "arm64-efi" };
static const char *const installs[] = { "/usr/sbin/grub-install", "/usr/sbin/grub2-install" };

/* How the two kinds of firmware are to find the new place. */
struct way {
	const char *install, *target; /* the tool and its word for EFI, or NULL */
	bool is_efi;                  /* this boot came by it */
	bool has_bios;                /* the tool can do that, too */
	bool is_by_stubs;             /* on EFI the few lines are all that has to change */
};

static bool is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

static const char *find_install(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(installs); i++)
		if (is_there(installs[i]))
			return installs[i];
	return NULL;
}

static const char *find_target(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(efi_targets); i++) {
		_cleanup_(freep) char *path = NULL;

		if (text_format(&path, MODULES "%s", efi_targets[i]) == 0 && is_there(path))
			return efi_targets[i];
	}
	return NULL;
}

/* Is there one that the firmware trusts? Debian's name for it. */
static bool has_signed(const char *target)
{
	_cleanup_(freep) char *path = NULL;

	return target && text_format(&path, MODULES "%s-signed", target) == 0 && is_there(path);
}

/* UEFI specification, 3.3: one byte, after the four of attributes that efivarfs puts before. */
static bool is_secure(void)
{
	_cleanup_(freep) char *text = NULL;
	size_t size;

	return file_read(SECURE_BOOT, BOOT_SECTOR_BYTES, &text, &size) == 0 && size == 5 &&
	       text[4] == 1;
}

/* GRUB's first sector says its name, before it says an error's. */
static bool is_in_boot_sector(const char *disk)
{
	_cleanup_(closep) int fd = open(disk, O_RDONLY | O_CLOEXEC);
	char sector[BOOT_SECTOR_BYTES];

	return fd >= 0 && pread(fd, sector, sizeof(sector), 0) == sizeof(sector) &&
	       memmem(sector, sizeof(sector), "GRUB", 4);
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

static int install_bios(const struct way *way, const char *disk, char **ret_detail)
{
	int r = run((const char *const[]){ way->install, "--target=i386-pc", disk, NULL },
		    ret_detail);

	return r == 0 ? file_sync_path(disk) : r;
}

/* Debian's own option; where the fallback path is in use, it is to follow, too. */
static bool knows_fallback(const struct way *way)
{
	_cleanup_(freep) char *output = NULL;
	int status;

	return is_there(FALLBACK) &&
	       process_run((const char *const[]){ way->install, "--help", NULL }, INSTALL_TIMEOUT_S,
			   &status, &output) == 0 &&
	       strstr(output, "--force-extra-removable");
}

static int install_efi(const struct way *way, char **ret_detail)
{
	_cleanup_(freep) char *option = NULL;
	const char *argv[] = {
		way->install, NULL, "--efi-directory=" ESP, "--no-nvram", NULL, NULL
	};
	int r = text_format(&option, "--target=%s", way->target);

	if (r < 0)
		return r;
	argv[1] = option;
	if (knows_fallback(way))
		argv[4] = "--force-extra-removable";
	return run(argv, ret_detail);
}

/* A path begins with it there. */
static bool is_folder_at(const char *text, const char *at, const char *folder)
{
	size_t size = strlen(folder);

	return strncmp(at, folder, size) == 0 && (!at[size] || strchr("/'\" \t\n", at[size])) &&
	       (at == text || strchr(")'\" \t\n=", at[-1]));
}

/**
 * grub_stub_follow_text() - the few lines on the EFI system partition that lead to the menu
 * @ret: owned by the caller, with 1 only
 *
 * Return: 1, 0 (they do not name the old filesystem), -ENOTDIR (another folder of it) or -ENOMEM.
 */
int grub_stub_follow_text(const char *text, const struct grub_place *from,
			  const struct grub_place *to, char **ret)
{
	_cleanup_(freep) char *changed = NULL;
	const char *at = text;
	size_t size;
	FILE *out;

	if (!strcasestr(text, from->uuid))
		return 0;
	/* in another folder: it would find nothing */
	for (at = text; *at && !is_folder_at(text, at, from->folder); at++)
		;
	if (!*at)
		return -ENOTDIR;
	at = text;
	out = open_memstream(&changed, &size);
	if (!out)
		return -ENOMEM;
	while (*at) {
		if (strncasecmp(at, from->uuid, strlen(from->uuid)) == 0) {
			(void)fputs(to->uuid, out);
			at += strlen(from->uuid);
		} else if (is_folder_at(text, at, from->folder)) {
			(void)fputs(to->folder, out);
			at += strlen(from->folder);
		} else {
			(void)fputc(*at++, out);
		}
	}
	if (fclose(out) != 0)
		return -ENOMEM;
	*ret = steal(changed);
	return 1;
}

/* Return: 1 (it named the old place, and when @to is not NULL has followed), 0 or -errno. */
static int follow_stub(const char *path, const struct grub_place *from, const struct grub_place *to)
{
	_cleanup_(freep) char *text = NULL, *changed = NULL;
	int r = file_read(path, STUB_MAX_BYTES, &text, NULL);

	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r == 0)
		r = grub_stub_follow_text(text, from, to ? to : from, &changed);
	if (r <= 0 || !to)
		return r;
	r = file_write_atomic(path, changed, strlen(changed), 0644);
	return r < 0 ? r : 1;
}

/* All of them. Return: how many named the old place, or -errno. */
static int follow_stubs(const struct grub_place *from, const struct grub_place *to)
{
	_cleanup_(closedirp) DIR *folder = opendir(ESP_FOLDERS);
	struct dirent *entry;
	int n = 0;

	while (folder && (entry = readdir(folder))) {
		_cleanup_(freep) char *path = NULL;
		int r;

		if (entry->d_name[0] == '.')
			continue;
		r = text_format(&path, ESP_FOLDERS "/%s/grub.cfg", entry->d_name);
		if (r == 0)
			r = follow_stub(path, from, to);
		if (r < 0)
			return r;
		n += r;
	}
	return n;
}

static int why(char **ret_why, const char *text)
{
	int r = text_copy(text, ret_why);

	return r < 0 ? r : GRUB_E_FAILED;
}

/* Return: 0, GRUB_E_FAILED with the reason, GRUB_E_NO_TOOL or -errno. */
static int choose(const char *disk, const struct grub_place *from, const struct grub_place *to,
		  struct way *ret, char **ret_why)
{
	struct way way = { .install = find_install(),
			   .target = find_target(),
			   .is_efi = is_there(FIRMWARE) };
	bool is_trusted = has_signed(way.target), needs_trust = is_secure();
	int r = follow_stubs(from, NULL);

	/* cut off, they may have followed already */
	if (r == 0 && to)
		r = follow_stubs(to, NULL);
	if (r == -ENOTDIR)
		return why(ret_why,
			   "a grub.cfg below " ESP_FOLDERS " looks for its menu elsewhere");
	if (r < 0)
		return r;
	way.has_bios = way.install && is_there(MODULES "i386-pc");
	/* one that is signed reads its place from there: it need not be written anew */
	way.is_by_stubs = r > 0 && (is_trusted || needs_trust || !way.install || !way.target);
	if (!is_there(ESP_FOLDERS))
		way.target = NULL;
	*ret = way;
	if (!way.is_efi) {
		if (way.has_bios)
			return 0;
		if (is_in_boot_sector(disk))
			return why(ret_why, "there is no grub-install or no " MODULES "i386-pc");
		return way.install ? why(ret_why, "there is no " MODULES "i386-pc")
				   : GRUB_E_NO_TOOL;
	}
	if (!is_there(ESP_FOLDERS))
		return why(ret_why, "there is no " ESP_FOLDERS);
	if (way.is_by_stubs)
		return 0;
	if (!way.install || !way.target)
		return why(ret_why, "there is no grub-install or no " MODULES "*-efi");
	return needs_trust && !is_trusted
		       ? why(ret_why, "Secure Boot is on, and there is no signed GRUB to install")
		       : 0;
}

/**
 * grub_can_follow() - would grub_install() have what it needs?
 * @from:    where the menu is now
 * @ret_why: with GRUB_E_FAILED the reason; owned by the caller
 *
 * Return: 0, GRUB_E_FAILED, GRUB_E_NO_TOOL or -errno.
 */
int grub_can_follow(const char *disk, const struct grub_place *from, char **ret_why)
{
	struct way way;

	*ret_why = NULL;
	return choose(disk, from, NULL, &way, ret_why);
}

static int follow_efi(const struct way *way, const struct grub_place *from,
		      const struct grub_place *to, char **ret_detail)
{
	int r = way->is_by_stubs ? 0 : install_efi(way, ret_detail);

	if (r != 0)
		return r;
	r = follow_stubs(from, to);
	/* what grub-install has appended, too */
	return r < 0 ? r : bootfs_settle(ESP_FOLDERS);
}

/**
 * grub_install() - GRUB finds the menu on what is mounted at /boot now
 * @disk:       the whole disk that the machine boots from
 * @ret_detail: with GRUB_E_FAILED what grub-install said last; owned by the caller
 *
 * For the firmware that this boot came by it must succeed; for the other kind, which some images
 * are prepared for too, it is tried. Durable with its return.
 *
 * Return: 0, GRUB_E_FAILED, GRUB_E_NO_TOOL or -errno.
 */
int grub_install(const char *disk, const struct grub_place *from, const struct grub_place *to,
		 char **ret_detail)
{
	_cleanup_(freep) char *ignored = NULL;
	struct way way;
	int r;

	*ret_detail = NULL;
	r = choose(disk, from, to, &way, ret_detail);
	if (r != 0)
		return r;
	if (!way.is_efi) {
		r = install_bios(&way, disk, ret_detail);
		if (r == 0 && (way.target || way.is_by_stubs) &&
		    follow_efi(&way, from, to, &ignored) != 0)
			log_debug("GRUB for EFI did not follow: %s", ignored ? ignored : "");
		return r;
	}
	r = follow_efi(&way, from, to, ret_detail);
	if (r == 0 && way.has_bios && install_bios(&way, disk, &ignored) != 0)
		log_debug("GRUB for BIOS did not follow: %s", ignored ? ignored : "");
	return r;
}
