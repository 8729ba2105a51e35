/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* step_os_is_prepared(): the images, and the file that they are made from, know the root's header
 */
#include <errno.h>

#include "boot/initramfs-conf.h"
#include "boot/initramfs.h"
#include "job/steps.h"
#include "test.h"

#define UUID    "0f8a1c52-6d3e-4b7a-9c61-2e5d7f3b9a10"
#define OTHER   "9b8c7d6e-6d3e-4b7a-9c61-2e5d7f3b9a12"
#define MAPPING "vmcrypt-root"
#define FILE_AT "/boot/vmcrypt/headers/" UUID ".luks"

/* what is in /etc, and what the images come to when they are held against that */
static struct {
	const char *mapping, *header_uuid, *header;
	int r, images;
	size_t faults;
} world;

int __wrap_initramfs_conf_read(const char *path, struct initramfs_conf *ret);
int __wrap_initramfs_verify_installed(const char *root, const struct initramfs_conf *wanted,
				      struct initramfs_faults *ret);

int __wrap_initramfs_conf_read(const char *path, struct initramfs_conf *ret)
{
	assert_string_equal(path, INITRAMFS_CONF);
	if (world.r != 0)
		return world.r;
	*ret = (struct initramfs_conf){ .mapping = strdup(world.mapping),
					.header_uuid = strdup(world.header_uuid),
					.header = world.header ? strdup(world.header) : NULL };
	return 0;
}

int __wrap_initramfs_verify_installed(const char *root, const struct initramfs_conf *wanted,
				      struct initramfs_faults *ret)
{
	(void)root, (void)wanted;
	*ret = (struct initramfs_faults){ 0 };
	if (world.faults == 0)
		return world.images;
	ret->faults = calloc(world.faults, sizeof(*ret->faults));
	assert_non_null(ret->faults);
	ret->n = world.faults;
	return world.images;
}

static void test_table(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *mapping, *header_uuid, *header, *wanted;
		int r, images;
		size_t faults;
		bool is_prepared;
	} rows[] = {
		{ "attached",                               MAPPING,        UUID,  NULL,    NULL,    0,       0,    0, true  },
		{ "in a file",                              MAPPING,        UUID,  FILE_AT, FILE_AT, 0,       0,    0, true  },
		{ "cut between crypttab and this file",     MAPPING,        UUID,  NULL,    FILE_AT, 0,       0,    0, false },
		{ "a file that is the header's no more",    MAPPING,        UUID,  FILE_AT, NULL,    0,       0,    0, false },
		{ "another header",                         MAPPING,        OTHER, NULL,    NULL,    0,       0,    0, false },
		{ "another mapping",                        "vmcrypt-home", UUID,  NULL,    NULL,    0,       0,    0, false },
		{ "no such file",                           MAPPING,        UUID,  NULL,    NULL,    -ENOENT, 0,    0, false },
		{ "an image that does not know it",         MAPPING,        UUID,  NULL,    NULL,    0,       0,    1, false },
		{ "images that cannot be looked into",      MAPPING,        UUID,  NULL,    NULL,    0,       -EIO, 0, false },
	};
	/* clang-format on */
	struct volume_mount mount = { .target = (char *)"/boot" };
	struct volume boot = {
		.mounts = &mount, .n_mounts = 1, .uuid = (char *)OTHER, .filesystem = (char *)"ext4"
	};
	struct inventory inventory = { .volumes = &boot, .n = 1 };
	struct job job = { .inventory = &inventory,
			   .uuid = (char *)UUID,
			   .header_uuid = (char *)UUID,
			   .mapping = (char *)MAPPING,
			   .is_root = true };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		world.mapping = rows[i].mapping;
		world.header_uuid = rows[i].header_uuid;
		world.header = rows[i].header;
		world.r = rows[i].r;
		world.images = rows[i].images;
		world.faults = rows[i].faults;
		assert_row(rows[i].name,
			   step_os_is_prepared(&job, rows[i].wanted) == rows[i].is_prepared);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
