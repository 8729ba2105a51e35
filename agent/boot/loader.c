/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Source: The Boot Loader Specification, "Type #1"; GRUB manual, "linux", "blscfg";
 * /etc/grub.d/10_linux and 30_os-prober of Debian 12 and of RHEL 9. */
#include "boot/loader.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "boot/table.h"

/* Where the partition of the entries is mounted; paths in entries are its own. */
static const char *const bases[] = { "/boot", "/boot/efi", "/efi" };

static const char *const kernel_names[] = { "vmlinuz", "vmlinux", "Image", "linux" };

static void entry_clear(struct loader_entry *entry)
{
	free(entry->path);
	free(entry->version);
	free(entry->initrd);
	free(entry->options);
	*entry = (struct loader_entry){ 0 };
}

void loader_entries_clear(struct loader_entries *entries)
{
	for (size_t i = 0; i < entries->n; i++)
		entry_clear(&entries->entries[i]);
	free(entries->entries);
	*entries = (struct loader_entries){ 0 };
}

/* *text = "*text more", or "more" when there was none */
static int append(char **text, const char *more, size_t size)
{
	_cleanup_(freep) char *old = *text;

	*text = NULL;
	return text_format(text, "%s%s%.*s", old ? old : "", old ? " " : "", (int)size, more);
}

/* the rest of a line behind its first field, without blanks around it */
static const char *rest_of(const struct table_line *line, size_t *ret_size)
{
	const char *end = line->at + line->size;

	if (line->n < 2)
		return NULL;
	while (end > line->fields[1].at && strchr(" \t\r", end[-1]))
		end--;
	*ret_size = (size_t)(end - line->fields[1].at);
	return line->fields[1].at;
}

/* the version in …/vmlinuz-VERSION or …/VERSION/linux; NULL when there is none in it */
static const char *version_in(const char *kernel, size_t *ret_size)
{
	const char *slash = strrchr(kernel, '/'), *name = slash ? slash + 1 : kernel;
	const char *dash = strchr(name, '-'), *folder;

	if (dash && dash[1] != '\0') {
		*ret_size = strlen(dash + 1);
		return dash + 1;
	}
	if (!slash)
		return NULL;
	for (folder = slash; folder > kernel && folder[-1] != '/'; folder--)
		;
	*ret_size = (size_t)(slash - folder);
	return *ret_size > 0 ? folder : NULL;
}

static bool is_kernel(const char *path, size_t size)
{
	const char *name = path, *end = path + size;

	for (const char *at = name; at < end; at++)
		if (*at == '/')
			name = at + 1;
	for (size_t i = 0; i < ARRAY_SIZE(kernel_names); i++) {
		size_t name_size = strlen(kernel_names[i]);

		if ((size_t)(end - name) >= name_size &&
		    memcmp(name, kernel_names[i], name_size) == 0)
			return true;
	}
	return false;
}

static bool names_root(const char *arguments, size_t size)
{
	return memmem(arguments, size, "root=", 5) != NULL;
}

/**
 * loader_entry_parse() - what an entry says
 * @text:        the file
 * @ret:         version and options; free its fields with loader_entries_clear() or one by one
 * @ret_kernel:  path as it stands there, or NULL; owned by the caller
 * @ret_initrds: paths as they stand there, joined by blanks; NULL when there is none; owned by the
 *               caller
 *
 * Return: 0 or -ENOMEM.
 */
int loader_entry_parse(const char *text, struct loader_entry *ret, char **ret_kernel,
		       char **ret_initrds)
{
	_cleanup_(freep) char *kernel = NULL, *version = NULL, *options = NULL, *initrds = NULL;
	struct table_line line = { 0 };
	const char *found;
	size_t size;
	int r = 0;

	for (const char *at = text; r == 0 && table_next(&at, &line);) {
		const char *rest = rest_of(&line, &size);

		if (!rest)
			continue;
		if (table_field_is(&line.fields[0], "options")) {
			r = append(&options, rest, size);
		} else if (table_field_is(&line.fields[0], "initrd")) {
			r = append(&initrds, line.fields[1].at, line.fields[1].size);
		} else if (table_field_is(&line.fields[0], "linux")) {
			free(steal(kernel));
			r = append(&kernel, line.fields[1].at, line.fields[1].size);
		} else if (table_field_is(&line.fields[0], "version")) {
			free(steal(version));
			r = append(&version, line.fields[1].at, line.fields[1].size);
		}
	}
	found = kernel ? version_in(kernel, &size) : NULL;
	if (r == 0 && found) {
		free(steal(version));
		r = append(&version, found, size);
	}
	if (r < 0)
		return r;
	*ret = (struct loader_entry){
		/* a program of the firmware's may be a kernel with its arguments in it, and what
		 * has an initramfs is one under whatever name */
		.is_kernel = !kernel || initrds || is_kernel(kernel, strlen(kernel)) ||
			     (options && names_root(options, strlen(options))),
		.version = steal(version),
		.options = steal(options),
	};
	*ret_kernel = steal(kernel);
	*ret_initrds = steal(initrds);
	return 0;
}

/* The last of some paths that is a file on the entries' own filesystem; where /boot is no mount of
 * its own, they begin with /boot. */
static int find_last(const char *root, const char *base, const char *paths, char **ret)
{
	for (const char *at = paths; at && *at;) {
		size_t size = strcspn(at, " ");

		for (int i = 0; i < 2; i++) {
			_cleanup_(freep) char *path = NULL;
			struct stat status;

			if (text_format(&path, "%s%s%s%.*s", root, i == 0 ? base : "",
					*at == '/' ? "" : "/", (int)size, at) < 0)
				return -ENOMEM;
			if (stat(path, &status) < 0 || !S_ISREG(status.st_mode))
				continue;
			free(*ret);
			*ret = steal(path);
			break;
		}
		at += size;
		at += strspn(at, " ");
	}
	return 0;
}

static int add(const char *root, const char *base, const char *folder, const char *name,
	       struct loader_entries *entries)
{
	_cleanup_(freep) char *path = NULL, *text = NULL, *kernel = NULL, *initrds = NULL,
			      *found = NULL;
	struct loader_entry *larger, *entry;
	int r;

	if (entries->n == LOADER_ENTRIES_MAX)
		return -E2BIG;
	r = text_format(&path, "%s/%s", folder, name);
	if (r == 0)
		r = file_read(path, LOADER_FILE_MAX_BYTES, &text, NULL);
	if (r < 0)
		return r;
	larger = reallocarray(entries->entries, entries->n + 1, sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	entries->entries = larger;
	entry = &larger[entries->n];
	r = loader_entry_parse(text, entry, &kernel, &initrds);
	if (r < 0)
		return r;
	entries->n++;
	entry->path = steal(path);
	r = find_last(root, base, initrds, &entry->initrd);
	/* GRUB's variables and devices are not for us to resolve */
	if (r < 0 || !kernel || strpbrk(kernel, "$("))
		return r;
	r = find_last(root, base, kernel, &found);
	entry->is_orphan = !found;
	return r;
}

static bool is_conf(const char *name)
{
	size_t size = strlen(name);

	return size > 5 && name[0] != '.' && strcmp(name + size - 5, ".conf") == 0;
}

/**
 * loader_entries_read() - all entries
 * @root: prefix of all paths, "" for this system
 * @ret:  free with loader_entries_clear()
 *
 * Return: 0 (also when there is none), -E2BIG, -EFBIG or -errno.
 */
int loader_entries_read(const char *root, struct loader_entries *ret)
{
	_cleanup_(loader_entries_clear) struct loader_entries entries = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		_cleanup_(closedirp) DIR *folder = NULL;
		_cleanup_(freep) char *path = NULL;
		const struct dirent *entry;
		int r = text_format(&path, "%s%s/loader/entries", root, bases[i]);

		if (r < 0)
			return r;
		folder = opendir(path);
		if (!folder && errno != ENOENT)
			return -errno;
		while (folder && (entry = readdir(folder))) {
			if (!is_conf(entry->d_name))
				continue;
			r = add(root, bases[i], path, entry->d_name, &entries);
			if (r < 0)
				return r;
		}
	}
	*ret = entries;
	entries = (struct loader_entries){ 0 };
	return 0;
}

static bool begins_with(const struct table_field *field, const char *text)
{
	return field->size >= strlen(text) && memcmp(field->at, text, strlen(text)) == 0;
}

/**
 * loader_menu_next() - the next line of a grub.cfg that starts a kernel of this system
 * @menu: .at is the text at first
 * @ret:  points into the text
 *
 * Leaves out what os-prober found (other systems), memory tests, and comments.
 *
 * Return: false at the end.
 */
bool loader_menu_next(struct loader_menu *menu, struct loader_line *ret)
{
	static const char begin[] = "### BEGIN /etc/grub.d/30_os-prober",
			  end[] = "### END /etc/grub.d/30_os-prober";
	struct table_line line = { .number = menu->number };

	while (table_next(&menu->at, &line)) {
		menu->number = line.number;
		if (strncmp(line.at, begin, strlen(begin)) == 0)
			menu->is_foreign = true;
		else if (strncmp(line.at, end, strlen(end)) == 0)
			menu->is_foreign = false;
		/* linux, linux16, linuxefi */
		if (menu->is_foreign || line.n < 2 || !begins_with(&line.fields[0], "linux") ||
		    (!is_kernel(line.fields[1].at, line.fields[1].size) &&
		     !names_root(line.at, line.size)))
			continue;
		ret->number = line.number;
		ret->arguments = line.fields[1].at + line.fields[1].size;
		ret->size = (size_t)(line.at + line.size - ret->arguments);
		return true;
	}
	return false;
}

/** loader_menu_has_entries() - does this grub.cfg offer loader/entries/ too? */
bool loader_menu_has_entries(const char *text)
{
	struct table_line line = { 0 };

	for (const char *at = text; table_next(&at, &line);)
		if (line.n > 0 && table_field_is(&line.fields[0], "blscfg"))
			return true;
	return false;
}
