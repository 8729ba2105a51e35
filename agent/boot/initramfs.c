/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/initramfs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "boot/loader.h"

#define VERSION_MAX_BYTES 128 /* uname() has 64 */
#define RESCUE            "0-rescue"

/* Where the image of a kernel lies, as each family names it: Debian, RHEL, SUSE. */
static const struct {
	const char *prefix, *suffix;
} image_names[] = {
	{ "/boot/initrd.img-", "" },
	{ "/boot/initramfs-", ".img" },
	{ "/boot/initrd-", "" },
};

static const char *const kernel_names[] = { "vmlinuz-", "vmlinux-", "Image-" };

/* Generators by what says that they are the system's own, best evidence first: a package that is
 * installed (dpkg keeps its scripts so long), then a program that can be run. */
/* clang-format off */
static const struct {
	const char *evidence, *program;
	enum initramfs_generator generator;
} generators[] = {
	{ "/var/lib/dpkg/info/initramfs-tools.postinst", "/usr/sbin/mkinitramfs", INITRAMFS_GENERATOR_TOOLS },
	{ "/var/lib/dpkg/info/dracut.postinst",          "/usr/bin/dracut",       INITRAMFS_GENERATOR_DRACUT },
	{ "/usr/sbin/update-initramfs",                  "/usr/sbin/mkinitramfs", INITRAMFS_GENERATOR_TOOLS },
	{ "/usr/bin/dracut",                             "/usr/bin/dracut",       INITRAMFS_GENERATOR_DRACUT },
};
/* clang-format on */

const char *initramfs_generator_name(enum initramfs_generator generator)
{
	switch (generator) {
	case INITRAMFS_GENERATOR_NONE:
		return "none";
	case INITRAMFS_GENERATOR_TOOLS:
		return "initramfs-tools";
	case INITRAMFS_GENERATOR_DRACUT:
		return "dracut";
	}
	return "none";
}

void initramfs_images_clear(struct initramfs_images *images)
{
	for (size_t i = 0; i < images->n; i++) {
		free(images->kernels[i].version);
		free(images->kernels[i].image);
	}
	free(images->kernels);
	*images = (struct initramfs_images){ 0 };
}

/** initramfs_of() - the kernel of a version, borrowed. Return: NULL when it is not installed. */
const struct initramfs_kernel *initramfs_of(const struct initramfs_images *images,
					    const char *version)
{
	for (size_t i = 0; i < images->n; i++)
		if (strcmp(images->kernels[i].version, version) == 0)
			return &images->kernels[i];
	return NULL;
}

/* what may stand in an argument and in a path */
static bool is_version(const char *version)
{
	size_t size = strlen(version);

	if (size == 0 || size > VERSION_MAX_BYTES || version[0] == '-' || version[0] == '.')
		return false;
	for (; *version; version++)
		if (!isalnum((unsigned char)*version) && !strchr("._+~:-", *version))
			return false;
	return true;
}

/* is there a file of this kind? @mode: S_IFREG … */
static bool is_there(const char *path, mode_t kind)
{
	struct stat status;

	return stat(path, &status) == 0 && (status.st_mode & S_IFMT) == kind;
}

/* the same, with a prefix: -ENOMEM or a truth */
static int is_below(const char *root, const char *path, mode_t kind)
{
	_cleanup_(freep) char *whole = NULL;
	int r = text_format(&whole, "%s%s", root, path);

	return r < 0 ? r : is_there(whole, kind);
}

static int find_generator(const char *root, enum initramfs_generator *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(generators); i++) {
		int has_evidence = is_below(root, generators[i].evidence, S_IFREG);
		int has_program = is_below(root, generators[i].program, S_IFREG);

		if (has_evidence < 0 || has_program < 0)
			return -ENOMEM;
		if (has_evidence && has_program) {
			*ret = generators[i].generator;
			return 0;
		}
	}
	*ret = INITRAMFS_GENERATOR_NONE;
	return 0;
}

/* @image is taken over, also on failure; a later one stands for an earlier one of that version */
static int add(struct initramfs_images *images, const char *version, char *image)
{
	_cleanup_(freep) char *own = image, *copy = NULL;
	struct initramfs_kernel *larger;

	for (size_t i = 0; i < images->n; i++) {
		if (strcmp(images->kernels[i].version, version) != 0)
			continue;
		if (own) {
			free(images->kernels[i].image);
			images->kernels[i].image = steal(own);
		}
		return 0;
	}
	if (images->n == INITRAMFS_KERNELS_MAX)
		return -E2BIG;
	copy = strdup(version);
	larger = reallocarray(images->kernels, images->n + 1, sizeof(*larger));
	if (larger)
		images->kernels = larger;
	if (!copy || !larger)
		return -ENOMEM;
	larger[images->n++] = (struct initramfs_kernel){
		.version = steal(copy),
		.image = steal(own),
		.is_rescue = strncmp(version, RESCUE, strlen(RESCUE)) == 0,
	};
	return 0;
}

static int find_image(const char *root, const char *version, char **ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(image_names); i++) {
		_cleanup_(freep) char *path = NULL;
		int r;

		r = text_format(&path, "%s%s%s%s", root, image_names[i].prefix, version,
				image_names[i].suffix);
		if (r < 0)
			return r;
		if (is_there(path, S_IFREG)) {
			*ret = steal(path);
			return 0;
		}
	}
	*ret = NULL;
	return 0;
}

/* A name that only looks like a kernel (vmlinuz-6.1.0.dpkg-new) has no modules and no image. */
static int add_by_name(const char *root, const char *version, struct initramfs_images *images)
{
	_cleanup_(freep) char *modules = NULL, *image = NULL;
	int r;

	if (!is_version(version))
		return 0;
	r = text_format(&modules, "%s/lib/modules/%s", root, version);
	if (r == 0)
		r = find_image(root, version, &image);
	if (r < 0 || (!image && !is_there(modules, S_IFDIR)))
		return r;
	return add(images, version, steal(image));
}

static int find_in_boot(const char *root, struct initramfs_images *images)
{
	_cleanup_(closedirp) DIR *folder = NULL;
	_cleanup_(freep) char *path = NULL;
	const struct dirent *entry;
	int r;

	r = text_format(&path, "%s/boot", root);
	if (r < 0)
		return r;
	folder = opendir(path);
	if (!folder)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(folder))) {
		for (size_t i = 0; i < ARRAY_SIZE(kernel_names); i++) {
			size_t size = strlen(kernel_names[i]);

			if (strncmp(entry->d_name, kernel_names[i], size) != 0)
				continue;
			r = add_by_name(root, entry->d_name + size, images);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* loader entries name their files themselves; the version is the kernel's, not the entry's title */
static int find_in_entries(const char *root, struct initramfs_images *images)
{
	_cleanup_(loader_entries_clear) struct loader_entries entries = { 0 };
	int r = loader_entries_read(root, &entries);

	for (size_t i = 0; r == 0 && i < entries.n; i++) {
		struct loader_entry *entry = &entries.entries[i];

		/* of a kernel that was removed, an entry may stay that another machine-id made */
		if (entry->is_kernel && !entry->is_orphan && entry->version &&
		    is_version(entry->version))
			r = add(images, entry->version, steal(entry->initrd));
	}
	return r;
}

/**
 * initramfs_has_network() - can the generator put a network into an image?
 *
 * dracut's modules for it are a package of their own, and without them it leaves ours out too:
 * dracut.modules(7), depends().
 *
 * Return: 1, 0 or -ENOMEM.
 */
int initramfs_has_network(const char *root, enum initramfs_generator generator)
{
	_cleanup_(globfree) glob_t found = { 0 };
	_cleanup_(freep) char *pattern = NULL;

	if (generator != INITRAMFS_GENERATOR_DRACUT)
		return 1;
	if (text_format(&pattern, "%s/usr/lib/dracut/modules.d/[0-9][0-9]network", root) < 0)
		return -ENOMEM;
	switch (glob(pattern, 0, NULL, &found)) {
	case 0:
		return 1;
	case GLOB_NOSPACE:
		return -ENOMEM;
	default:
		return 0;
	}
}

static int by_version(const void *a, const void *b)
{
	const struct initramfs_kernel *first = a, *second = b;

	return strverscmp(first->version, second->version);
}

/**
 * initramfs_find() - all kernels that can be booted, and the image of each
 * @ret: free with initramfs_images_clear()
 *
 * Kernels are those of /boot and of loader entries; modules without a kernel cannot be booted, nor
 * can an entry whose kernel is gone.
 *
 * Return: 0, -E2BIG or -errno.
 */
int initramfs_find(const char *root, struct initramfs_images *ret)
{
	_cleanup_(initramfs_images_clear) struct initramfs_images images = { 0 };
	int r;

	r = find_generator(root, &images.generator);
	if (r == 0)
		r = find_in_boot(root, &images);
	if (r == 0)
		r = find_in_entries(root, &images);
	if (r < 0)
		return r;
	if (images.n > 0)
		qsort(images.kernels, images.n, sizeof(*images.kernels), by_version);
	*ret = images;
	images = (struct initramfs_images){ 0 };
	return 0;
}
