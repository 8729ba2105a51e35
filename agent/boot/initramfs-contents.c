/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an image must hold to unlock the root; see boot/initramfs.h. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "boot/archive.h"
#include "boot/initramfs.h"
#include "boot/split-conf.h"
#include "boot/table.h"

#define MODULES_FILE_MAX_BYTES (16 * 1024 * 1024) /* modules.dep of a distribution: 1 MiB */
#define MODULE_NAME_MAX_BYTES  64                 /* MODULE_NAME_LEN of the kernel: 56 */
#define MODULES_MAX            512                /* wanted ones, dependencies and all */

/* what the root is; ext2, ext3 and ext4 are one. NEVER: not to unlock */
enum when { ALWAYS, IF_EXT, IF_XFS, IF_BTRFS, NEVER };

/* Files; any of the paths will do. Without usr/, which may be a link or not. */
/* clang-format off */
static const struct {
	const char *name;
	enum when when;
	bool is_for_split; /* wanted where SPLIT_CONF is */
	const char *paths[4];
} files[] = {
	{ "vmcrypt-keyfetch", ALWAYS, false, { "lib/vmcrypt/vmcrypt-keyfetch" } },
	{ "vmcrypt-unlock",   ALWAYS, false, { "lib/vmcrypt/vmcrypt-unlock" } },
	{ "vmcrypt-worker",   ALWAYS, true, { "lib/vmcrypt/vmcrypt-worker" } },
	{ "initramfs-storage", ALWAYS, false, { "lib/vmcrypt/initramfs-storage" } },
	{ "what starts them at boot", ALWAYS, false, { "scripts/local-top/vmcrypt", "lib/systemd/system/vmcrypt-initrd.service" } },
	{ "what starts vmcrypt-worker at boot", NEVER, true, { "scripts/local-top/vmcrypt", "lib/systemd/system/vmcrypt-split.service", "lib/systemd/system/vmcrypt-initrd.service" } },
	{ "61-vmcrypt.rules of udev",    ALWAYS, true, { "lib/udev/rules.d/61-vmcrypt.rules" } },
	{ "certificates of authorities", ALWAYS, false, { "etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt", "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "etc/ssl/ca-bundle.pem" } },
	{ "e2fsck",           IF_EXT, true, { "sbin/e2fsck", "bin/e2fsck" } },
	{ "resize2fs",        IF_EXT, true, { "sbin/resize2fs", "bin/resize2fs" } },
	{ "xfs_growfs",       IF_XFS, false, { "sbin/xfs_growfs", "bin/xfs_growfs" } },
	{ "btrfs",            IF_BTRFS, false, { "bin/btrfs", "sbin/btrfs" } },
};

/* Kernel modules. One that this kernel does not have as a file is built in, or it has none. */
static const struct {
	const char *name;
	enum when when;
	bool is_vital; /* a kernel without it, in whatever form, cannot unlock */
	bool is_for_split;
} modules[] = {
	{ "dm_mod",      ALWAYS, true,  true },
	{ "dm_crypt",    ALWAYS, true,  false },
	{ "xts",         ALWAYS, false, false },
	{ "aes_generic", ALWAYS, false, false },
	{ "dm_snapshot", IF_EXT, false, true },
	{ "loop",        IF_EXT, false, false },
};
/* clang-format on */

static enum when root_kind(const char *filesystem)
{
	if (!filesystem)
		return ALWAYS;
	if (strncmp(filesystem, "ext", 3) == 0)
		return IF_EXT;
	if (strcmp(filesystem, "xfs") == 0)
		return IF_XFS;
	return strcmp(filesystem, "btrfs") == 0 ? IF_BTRFS : ALWAYS;
}

struct module {
	char name[MODULE_NAME_MAX_BYTES];
	bool is_found;
};

struct search {
	const char *version;
	const char *conf;  /* content that it must have; NULL = it need not unlock */
	const char *split; /* the same for SPLIT_CONF; NULL = it need not split */
	bool unlocks, splits;
	enum when root;

	struct module modules[MODULES_MAX];
	size_t n_modules;
	/* drivers of network devices: one that works will do */
	struct module drivers[MODULES_MAX];
	size_t n_drivers;

	bool has_file[ARRAY_SIZE(files)];
	bool has_conf, has_current_conf, has_current_split, has_user;
};

/* Is it for what this image is for? */
static bool is_wanted(const struct search *search, enum when when, bool is_for_split)
{
	return (search->unlocks && (when == ALWAYS || when == search->root)) ||
	       (search->splits && is_for_split);
}

/* "kernel/drivers/md/dm-crypt.ko.xz" → "dm_crypt" */
static bool name_module(const char *path, size_t size, char *ret)
{
	const char *end = path + size, *start = end, *dot;
	size_t n = 0;

	while (start > path && start[-1] != '/')
		start--;
	dot = memmem(start, (size_t)(end - start), ".ko", 3);
	if (!dot || (dot + 3 < end && dot[3] != '.' && dot[3] != ':') ||
	    (size_t)(dot - start) >= MODULE_NAME_MAX_BYTES)
		return false;
	for (; start < dot; start++)
		ret[n++] = *start == '-' ? '_' : *start;
	ret[n] = '\0';
	return n > 0;
}

static bool has(const struct module *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i].name, name) == 0)
			return true;
	return false;
}

static int want(struct module *list, size_t *n, const char *name)
{
	if (has(list, *n, name))
		return 0;
	if (*n == MODULES_MAX)
		return -E2BIG;
	list[*n] = (struct module){ 0 };
	/* both are bounded by the same size */
	(void)stpcpy(list[*n].name, name);
	(*n)++;
	return 0;
}

/* Is there a line for the module in modules.dep, or in modules.builtin, which has the same form?
 * With
 * @search, what it depends on is wanted too. Return: 1, 0, or -errno. */
static int look_up(const char *text, const char *name, struct search *search)
{
	struct table_line line = { 0 };
	char other[MODULE_NAME_MAX_BYTES];

	for (const char *at = text; text && table_next(&at, &line);) {
		const char *end = line.at + line.size;

		if (line.n == 0 || !name_module(line.fields[0].at, line.fields[0].size, other) ||
		    strcmp(other, name) != 0)
			continue;
		for (const char *word = line.fields[0].at + line.fields[0].size;
		     search && word < end;) {
			size_t size;

			while (word < end && *word == ' ')
				word++;
			size = 0;
			while (word + size < end && word[size] != ' ')
				size++;
			if (name_module(word, size, other)) {
				int r = want(search->modules, &search->n_modules, other);

				if (r < 0)
					return r;
			}
			word += size;
		}
		return 1;
	}
	return 0;
}

/* what the kernel's own list says; @ret stays NULL when there is none */
static int read_list(const char *root, const char *version, const char *name, char **ret)
{
	_cleanup_(freep) char *path = NULL;
	int r = text_format(&path, "%s/lib/modules/%s/%s", root, version, name);

	if (r == 0)
		r = file_read(path, MODULES_FILE_MAX_BYTES, ret, NULL);
	return r == -ENOENT || r == -ENOTDIR ? 0 : r;
}

/* drivers of the network devices that this machine has now */
static int find_drivers(const char *root, const char *loadable, struct search *search)
{
	_cleanup_(closedirp) DIR *folder = NULL;
	_cleanup_(freep) char *path = NULL;
	const struct dirent *entry;
	bool is_any_built_in = false;
	int r = text_format(&path, "%s/sys/class/net", root);

	if (r < 0)
		return r;
	folder = opendir(path);
	while (folder && (entry = readdir(folder))) {
		_cleanup_(freep) char *link = NULL, *target = NULL;
		char name[MODULE_NAME_MAX_BYTES];
		const char *base;
		size_t n = 0;

		if (entry->d_name[0] == '.')
			continue;
		r = text_format(&link, "%s/%s/device/driver/module", path, entry->d_name);
		if (r < 0)
			return r;
		target = realpath(link, NULL);
		if (!target)
			continue; /* a virtual device, or a driver that is no module */
		base = strrchr(target, '/') + 1;
		if (strlen(base) >= sizeof(name))
			continue;
		for (; *base; base++)
			name[n++] = *base == '-' ? '_' : *base;
		name[n] = '\0';
		r = look_up(loadable, name, NULL);
		if (r == 0)
			is_any_built_in = true;
		else if (r > 0)
			r = want(search->drivers, &search->n_drivers, name);
		if (r < 0)
			return r;
	}
	if (is_any_built_in)
		search->n_drivers = 0;
	return 0;
}

/* Return: 0, INITRAMFS_E_INCOMPLETE (the kernel itself lacks @ret_lacking) or -errno. */
static int want_modules(const char *root, const struct initramfs_conf *conf, struct search *search,
			const char **ret_lacking)
{
	_cleanup_(freep) char *loadable = NULL, *built_in = NULL;
	const char *const others[] = { conf ? conf->filesystem : NULL,
				       conf ? conf->boot_type : NULL };
	int r;

	r = read_list(root, search->version, "modules.dep", &loadable);
	if (r == 0)
		r = read_list(root, search->version, "modules.builtin", &built_in);
	/* no lists at all: a kernel without modules, and it has what it has */
	if (r < 0 || (!loadable && !built_in))
		return r;
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(modules); i++) {
		if (!is_wanted(search, modules[i].when, modules[i].is_for_split))
			continue;
		r = look_up(loadable, modules[i].name, search);
		if (r > 0) {
			r = want(search->modules, &search->n_modules, modules[i].name);
		} else if (r == 0 && modules[i].is_vital) {
			r = look_up(built_in, modules[i].name, NULL);
			if (r == 0) {
				*ret_lacking = modules[i].name;
				return INITRAMFS_E_INCOMPLETE;
			}
		}
	}
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(others); i++) {
		if (!others[i] || strlen(others[i]) >= MODULE_NAME_MAX_BYTES)
			continue;
		r = look_up(loadable, others[i], search);
		if (r > 0)
			r = want(search->modules, &search->n_modules, others[i]);
	}
	return r < 0 || !search->unlocks ? (r < 0 ? r : 0) : find_drivers(root, loadable, search);
}

/* "./usr/lib/x", "/lib/x" and "lib/x" are one */
static const char *plain_name(const char *name)
{
	if (strncmp(name, "./", 2) == 0)
		name += 2;
	while (*name == '/')
		name++;
	return strncmp(name, "usr/", 4) == 0 ? name + 4 : name;
}

static void find_module(struct search *search, const char *name)
{
	static const char folder[] = "lib/modules/";
	size_t size = strlen(search->version);
	char module[MODULE_NAME_MAX_BYTES];

	if (strncmp(name, folder, strlen(folder)) != 0)
		return;
	name += strlen(folder);
	if (strncmp(name, search->version, size) != 0 || name[size] != '/' ||
	    !name_module(name, strlen(name), module))
		return;
	for (size_t i = 0; i < search->n_modules; i++)
		if (strcmp(search->modules[i].name, module) == 0)
			search->modules[i].is_found = true;
	for (size_t i = 0; i < search->n_drivers; i++)
		if (strcmp(search->drivers[i].name, module) == 0)
			search->drivers[i].is_found = true;
}

static bool has_line(const char *text, const char *beginning)
{
	struct table_line line = { 0 };

	while (table_next(&text, &line))
		if (strncmp(line.at, beginning, strlen(beginning)) == 0)
			return true;
	return false;
}

static int visit(void *context, const struct archive_entry *entry)
{
	struct search *search = context;
	const char *name = plain_name(entry->name);

	if (!S_ISREG(entry->mode))
		return 0;
	if (strcmp(name, INITRAMFS_CONF + 1) == 0) {
		search->has_conf = true;
		/* a later file of that name takes the place of this one */
		search->has_current_conf = entry->data && search->conf &&
					   entry->size_bytes == strlen(search->conf) &&
					   strcmp(entry->data, search->conf) == 0;
	}
	if (strcmp(name, SPLIT_CONF + 1) == 0)
		search->has_current_split = entry->data && search->split &&
					    entry->size_bytes == strlen(search->split) &&
					    strcmp(entry->data, search->split) == 0;
	/* whom the key service runs as */
	if (strcmp(name, "etc/passwd") == 0)
		search->has_user = entry->data && has_line(entry->data, "vmcrypt-keyfetch:");
	/* of files with several names only the last has the content */
	if (entry->size_bytes == 0 && entry->links < 2)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		for (size_t j = 0; j < ARRAY_SIZE(files[i].paths) && files[i].paths[j]; j++)
			if (strcmp(name, files[i].paths[j]) == 0)
				search->has_file[i] = true;
	find_module(search, name);
	return 0;
}

static void say(FILE *out, bool *is_first, const char *what, const char *name)
{
	(void)fprintf(out, "%s%s%s", *is_first ? "" : ", ", what, name);
	*is_first = false;
}

/* 1 when something is missing */
static int list_missing(const struct search *search, char **ret)
{
	_cleanup_(freep) char *text = NULL;
	size_t size, n_found = 0;
	bool is_whole = true;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (!search->has_file[i] && is_wanted(search, files[i].when, files[i].is_for_split))
			say(out, &is_whole, files[i].name, "");
	if (search->unlocks && !search->has_user)
		say(out, &is_whole, "user vmcrypt-keyfetch", "");
	if (search->splits && !search->has_current_split)
		say(out, &is_whole, "the present content of ", SPLIT_CONF);
	if (search->unlocks && !search->has_conf)
		say(out, &is_whole, INITRAMFS_CONF, "");
	else if (search->unlocks && !search->has_current_conf)
		say(out, &is_whole, "the present content of ", INITRAMFS_CONF);
	for (size_t i = 0; i < search->n_modules; i++)
		if (!search->modules[i].is_found)
			say(out, &is_whole, "kernel module ", search->modules[i].name);
	for (size_t i = 0; i < search->n_drivers; i++)
		n_found += search->drivers[i].is_found;
	if (search->n_drivers > 0 && n_found == 0)
		say(out, &is_whole, "network driver ", search->drivers[0].name);
	if (fclose(out) != 0)
		return -ENOMEM;
	if (is_whole)
		return 0;
	*ret = steal(text);
	return INITRAMFS_E_INCOMPLETE;
}

static int answer(int condition, const char *text, char **ret)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	*ret = copy;
	return condition;
}

static int explain(int r, const char *image, char **ret_missing)
{
	if (r == ARCHIVE_E_DAMAGED)
		return answer(INITRAMFS_E_DAMAGED, "everything: it is not a whole image",
			      ret_missing);
	if (r == ARCHIVE_E_NO_TOOL)
		return answer(INITRAMFS_E_UNREADABLE,
			      "perhaps: the program that decompresses it is not installed",
			      ret_missing);
	if (r == -ENOENT)
		return answer(INITRAMFS_E_ABSENT, "everything: there is no image", ret_missing);
	return r;
}

static int look(const char *root, const char *image, const struct initramfs_conf *conf,
		struct search *search, char **ret_missing)
{
	_cleanup_(freep) char *path = NULL, *text = NULL;
	const char *lacking = "";
	int r = 0;

	search->unlocks = conf != NULL;
	if (conf) {
		search->root = root_kind(conf->filesystem);
		r = text_format(&path, "%s%s", root, INITRAMFS_CONF);
		if (r == 0)
			r = file_read(path, INITRAMFS_CONF_MAX_BYTES, &text, NULL);
	}
	if (r < 0)
		return r;
	search->conf = text;
	r = want_modules(root, conf, search, &lacking);
	if (r > 0) {
		r = text_format(ret_missing, "%s, which this kernel does not have at all", lacking);
		return r < 0 ? r : INITRAMFS_E_INCOMPLETE;
	}
	if (r == 0)
		r = archive_walk(image, visit, search);
	search->conf = search->split = NULL;
	return r != 0 ? explain(r, image, ret_missing) : list_missing(search, ret_missing);
}

static int visit_nothing(void *context, const struct archive_entry *entry)
{
	return 0;
}

/* What every image is to do first, while it is wanted; @ret stays NULL when it is not. */
static int read_split(const char *root, char **ret)
{
	_cleanup_(freep) char *path = NULL;
	int r = text_format(&path, "%s%s", root, SPLIT_CONF);

	if (r == 0)
		r = file_read(path, SPLIT_CONF_MAX_BYTES, ret, NULL);
	return r == -ENOENT || r == -ENOTDIR ? 0 : r;
}

/**
 * initramfs_verify() - can this kernel unlock the root with this image?
 * @version:     the kernel's
 * @image:       path, with the prefix; NULL = it has none
 * @conf:        what the image must be made for, with the content of the file of INITRAMFS_CONF;
 * NULL = only that it is whole, and can split where SPLIT_CONF is
 * @ret_missing: with a positive condition what it lacks, for a person; owned by the caller
 *
 * Reads the whole image, a second or so.
 *
 * Return: 0, INITRAMFS_E_INCOMPLETE, _DAMAGED, _ABSENT, _UNREADABLE, or -errno.
 */
int initramfs_verify(const char *root, const char *version, const char *image,
		     const struct initramfs_conf *conf, char **ret_missing)
{
	_cleanup_(freep) struct search *search = NULL;
	_cleanup_(freep) char *split = NULL;
	int r;

	if (!image)
		return explain(-ENOENT, image, ret_missing);
	r = read_split(root, &split);
	if (r < 0)
		return r;
	if (!conf && !split) {
		r = archive_walk(image, visit_nothing, NULL);

		return r == 0 ? 0 : explain(r, image, ret_missing);
	}
	search = calloc(1, sizeof(*search));
	if (!search)
		return -ENOMEM;
	search->version = version;
	search->split = split;
	search->splits = split != NULL;
	return look(root, image, conf, search, ret_missing);
}

void initramfs_faults_clear(struct initramfs_faults *faults)
{
	for (size_t i = 0; i < faults->n; i++) {
		free(faults->faults[i].version);
		free(faults->faults[i].missing);
	}
	free(faults->faults);
	*faults = (struct initramfs_faults){ 0 };
}

/**
 * initramfs_verify_all() - every kernel that could not unlock the root
 * @ret: empty when all can; free with initramfs_faults_clear()
 *
 * Rescue kernels are left out: they are made for any machine, and nobody boots them unattended.
 *
 * Return: 0 or -errno.
 */
int initramfs_verify_all(const char *root, const struct initramfs_images *images,
			 const struct initramfs_conf *conf, struct initramfs_faults *ret)
{
	_cleanup_(initramfs_faults_clear) struct initramfs_faults faults = { 0 };

	for (size_t i = 0; i < images->n; i++) {
		const struct initramfs_kernel *kernel = &images->kernels[i];
		_cleanup_(freep) char *missing = NULL, *version = NULL;
		struct initramfs_fault *larger;
		int r;

		if (kernel->is_rescue)
			continue;
		r = initramfs_verify(root, kernel->version, kernel->image, conf, &missing);
		if (r == 0)
			continue;
		if (r < 0)
			return r;
		version = strdup(kernel->version);
		larger = reallocarray(faults.faults, faults.n + 1, sizeof(*larger));
		if (larger)
			faults.faults = larger;
		if (!version || !larger)
			return -ENOMEM;
		larger[faults.n++] = (struct initramfs_fault){
			.version = steal(version),
			.condition = r,
			.missing = steal(missing),
		};
	}
	*ret = faults;
	faults = (struct initramfs_faults){ 0 };
	return 0;
}

/**
 * initramfs_verify_installed() - the same for the kernels that are there
 * @conf: NULL = as it stands in INITRAMFS_CONF
 *
 * Return: 0, INITRAMFS_CONF_E_MALFORMED, -ENOENT (no conf) or another -errno.
 */
int initramfs_verify_installed(const char *root, const struct initramfs_conf *conf,
			       struct initramfs_faults *ret)
{
	_cleanup_(initramfs_images_clear) struct initramfs_images images = { 0 };
	_cleanup_(initramfs_conf_clear) struct initramfs_conf own = { 0 };
	_cleanup_(freep) char *path = NULL;
	int r = 0;

	if (!conf) {
		r = text_format(&path, "%s" INITRAMFS_CONF, root);
		if (r == 0)
			r = initramfs_conf_read(path, &own);
	}
	if (r == 0)
		r = initramfs_find(root, &images);
	return r == 0 ? initramfs_verify_all(root, &images, conf ? conf : &own, ret) : r;
}
