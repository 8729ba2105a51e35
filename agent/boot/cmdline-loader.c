/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Changing what the boot loader says; see boot/cmdline.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/process.h"
#include "boot/bootfs.h"
#include "boot/cmdline.h"
#include "boot/grubenv.h"
#include "boot/loader.h"

#define DROP_IN        "/etc/default/grub.d/90-vmcrypt.cfg"
#define DEFAULTS       "/etc/default/grub"
#define KERNEL_CMDLINE "/etc/kernel/cmdline"
#define KERNELOPTS     "kernelopts"

#define MAKE_TIMEOUT_S   600
#define DETAIL_MAX_BYTES 2048

/* What grub-mkconfig sources after a person's own settings. Ubuntu's cloud images boot without an
 * initramfs first when GRUB_FORCE_PARTUUID is set; without one nothing unlocks the root. */
#define GRUB_LINES                                                                                 \
	"# vmcrypt: the root by its filesystem's UUID, which stays when the volume is encrypted\n" \
	"GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX root=UUID=%s\"\n"                                \
	"GRUB_FORCE_PARTUUID="

/* Menus and who makes them: Debian's names, RHEL's names. The tool of the first row that is there.
 */
static const struct {
	const char *menu, *tool;
} grubs[] = {
	{ "/boot/grub/grub.cfg", "/usr/sbin/grub-mkconfig" },
	{ "/boot/grub2/grub.cfg", "/usr/sbin/grub2-mkconfig" },
};

/* the loader of this system, as far as we change it */
struct system {
	const char *root; /* prefix */
	char *menu;       /* path of grub.cfg, or NULL */
	char *tool;       /* path of grub-mkconfig, or NULL */
	char *menu_text;
	bool is_by_entries; /* the menu is made of loader/entries, or there is no menu but entries
			     */
	struct loader_entries entries;
};

static void system_clear(struct system *system)
{
	free(system->menu);
	free(system->tool);
	free(system->menu_text);
	loader_entries_clear(&system->entries);
}

static bool is_file(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

/* Return: 0, CMDLINE_E_NO_LOADER or -errno. */
static int find_system(const char *root, struct system *ret)
{
	_cleanup_(system_clear) struct system system = { .root = root };
	int r = loader_entries_read(root, &system.entries);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(grubs) && !system.menu; i++) {
		_cleanup_(freep) char *menu = NULL, *tool = NULL;

		if (text_format(&menu, "%s%s", root, grubs[i].menu) < 0 ||
		    text_format(&tool, "%s%s", root, grubs[i].tool) < 0)
			return -ENOMEM;
		if (!is_file(menu))
			continue;
		r = file_read(menu, LOADER_FILE_MAX_BYTES, &system.menu_text, NULL);
		system.menu = steal(menu);
		system.tool = is_file(tool) ? steal(tool) : NULL;
	}
	if (r < 0)
		return r;
	if (!system.menu && system.entries.n == 0)
		return CMDLINE_E_NO_LOADER;
	system.is_by_entries =
		system.entries.n > 0 && (!system.menu || loader_menu_has_entries(system.menu_text));
	*ret = system;
	system = (struct system){ 0 };
	return 0;
}

/* Return: 0, CMDLINE_E_OTHER_ROOT or -ENOMEM. */
static int check_arguments(const char *arguments, size_t size, const char *uuid, const char *where,
			   size_t line, char **ret_detail)
{
	_cleanup_(freep) char *root = NULL;
	int r = cmdline_root_of(arguments, size, &root);

	if (r < 0)
		return r;
	if (cmdline_is_by_uuid(root, uuid))
		return 0;
	r = line == 0 ? text_format(ret_detail, "%s says root=%s", where, root ? root : "")
		      : text_format(ret_detail, "%s, line %zu says root=%s", where, line,
				    root ? root : "");
	return r < 0 ? r : CMDLINE_E_OTHER_ROOT;
}

static int starts_no_kernel(const char *where, char **ret_detail)
{
	int r = text_format(ret_detail, "%s starts no kernel", where);

	return r < 0 ? r : CMDLINE_E_OTHER_ROOT;
}

static int check_menu(const char *text, const char *uuid, const char *where, char **ret_detail)
{
	struct loader_menu menu = { .at = text };
	struct loader_line line;
	bool is_any = false;
	int r;

	while (loader_menu_next(&menu, &line)) {
		is_any = true;
		r = check_arguments(line.arguments, line.size, uuid, where, line.number,
				    ret_detail);
		if (r != 0)
			return r;
	}
	return is_any ? 0 : starts_no_kernel(where, ret_detail);
}

static int check_entries(const struct loader_entries *entries, const char *uuid, char **ret_detail)
{
	bool is_any = false;
	int r;

	for (size_t i = 0; i < entries->n; i++) {
		const struct loader_entry *entry = &entries->entries[i];
		const char *options = entry->options ? entry->options : "";

		if (!entry->is_kernel)
			continue;
		is_any = true;
		r = check_arguments(options, strlen(options), uuid, entry->path, 0, ret_detail);
		if (r != 0)
			return r;
	}
	return is_any ? 0 : starts_no_kernel(entries->entries[0].path, ret_detail);
}

/**
 * cmdline_check_root() - do all boot entries name the root by its filesystem's UUID?
 * @ret_detail: with CMDLINE_E_OTHER_ROOT the first that does not, and what it says; owned by the
 *              caller
 *
 * Return: 0, CMDLINE_E_NO_LOADER, CMDLINE_E_OTHER_ROOT, -EINVAL or -errno.
 */
int cmdline_check_root(const char *root, const char *uuid, char **ret_detail)
{
	_cleanup_(system_clear) struct system system = { 0 };
	int r;

	if (!cmdline_is_uuid(uuid))
		return -EINVAL;
	r = find_system(root, &system);
	if (r != 0)
		return r;
	if (system.is_by_entries)
		return check_entries(&system.entries, uuid, ret_detail);
	return check_menu(system.menu_text, uuid, system.menu, ret_detail);
}

/* Write the menu aside, look into it, then give it the name: the tool itself writes into the file
 * in place, and half a menu starts nothing. @uuid NULL: whatever it says is right. */
static int make_menu(const struct system *system, const char *uuid, char **ret_detail)
{
	_cleanup_(freep) char *new = NULL, *output = NULL, *text = NULL;
	struct stat old;
	int r, status;

	if (text_format(&new, "%s.vmcrypt-new", system->menu) < 0)
		return -ENOMEM;
	(void)unlink(new);
	r = process_run((const char *const[]){ system->tool, "-o", new, NULL }, MAKE_TIMEOUT_S,
			&status, &output);
	if (r == 0 && status != 0) {
		size_t size = strlen(output);

		r = text_copy(size > DETAIL_MAX_BYTES ? output + size - DETAIL_MAX_BYTES : output,
			      ret_detail);
		if (r == 0)
			r = CMDLINE_E_FAILED;
	}
	if (r == 0)
		r = file_read(new, LOADER_FILE_MAX_BYTES, &text, NULL);
	if (r == 0 && uuid)
		r = check_menu(text, uuid, system->menu, ret_detail);
	if (r == 0 && (stat(system->menu, &old) < 0 || chmod(new, old.st_mode & 07777) < 0))
		r = -errno;
	if (r == 0)
		r = file_sync_path(new);
	if (r == 0 && rename(new, system->menu) < 0)
		r = -errno;
	if (r != 0) {
		(void)unlink(new);
		return r;
	}
	r = file_sync_parent(system->menu);
	return r < 0 ? r : bootfs_settle(system->menu);
}

/* Change a file by one of the pure halves; absent: nothing. */
static int change_file(const char *path, const char *key, const char *uuid,
		       int (*change)(const char *, const char *, const char *, char **))
{
	_cleanup_(freep) char *text = NULL, *changed = NULL;
	int r = file_read(path, LOADER_FILE_MAX_BYTES, &text, NULL);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = change(text, key, uuid, &changed);
	/* no arguments, or no root among them: not what tells the root, and the check will say so
	 */
	if (r == CMDLINE_E_OTHER_ROOT)
		return 0;
	if (r < 0 || strcmp(text, changed) == 0)
		return r;
	return file_write_atomic(path, changed, strlen(changed), 0644);
}

static int change_entries(const struct system *system, const char *uuid,
			  int (*change)(const char *, const char *, const char *, char **))
{
	_cleanup_(freep) char *path = NULL;
	int r = text_format(&path, "%s%s", system->root, KERNEL_CMDLINE);

	if (r == 0)
		r = change_file(path, NULL, uuid, change);
	for (size_t i = 0; r == 0 && i < system->entries.n; i++)
		r = change_file(system->entries.entries[i].path, "options", uuid, change);
	if (r == 0 && system->entries.n > 0)
		r = bootfs_settle(system->entries.entries[0].path);
	return r;
}

/* RHEL 8: what the entries of later kernels have for arguments, all of them. */
static int change_kernelopts(const struct system *system, const char *uuid,
			     int (*change)(const char *, const char *, const char *, char **),
			     char **ret_detail)
{
	_cleanup_(freep) char *value = NULL, *changed = NULL;
	int r = grubenv_read(system->root, KERNELOPTS, &value);

	if (r < 0 || !value)
		return r;
	r = change(value, NULL, uuid, &changed);
	if (r == CMDLINE_E_OTHER_ROOT)
		return 0; /* no root among them */
	if (r < 0 || strcmp(value, changed) == 0)
		return r;
	r = grubenv_write(system->root, KERNELOPTS, changed, ret_detail);
	return r == GRUBENV_E_FAILED ? CMDLINE_E_FAILED : r;
}

/* Debian's defaults have a folder of drop-ins; elsewhere the lines go to the end of the one file.
 */
static int find_defaults(const char *root, char **ret_drop_in, char **ret_defaults)
{
	_cleanup_(freep) char *update = NULL;

	if (text_format(&update, "%s/usr/sbin/update-grub", root) < 0)
		return -ENOMEM;
	return is_file(update) ? text_format(ret_drop_in, "%s%s", root, DROP_IN)
			       : text_format(ret_defaults, "%s%s", root, DEFAULTS);
}

static int add_lines(const char *path, const char *lines)
{
	_cleanup_(freep) char *text = NULL, *changed = NULL;
	size_t size;
	int r = file_read(path, LOADER_FILE_MAX_BYTES, &text, &size);

	if (r == -ENOENT)
		return 0; /* no GRUB that is made from it */
	if (r < 0 || strstr(text, lines))
		return r;
	/* a text without a last newline stays one, so that it comes back byte for byte */
	if (size == 0 || text[size - 1] == '\n')
		r = text_format(&changed, "%s%s\n", text, lines);
	else
		r = text_format(&changed, "%s\n%s", text, lines);
	return r < 0 ? r : file_write_atomic(path, changed, strlen(changed), 0644);
}

static int remove_lines(const char *path, const char *lines)
{
	_cleanup_(freep) char *text = NULL, *changed = NULL;
	const char *start, *end;
	int r = file_read(path, LOADER_FILE_MAX_BYTES, &text, NULL);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	start = strstr(text, lines);
	if (!start)
		return 0;
	end = start + strlen(lines);
	if (*end == '\n')
		end++;
	else if (start > text)
		start--;
	r = text_format(&changed, "%.*s%s", (int)(start - text), text, end);
	return r < 0 ? r : file_write_atomic(path, changed, strlen(changed), 0644);
}

static int write_defaults(const char *root, const char *uuid)
{
	_cleanup_(freep) char *drop_in = NULL, *defaults = NULL, *lines = NULL, *content = NULL;
	int r = find_defaults(root, &drop_in, &defaults);

	if (r == 0)
		r = text_format(&lines, GRUB_LINES, uuid);
	if (r < 0)
		return r;
	if (defaults)
		return add_lines(defaults, lines);
	r = text_format(&content, "%s\n", lines);
	if (r == 0) {
		char *slash = strrchr(drop_in, '/');

		*slash = '\0';
		r = directory_make(drop_in, 0755);
		*slash = '/';
	}
	return r < 0 ? r : file_write_atomic(drop_in, content, strlen(content), 0644);
}

static int remove_defaults(const char *root, const char *uuid)
{
	_cleanup_(freep) char *drop_in = NULL, *defaults = NULL, *lines = NULL;
	int r = find_defaults(root, &drop_in, &defaults);

	if (r == 0)
		r = text_format(&lines, GRUB_LINES, uuid);
	if (r < 0)
		return r;
	return defaults ? remove_lines(defaults, lines) : file_remove_durably(drop_in);
}

/**
 * cmdline_set_root() - make all boot entries, present and future, name the root by its filesystem's
 * UUID
 * @ret_detail: as cmdline_check_root(); with CMDLINE_E_FAILED what GRUB's tool said last
 *
 * Changes the entries that are there, and what new ones are made from (a drop-in for
 * /etc/default/grub, /etc/kernel/cmdline, GRUB's variable kernelopts); afterwards all entries are
 * read again. Each file is replaced whole. Again and again makes no difference, so that it can be
 * called after a new kernel too, whose entry was made from /proc/cmdline.
 *
 * Return: 0, CMDLINE_E_NO_LOADER, CMDLINE_E_OTHER_ROOT, CMDLINE_E_FAILED, -EINVAL or -errno. On any
 * but 0 what could be changed stays so, since an encrypted root is found by nothing else; it is
 * cmdline_reset_root() that takes it back.
 */
int cmdline_set_root(const char *root, const char *uuid, char **ret_detail)
{
	_cleanup_(system_clear) struct system system = { 0 };
	int r;

	*ret_detail = NULL;
	if (!cmdline_is_uuid(uuid))
		return -EINVAL;
	r = find_system(root, &system);
	if (r != 0)
		return r;
	if (system.menu)
		r = write_defaults(root, uuid);
	if (r == 0)
		r = change_entries(&system, uuid, cmdline_add_root);
	if (r == 0 && system.is_by_entries)
		r = change_kernelopts(&system, uuid, cmdline_add_root, ret_detail);
	if (r == 0 && system.tool && !system.is_by_entries)
		r = make_menu(&system, uuid, ret_detail);
	return r == 0 ? cmdline_check_root(root, uuid, ret_detail) : r;
}

/**
 * cmdline_reset_root() - take back what cmdline_set_root() did
 * @uuid: the same as then
 *
 * Files that it edited are as they were, byte for byte, where nobody else has edited them since;
 * the menu is made anew.
 *
 * Return: 0, CMDLINE_E_NO_LOADER, CMDLINE_E_FAILED, -EINVAL or -errno.
 */
int cmdline_reset_root(const char *root, const char *uuid, char **ret_detail)
{
	_cleanup_(system_clear) struct system system = { 0 };
	int r;

	*ret_detail = NULL;
	if (!cmdline_is_uuid(uuid))
		return -EINVAL;
	r = find_system(root, &system);
	if (r != 0)
		return r;
	if (system.menu)
		r = remove_defaults(root, uuid);
	if (r == 0)
		r = change_entries(&system, uuid, cmdline_remove_root);
	if (r == 0 && system.is_by_entries)
		r = change_kernelopts(&system, uuid, cmdline_remove_root, ret_detail);
	if (r == 0 && system.tool && !system.is_by_entries)
		r = make_menu(&system, NULL, ret_detail);
	return r;
}

/* The menu is GRUB's own, and what makes it is there. */
static bool has_menu(const struct system *system)
{
	return system->menu && system->tool && !system->is_by_entries;
}

static int check_changeable(const struct loader_entry *entry, const char *uuid, char **ret_detail)
{
	_cleanup_(freep) char *changed = NULL;
	const char *options = entry->options ? entry->options : "";
	int r = cmdline_add_root(options, NULL, uuid, &changed);

	return r == CMDLINE_E_OTHER_ROOT
		       ? check_arguments(options, strlen(options), uuid, entry->path, 0, ret_detail)
		       : r;
}

/**
 * cmdline_can_set_root() - what of cmdline_set_root() can be told before anything is changed
 * @ret_detail: with CMDLINE_E_OTHER_ROOT the first entry that nothing changes, and what it says;
 *              owned by the caller
 *
 * What GRUB's tool makes of its settings is seen only when it runs.
 *
 * Return: 0 nothing speaks against it, CMDLINE_E_NO_LOADER, CMDLINE_E_OTHER_ROOT, -EINVAL or
 * -errno.
 */
int cmdline_can_set_root(const char *root, const char *uuid, char **ret_detail)
{
	_cleanup_(system_clear) struct system system = { 0 };
	bool is_any = false;
	int r;

	*ret_detail = NULL;
	if (!cmdline_is_uuid(uuid))
		return -EINVAL;
	r = find_system(root, &system);
	if (r != 0 || has_menu(&system))
		return r;
	if (!system.is_by_entries)
		return check_menu(system.menu_text, uuid, system.menu, ret_detail);
	for (size_t i = 0; r == 0 && i < system.entries.n; i++) {
		if (!system.entries.entries[i].is_kernel)
			continue;
		is_any = true;
		r = check_changeable(&system.entries.entries[i], uuid, ret_detail);
	}
	return r == 0 && !is_any ? starts_no_kernel(system.entries.entries[0].path, ret_detail) : r;
}

/**
 * cmdline_has_menu() - is the loader a GRUB whose whole menu can be made anew?
 *
 * Return: 1 yes, 0 no (loader entries, a menu that nothing makes), or -errno.
 */
int cmdline_has_menu(const char *root)
{
	_cleanup_(system_clear) struct system system = { 0 };
	int r = find_system(root, &system);

	return r < 0 ? r : r == 0 && has_menu(&system);
}

/**
 * cmdline_make_menu() - the menu anew, as when a kernel was installed
 * @ret_detail: with CMDLINE_E_FAILED what grub-mkconfig said last; owned by the caller
 *
 * Return: 0, CMDLINE_E_NO_LOADER, CMDLINE_E_FAILED or -errno.
 */
int cmdline_make_menu(const char *root, char **ret_detail)
{
	_cleanup_(system_clear) struct system system = { 0 };
	int r;

	*ret_detail = NULL;
	r = find_system(root, &system);
	if (r != 0)
		return r;
	return has_menu(&system) ? make_menu(&system, NULL, ret_detail) : CMDLINE_E_NO_LOADER;
}
