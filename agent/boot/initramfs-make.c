/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making images anew; see boot/initramfs.h. */
#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "boot/bootfs.h"
#include "boot/initramfs.h"

#define NEW_SUFFIX       "vmcrypt-new"
/* what our programs, their libraries and the tools add to an image, not even compressed */
#define GROWTH_BYTES     (32ULL * 1024 * 1024)
#define DETAIL_MAX_BYTES 2048 /* of what a generator says, its end */
#define MAKE_TIMEOUT_S   1800 /* a minute on a small machine; not for ever */
#define HOOKS_TIMEOUT_S  300

static int folder_of(const char *path, char **ret)
{
	_cleanup_(freep) char *copy = strdup(path);

	return copy ? text_copy(dirname(copy), ret) : -ENOMEM;
}

/* where its generator puts the image; what a boot loader reads may be a copy of that */
static int target_of(const char *root, enum initramfs_generator generator,
		     const struct initramfs_kernel *kernel, char **ret)
{
	_cleanup_(freep) char *dpkg = NULL;
	struct stat status;

	if (generator == INITRAMFS_GENERATOR_TOOLS)
		return text_format(ret, "%s/boot/initrd.img-%s", root, kernel->version);
	if (kernel->image)
		return text_copy(kernel->image, ret);
	if (text_format(&dpkg, "%s/var/lib/dpkg", root) < 0)
		return -ENOMEM;
	return text_format(ret,
			   stat(dpkg, &status) == 0 ? "%s/boot/initrd.img-%s"
						    : "%s/boot/initramfs-%s.img",
			   root, kernel->version);
}

static uint64_t size_of(const char *path)
{
	struct stat status;

	return path && stat(path, &status) == 0 ? (uint64_t)status.st_size : 0;
}

static uint64_t largest_of(const struct initramfs_images *images)
{
	uint64_t largest = 0;

	for (size_t i = 0; i < images->n; i++) {
		uint64_t size = size_of(images->kernels[i].image);

		if (!images->kernels[i].is_rescue && size > largest)
			largest = size;
	}
	return largest;
}

/** initramfs_second_bytes() - what has to be free to make any one image anew, beside the old one */
uint64_t initramfs_second_bytes(const struct initramfs_images *images)
{
	return largest_of(images) + GROWTH_BYTES;
}

/**
 * initramfs_room() - is there room to make all images anew, one after another?
 * @ret_needed: bytes for the one second image at a time, and for what those before it have grown
 * @ret_free:   bytes in the folder of the images that has the least
 *
 * Return: 0, INITRAMFS_E_NO_ROOM (both are set) or -errno.
 */
int initramfs_room(const char *root, const struct initramfs_images *images, uint64_t *ret_needed,
		   uint64_t *ret_free)
{
	uint64_t growth = 0, least = UINT64_MAX, n = 0;

	for (size_t i = 0; i < images->n; i++) {
		_cleanup_(freep) char *target = NULL, *folder = NULL;
		uint64_t available;
		int r;

		if (images->kernels[i].is_rescue)
			continue;
		r = target_of(root, images->generator, &images->kernels[i], &target);
		if (r == 0)
			r = folder_of(target, &folder);
		if (r == 0)
			r = directory_free_bytes(folder, &available);
		if (r < 0)
			return r;
		if (available < least)
			least = available;
		if (n++ > 0)
			growth += GROWTH_BYTES / 2; /* compressed, programs are less than half */
	}
	*ret_needed = n == 0 ? 0 : initramfs_second_bytes(images) + growth;
	*ret_free = least;
	return *ret_needed > *ret_free ? INITRAMFS_E_NO_ROOM : 0;
}

static int tail_of(const char *output, char **ret)
{
	size_t size = output ? strlen(output) : 0;

	return text_copy(size > DETAIL_MAX_BYTES ? output + size - DETAIL_MAX_BYTES
						 : (output ? output : ""),
			 ret);
}

/* Return: 0, INITRAMFS_E_FAILED with what it said, or -errno. */
static int run(const char *const argv[], unsigned timeout_s, char **ret_detail)
{
	_cleanup_(freep) char *output = NULL;
	int status, r = process_run(argv, timeout_s, &status, &output);

	if (r < 0 && r != -ETIMEDOUT)
		return r;
	if (r == 0 && status == 0)
		return 0;
	r = tail_of(output, ret_detail);
	return r < 0 ? r : INITRAMFS_E_FAILED;
}

static int generate(const char *root, enum initramfs_generator generator, const char *version,
		    const char *image, char **ret_detail)
{
	_cleanup_(freep) char *program = NULL;
	const char *program_name = NULL;

	switch (generator) {
	case INITRAMFS_GENERATOR_NONE:
		return INITRAMFS_E_NO_GENERATOR;
	case INITRAMFS_GENERATOR_TOOLS:
		program_name = "/usr/sbin/mkinitramfs";
		break;
	case INITRAMFS_GENERATOR_DRACUT:
		program_name = "/usr/bin/dracut";
		break;
	}
	if (text_format(&program, "%s%s", root, program_name) < 0)
		return -ENOMEM;
	if (generator == INITRAMFS_GENERATOR_TOOLS)
		return run((const char *const[]){ program, "-o", image, version, NULL },
			   MAKE_TIMEOUT_S, ret_detail);
	return run((const char *const[]){ program, "-f", "--kver", version, image, NULL },
		   MAKE_TIMEOUT_S, ret_detail);
}

/* what update-initramfs does after an image is in its place: boot loaders that want a copy */
static int run_hooks(const char *root, const char *version, const char *image, char **ret_detail)
{
	_cleanup_(freep) char *folder = NULL, *first = NULL, *second = NULL;
	struct stat status;

	if (text_format(&folder, "%s/etc/initramfs/post-update.d", root) < 0 ||
	    text_format(&first, "--arg=%s", version) < 0 ||
	    text_format(&second, "--arg=%s", image) < 0)
		return -ENOMEM;
	if (stat(folder, &status) < 0)
		return 0;
	return run((const char *const[]){ "run-parts", first, second, folder, NULL },
		   HOOKS_TIMEOUT_S, ret_detail);
}

static int make_and_prove(const char *root, enum initramfs_generator generator,
			  const struct initramfs_conf *conf, const char *version, const char *image,
			  char **ret_detail)
{
	int r;

	r = generate(root, generator, version, image, ret_detail);
	if (r == 0)
		r = initramfs_verify(root, version, image, conf, ret_detail);
	if (r == 0)
		r = file_sync_path(image);
	return r;
}

/**
 * initramfs_regenerate() - make the image of one kernel anew
 * @images:     as initramfs_find() gave them
 * @conf:       as for initramfs_verify(): what the new image is held against
 * @version:    one of @images that is no rescue kernel
 * @ret_detail: with a positive condition what the generator said last, or what is missing; may be
 * NULL then; owned by the caller
 *
 * The generator itself is run, and not update-initramfs: that one renames first and syncs later.
 * Here the new image is made beside the old one, looked into, and made durable before it takes the
 * old one's name; at a power cut there is always one whole image of that name, the old one or the
 * new one, and perhaps IMAGE.vmcrypt-new, which the next run removes. Takes a minute or so.
 *
 * Return: 0, INITRAMFS_E_NO_GENERATOR, _ABSENT (no such kernel), _NO_ROOM, _FAILED, or of the new
 * image _INCOMPLETE, _DAMAGED, _UNREADABLE; or -errno. On any but 0 the old image stands, unless a
 * hook of the distribution's failed afterwards.
 */
int initramfs_regenerate(const char *root, const struct initramfs_images *images,
			 const struct initramfs_conf *conf, const char *version, char **ret_detail)
{
	const struct initramfs_kernel *kernel = initramfs_of(images, version);
	_cleanup_(freep) char *target = NULL, *new = NULL, *folder = NULL;
	uint64_t available;
	int r;

	*ret_detail = NULL;
	if (images->generator == INITRAMFS_GENERATOR_NONE)
		return INITRAMFS_E_NO_GENERATOR;
	if (!kernel || kernel->is_rescue)
		return INITRAMFS_E_ABSENT;
	r = target_of(root, images->generator, kernel, &target);
	if (r == 0)
		r = folder_of(target, &folder);
	if (r == 0)
		r = text_format(&new, "%s.%s", target, NEW_SUFFIX);
	if (r == 0)
		r = file_remove_durably(new);
	if (r == 0)
		r = directory_free_bytes(folder, &available);
	if (r < 0)
		return r;
	if (available < initramfs_second_bytes(images))
		return INITRAMFS_E_NO_ROOM;

	r = make_and_prove(root, images->generator, conf, version, new, ret_detail);
	if (r == 0 && rename(new, target) < 0)
		r = -errno;
	if (r != 0) {
		(void)unlink(new);
		return r;
	}
	r = file_sync_parent(target);
	if (r == 0 && images->generator == INITRAMFS_GENERATOR_TOOLS)
		r = run_hooks(root, version, target, ret_detail);
	/* the copy that is booted, where it is one */
	if (r == 0 && kernel->image && strcmp(kernel->image, target) != 0)
		r = initramfs_verify(root, version, kernel->image, conf, ret_detail);
	return r != 0 ? r : bootfs_settle(target);
}
