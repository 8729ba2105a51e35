/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/initramfs.h - the initramfs images of all installed kernels
 *
 * Which kernels there are, the image that each boots from, and whether it can unlock the root;
 * makes images anew with the distribution's own generator. An image is never replaced before its
 * successor is whole, proven and durable.
 *
 * @root in all functions is a prefix for every path, "" for this system.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/initramfs-conf.h"

#define INITRAMFS_KERNELS_MAX 256 /* installed at once; a folder with more is not /boot */

enum {
	INITRAMFS_E_INCOMPLETE = 1, /* whole, but it cannot unlock the root */
	INITRAMFS_E_DAMAGED,        /* not an image, or half of one */
	INITRAMFS_E_ABSENT,         /* the kernel has no image */
	INITRAMFS_E_UNREADABLE,     /* what decompresses it is not installed */
	INITRAMFS_E_NO_ROOM,        /* /boot has no room for a second image */
	INITRAMFS_E_NO_GENERATOR,   /* neither initramfs-tools nor dracut */
	INITRAMFS_E_FAILED,         /* the generator ended with a failure */
};

enum initramfs_generator {
	INITRAMFS_GENERATOR_NONE,
	INITRAMFS_GENERATOR_TOOLS, /* Debian's initramfs-tools */
	INITRAMFS_GENERATOR_DRACUT,
};

struct initramfs_kernel {
	char *version;
	char *image;    /* its path with the prefix; or NULL */
	bool is_rescue; /* a generic one of dracut's: never made anew, cannot unlock */
};

struct initramfs_images {
	enum initramfs_generator generator;
	struct initramfs_kernel *kernels; /* by version, in the order of strverscmp() */
	size_t n;
};

/* a kernel whose image cannot unlock the root */
struct initramfs_fault {
	char *version;
	int condition; /* INITRAMFS_E_… */
	char *missing; /* for a person: "vmcrypt-unlock, kernel module dm_crypt" */
};

struct initramfs_faults {
	struct initramfs_fault *faults;
	size_t n;
};

const char *initramfs_generator_name(enum initramfs_generator generator);

void initramfs_images_clear(struct initramfs_images *images);
int initramfs_find(const char *root, struct initramfs_images *ret);
int initramfs_has_network(const char *root, enum initramfs_generator generator);
const struct initramfs_kernel *initramfs_of(const struct initramfs_images *images,
					    const char *version);

uint64_t initramfs_second_bytes(const struct initramfs_images *images);
int initramfs_room(const char *root, const struct initramfs_images *images, uint64_t *ret_needed,
		   uint64_t *ret_free);
int initramfs_regenerate(const char *root, const struct initramfs_images *images,
			 const struct initramfs_conf *conf, const char *version, char **ret_detail);

void initramfs_faults_clear(struct initramfs_faults *faults);
int initramfs_verify(const char *root, const char *version, const char *image,
		     const struct initramfs_conf *conf, char **ret_missing);
int initramfs_verify_all(const char *root, const struct initramfs_images *images,
			 const struct initramfs_conf *conf, struct initramfs_faults *ret);
int initramfs_verify_installed(const char *root, const struct initramfs_conf *conf,
			       struct initramfs_faults *ret);
