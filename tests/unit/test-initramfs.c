/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdbool.h>

#include "boot/initramfs.h"
#include "cpio.h"
#include "test.h"
#include "tree.h"

#define CONF   "ROOT_UUID=1-2\nMAPPING=vmcrypt-1-2\nFILESYSTEM=ext4\n"
#define MOVED  INITRAMFS_CONF + 1
#define MODULE "lib/modules/6.1/kernel/"

static const struct initramfs_conf conf = {
	.root_uuid = (char *)"1-2",
	.mapping = (char *)"vmcrypt-1-2",
	.filesystem = (char *)"ext4",
	.boot_type = (char *)"vfat",
};

/* all that an image must have here; the tests leave some of it out */
static const struct cpio_file whole[] = {
	{ "./usr/lib/vmcrypt/vmcrypt-keyfetch", "x", 0100755 },
	{ "usr/lib/vmcrypt/vmcrypt-unlock", "x", 0100755 },
	{ "lib/vmcrypt/vmcrypt-worker", "x", 0100755 },
	{ "lib/vmcrypt/initramfs-storage", "x", 0100755 },
	{ "etc/passwd", "root:x:0:0::/:/bin/sh\nvmcrypt-keyfetch:x:990:990::/:/bin/false\n" },
	{ "scripts/local-top/vmcrypt", "x", 0100755 },
	{ "usr/lib/udev/rules.d/61-vmcrypt.rules", "x" },
	{ "etc/ssl/certs/ca-certificates.crt", "x" },
	{ "etc/vmcrypt/initramfs.conf", CONF },
	{ "usr/sbin/e2fsck", NULL, 0100755, 2 },
	{ "sbin/resize2fs", "x", 0100755 },
	{ "usr/" MODULE "drivers/md/dm-crypt.ko.xz", "x" },
	{ MODULE "drivers/md/dm-mod.ko", "x" },
	{ MODULE "fs/fat/vfat.ko", "x" },
	{ MODULE "fs/fat/fat.ko", "x" },
	{ MODULE "drivers/net/hyperv/hv_netvsc.ko", "x" },
	{ NULL },
};

#define MODULES_DEP                                                                                \
	"kernel/drivers/md/dm-mod.ko:\n"                                                           \
	"kernel/drivers/md/dm-crypt.ko.xz: kernel/drivers/md/dm-mod.ko\n"                          \
	"kernel/fs/fat/fat.ko:\n"                                                                  \
	"kernel/fs/fat/vfat.ko: kernel/fs/fat/fat.ko\n"                                            \
	"kernel/drivers/net/hyperv/hv_netvsc.ko:\n"                                                \
	"kernel/drivers/net/mlx5_core.ko:\n"                                                       \
	"kernel/fs/xfs/xfs.ko:\n"
#define MODULES_BUILTIN "kernel/crypto/xts.ko\nkernel/fs/ext4/ext4.ko\n"

/* an image of all files but the one called @without; @instead may take its place */
static void put_image(void **state, const char *name, const char *without,
		      const struct cpio_file *instead)
{
	_cleanup_(freep) char *path = scratch_path(state, name);
	struct cpio_file files[ARRAY_SIZE(whole) + 1];
	size_t n = 0;
	FILE *out;

	for (const struct cpio_file *file = whole; file->name; file++)
		if (!without || !strstr(file->name, without))
			files[n++] = *file;
	if (instead)
		files[n++] = *instead;
	files[n] = (struct cpio_file){ 0 };
	put(state, name, "", 0644);
	out = fopen(path, "we");
	assert_non_null(out);
	cpio_write(out, files);
	assert_int_equal(fclose(out), 0);
}

static void put_driver(void **state, const char *device, const char *driver)
{
	_cleanup_(freep) char *name = NULL, *module = NULL, *link = NULL;

	assert_true(asprintf(&name, "sys/class/net/%s/device/driver/x", device) > 0);
	assert_true(asprintf(&module, "sys/module/%s/x", driver) > 0);
	put(state, name, "", 0644);
	put(state, module, "", 0644);
	assert_true(asprintf(&link, "%s/sys/class/net/%s/device/driver/module",
			     (const char *)*state, device) > 0);
	module[strlen(module) - 2] = '\0';
	_cleanup_(freep) char *target = scratch_path(state, module);

	assert_int_equal(symlink(target, link), 0);
}

static void put_system(void **state)
{
	put(state, MOVED, CONF, 0644);
	put(state, "lib/modules/6.1/modules.dep", MODULES_DEP, 0644);
	put(state, "lib/modules/6.1/modules.builtin", MODULES_BUILTIN, 0644);
	put_driver(state, "eth0", "hv_netvsc");
	put_driver(state, "eth1", "mlx5_core");
}

static void test_contents(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *without;
		struct cpio_file instead;
		const char *missing; /* NULL: nothing is */
	} rows[] = {
		{ "whole",                NULL,               { 0 }, NULL },
		{ "no keyfetch",          "vmcrypt-keyfetch", { 0 }, "vmcrypt-keyfetch" },
		{ "no unlock",            "vmcrypt-unlock",   { 0 }, "vmcrypt-unlock" },
		{ "no worker",            "vmcrypt-worker",   { 0 }, "vmcrypt-worker" },
		{ "a program of no bytes", "vmcrypt-unlock",  { "usr/lib/vmcrypt/vmcrypt-unlock", "" }, "vmcrypt-unlock" },
		{ "a program by link",    "vmcrypt-unlock",   { "usr/lib/vmcrypt/vmcrypt-unlock", "/x", 0120777 }, "vmcrypt-unlock" },
		{ "a folder",             "resize2fs",        { "sbin/resize2fs", NULL, 040755 }, "resize2fs" },
		{ "nothing starts them",  "local-top",        { 0 }, "what starts them at boot" },
		{ "dracut starts them",   "local-top",        { "usr/lib/systemd/system/vmcrypt-initrd.service", "x" }, NULL },
		{ "no volume group opened", "initramfs-storage", { 0 }, "initramfs-storage" },
		{ "no passwd",            "passwd",           { 0 }, "user vmcrypt-keyfetch" },
		{ "another user",         "passwd",           { "etc/passwd", "not-vmcrypt-keyfetch:x\nvmcrypt:x\n" }, "user vmcrypt-keyfetch" },
		{ "no udev rule",         "61-vmcrypt",       { 0 }, "61-vmcrypt.rules of udev" },
		{ "no certificates",      "certs",            { 0 }, "certificates of authorities" },
		{ "certificates of RHEL", "certs",            { "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "x" }, NULL },
		{ "no conf",              "initramfs.conf",   { 0 }, INITRAMFS_CONF },
		{ "old conf",             "initramfs.conf",   { "etc/vmcrypt/initramfs.conf", "ROOT_UUID=1-3\n" }, "the present content of " INITRAMFS_CONF },
		{ "old conf over it",     NULL,               { "etc/vmcrypt/initramfs.conf", "ROOT_UUID=1-3\n" }, "the present content of " INITRAMFS_CONF },
		{ "no e2fsck",            "e2fsck",           { 0 }, "e2fsck" },
		{ "no dm-crypt",          "dm-crypt",         { 0 }, "kernel module dm_crypt" },
		{ "of another kernel",    "dm-crypt",         { "lib/modules/6.2/kernel/drivers/md/dm-crypt.ko", "x" }, "kernel module dm_crypt" },
		{ "of one with a longer name", "dm-crypt",    { "lib/modules/6.1x/kernel/drivers/md/dm-crypt.ko", "x" }, "kernel module dm_crypt" },
		{ "no dm",                "dm-mod",           { 0 }, "kernel module dm_mod" },
		{ "/boot's filesystem",   "vfat",             { 0 }, "kernel module vfat" },
		{ "what that needs",      "/fat.ko",          { 0 }, "kernel module fat" },
		{ "no network",           "netvsc",           { 0 }, "network driver " },
		{ "the other network",    "netvsc",           { MODULE "drivers/net/mlx5_core.ko", "x" }, NULL },
		{ "two things",           "fat.ko",           { 0 }, "kernel module fat, kernel module vfat" },
	};
	/* clang-format on */

	put_system(state);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *image = scratch_path(state, "boot/image"), *missing = NULL;
		int r;

		put_image(state, "boot/image", rows[i].without,
			  rows[i].instead.name ? &rows[i].instead : NULL);
		r = initramfs_verify(*state, "6.1", image, &conf, &missing);
		assert_row(rows[i].name, r == (rows[i].missing ? INITRAMFS_E_INCOMPLETE : 0));
		if (rows[i].missing &&
		    strncmp(missing, rows[i].missing, strlen(rows[i].missing)) != 0)
			fail_msg("%s: %s", rows[i].name, missing);
	}
}

/* the same image is judged by what the kernel has built in, and by the root's filesystem */
static void test_kernels(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *without, *dep, *builtin, *filesystem, *missing;
	} rows[] = {
		{ "dm-crypt built in",  "dm-crypt",  "kernel/drivers/md/dm-mod.ko:\n", "kernel/drivers/md/dm-crypt.ko\n", "ext4", NULL },
		{ "no dm-crypt at all", NULL,        "kernel/drivers/md/dm-mod.ko:\n", "", "ext4", "dm_crypt, which this kernel does not have at all" },
		{ "no modules at all",  "lib/modules", NULL,          NULL,            "ext4", NULL },
		{ "xfs wants its tool", "e2fsck",    MODULES_DEP,     MODULES_BUILTIN, "xfs",  "xfs_growfs, kernel module xfs" },
		{ "unknown filesystem", "resize2fs", MODULES_DEP,     MODULES_BUILTIN, NULL,   NULL },
		{ "the cipher's module", NULL,       MODULES_DEP "kernel/crypto/xts.ko:\n", "", "ext4", "kernel module xts" },
		{ "network built in",   "netvsc",    "kernel/drivers/md/dm-mod.ko:\nkernel/drivers/md/dm-crypt.ko:\n", "", "ext4", NULL },
		{ "one network built in", "netvsc", "kernel/drivers/md/dm-mod.ko:\nkernel/drivers/md/dm-crypt.ko:\nkernel/drivers/net/hyperv/hv_netvsc.ko:\n", "", "ext4", NULL },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *image = scratch_path(state, "boot/image"), *missing = NULL;
		_cleanup_(freep) char *dep = scratch_path(state, "lib/modules/6.1/modules.dep"),
				      *builtin = scratch_path(state,
							      "lib/modules/6.1/modules.builtin");
		struct initramfs_conf own = conf;
		int r;

		own.filesystem = (char *)rows[i].filesystem;
		if (i == 0)
			put_system(state);
		(void)unlink(dep);
		(void)unlink(builtin);
		if (rows[i].dep)
			put(state, "lib/modules/6.1/modules.dep", rows[i].dep, 0644);
		if (rows[i].builtin)
			put(state, "lib/modules/6.1/modules.builtin", rows[i].builtin, 0644);
		put_image(state, "boot/image", rows[i].without, NULL);
		r = initramfs_verify(*state, "6.1", image, &own, &missing);
		if (r != (rows[i].missing ? INITRAMFS_E_INCOMPLETE : 0) ||
		    (rows[i].missing && strcmp(missing, rows[i].missing) != 0))
			fail_msg("%s: %d %s", rows[i].name, r, missing ? missing : "");
	}
}

/* While split.conf is there, every image has to make the partition; and what unlocks is asked for
 * only where that is wanted. */
static void test_split(void **state)
{
	/* clang-format off */
	static const char text[] = "JOB=j\n";
	static const struct {
		const char *name, *without;
		struct cpio_file instead;
		bool is_wanted, unlocks;
		const char *missing;
	} rows[] = {
		{ "not wanted",            "vmcrypt-worker", { 0 }, false, false, NULL },
		{ "whole",                 NULL,             { "etc/vmcrypt/split.conf", text }, true, false, NULL },
		{ "no keyfetch is needed", "vmcrypt-keyfetch", { "etc/vmcrypt/split.conf", text }, true, false, NULL },
		{ "both are wanted",       "vmcrypt-keyfetch", { "etc/vmcrypt/split.conf", text }, true, true, "vmcrypt-keyfetch" },
		{ "no split.conf",         NULL,             { 0 }, true, false, "the present content of /etc/vmcrypt/split.conf" },
		{ "an old one",            NULL,             { "etc/vmcrypt/split.conf", "JOB=k\n" }, true, false, "the present content of /etc/vmcrypt/split.conf" },
		{ "no worker",             "vmcrypt-worker", { "etc/vmcrypt/split.conf", text }, true, false, "vmcrypt-worker" },
		{ "no resize2fs",          "resize2fs",      { "etc/vmcrypt/split.conf", text }, true, false, "resize2fs" },
		{ "nothing starts it",     "local-top",      { "etc/vmcrypt/split.conf", text }, true, false, "what starts vmcrypt-worker at boot" },
		{ "that starts no unlocker", "local-top",    { "usr/lib/systemd/system/vmcrypt-split.service", "x" }, false, true, "what starts them at boot" },
	};
	/* clang-format on */

	put_system(state);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *image = scratch_path(state, "boot/image"), *missing = NULL;
		_cleanup_(freep) char *wanted = scratch_path(state, "etc/vmcrypt/split.conf");
		int r;

		(void)unlink(wanted);
		if (rows[i].is_wanted)
			put(state, "etc/vmcrypt/split.conf", text, 0644);
		put_image(state, "boot/image", rows[i].without,
			  rows[i].instead.name ? &rows[i].instead : NULL);
		r = initramfs_verify(*state, "6.1", image, rows[i].unlocks ? &conf : NULL,
				     &missing);
		if (r != (rows[i].missing ? INITRAMFS_E_INCOMPLETE : 0) ||
		    (rows[i].missing && strcmp(missing, rows[i].missing) != 0))
			fail_msg("%s: %d %s", rows[i].name, r, missing ? missing : "");
	}
}

static void test_find(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name;
		const char *files[6];
		const char *found; /* "VERSION=IMAGE;" */
	} rows[] = {
		{ "Debian",   { "boot/vmlinuz-6.1.0-9-amd64", "boot/initrd.img-6.1.0-9-amd64", "boot/vmlinuz-6.1.0-10-amd64", "boot/initrd.img-6.1.0-10-amd64" },
			"6.1.0-9-amd64=/boot/initrd.img-6.1.0-9-amd64;6.1.0-10-amd64=/boot/initrd.img-6.1.0-10-amd64;" },
		{ "RHEL",     { "boot/vmlinuz-5.14.0-1.el9.x86_64", "boot/initramfs-5.14.0-1.el9.x86_64.img", "boot/vmlinuz-0-rescue-0a", "boot/initramfs-0-rescue-0a.img", "boot/initramfs-5.14.0-1.el9.x86_64kdump.img" },
			"0-rescue-0a=/boot/initramfs-0-rescue-0a.img rescue;5.14.0-1.el9.x86_64=/boot/initramfs-5.14.0-1.el9.x86_64.img;" },
		{ "SUSE",     { "boot/vmlinuz-6.4-default", "boot/initrd-6.4-default" }, "6.4-default=/boot/initrd-6.4-default;" },
		{ "no image", { "boot/vmlinuz-6.1", "lib/modules/6.1/modules.dep" },     "6.1=none;" },
		{ "modules of a kernel that has gone", { "lib/modules/6.1/modules.dep" }, "" },
		{ "what only looks so", { "boot/vmlinuz-6.1.dpkg-new", "boot/vmlinuz", "boot/vmlinuz-", "boot/vmlinuz--x", "boot/initrd.img--x" }, "" },
		{ "nothing",  { "etc/x" }, "" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(initramfs_images_clear) struct initramfs_images images = { 0 };
		_cleanup_(freep) char *text = NULL;
		void *folder;
		size_t size;
		FILE *out = open_memstream(&text, &size);

		assert_non_null(out);
		assert_int_equal(scratch_make(&folder), 0);
		for (size_t j = 0; j < ARRAY_SIZE(rows[i].files) && rows[i].files[j]; j++)
			put(&folder, rows[i].files[j], "x", 0644);
		assert_row(rows[i].name, initramfs_find(folder, &images) == 0);
		for (size_t j = 0; j < images.n; j++) {
			const struct initramfs_kernel *kernel = &images.kernels[j];

			assert_true(fprintf(out, "%s=%s%s;", kernel->version,
					    kernel->image ? kernel->image + strlen(folder) : "none",
					    kernel->is_rescue ? " rescue" : "") > 0);
		}
		assert_int_equal(fclose(out), 0);
		if (strcmp(text, rows[i].found) != 0)
			fail_msg("%s: %s", rows[i].name, text);
		assert_int_equal(scratch_remove(&folder), 0);
	}
}

/* kernels of loader entries: on /boot, on the root's filesystem, below a folder of the machine's */
static void test_find_in_entries(void **state)
{
	_cleanup_(initramfs_images_clear) struct initramfs_images images = { 0 };
	const struct initramfs_kernel *kernel;

	put(state, "boot/loader/entries/a.conf",
	    "version 1\nlinux /vmlinuz-5.1\ninitrd /ucode.img\ninitrd /initramfs-5.1.img "
	    "$tuned_initrd\n",
	    0644);
	put(state, "boot/initramfs-5.1.img", "x", 0644);
	put(state, "boot/loader/entries/b.conf",
	    "linux /boot/vmlinuz-5.2\ninitrd /boot/other.img\n", 0644);
	put(state, "boot/other.img", "x", 0644);
	put(state, "boot/vmlinuz-5.2", "x", 0644);
	put(state, "boot/initrd.img-5.2", "x", 0644);
	put(state, "boot/efi/loader/entries/c.conf",
	    "linux /0a1b/5.3/linux\ninitrd /0a1b/5.3/initrd\n", 0644);
	put(state, "boot/efi/0a1b/5.3/initrd", "x", 0644);
	put(state, "boot/efi/0a1b/5.3/linux", "x", 0644);
	put(state, "boot/vmlinuz-5.1", "x", 0644);
	put(state, "boot/loader/entries/d.conf", "linux /own-5.4\ninitrd /gone.img\n", 0644);
	put(state, "boot/own-5.4", "x", 0644);
	put(state, "boot/loader/entries/e.conf", "efi /shell.efi\n", 0644);
	/* none that can be booted */
	put(state, "boot/loader/entries/f.conf", "linux /vmlinuz-5.6\ninitrd /boot/other.img\n",
	    0644);
	put(state, "boot/loader/entries/g.conf", "linux /elf-memtest86+-5.31\n", 0644);
	put(state, "boot/elf-memtest86+-5.31", "x", 0644);
	/* where GRUB's variables say */
	put(state, "boot/loader/entries/h.conf", "linux ($root)/vmlinuz-5.7\n", 0644);

	assert_int_equal(initramfs_find(*state, &images), 0);
	assert_int_equal(images.n, 5);
	assert_non_null(initramfs_of(&images, "5.7"));
	kernel = initramfs_of(&images, "5.1");
	assert_string_equal(kernel->image + strlen(*state), "/boot/initramfs-5.1.img");
	kernel = initramfs_of(&images, "5.2");
	assert_string_equal(kernel->image + strlen(*state), "/boot/other.img");
	kernel = initramfs_of(&images, "5.3");
	assert_string_equal(kernel->image + strlen(*state), "/boot/efi/0a1b/5.3/initrd");
	assert_null(initramfs_of(&images, "5.4")->image);
	assert_null(initramfs_of(&images, "5.5"));
}

static void test_generator(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name;
		const char *files[4];
		enum initramfs_generator generator;
	} rows[] = {
		{ "Debian",            { "var/lib/dpkg/info/initramfs-tools.postinst", "usr/sbin/update-initramfs", "usr/sbin/mkinitramfs" }, INITRAMFS_GENERATOR_TOOLS },
		{ "Debian with both",  { "var/lib/dpkg/info/initramfs-tools.postinst", "usr/sbin/mkinitramfs", "usr/bin/dracut" }, INITRAMFS_GENERATOR_TOOLS },
		{ "Debian with dracut, which has an update-initramfs", { "var/lib/dpkg/info/dracut.postinst", "usr/sbin/update-initramfs", "usr/bin/dracut", "usr/sbin/mkinitramfs" }, INITRAMFS_GENERATOR_DRACUT },
		{ "RHEL",              { "usr/bin/dracut" },             INITRAMFS_GENERATOR_DRACUT },
		{ "a wrapper alone",   { "usr/sbin/update-initramfs", "usr/bin/dracut" }, INITRAMFS_GENERATOR_DRACUT },
		{ "neither",           { "usr/bin/mkinitcpio" },         INITRAMFS_GENERATOR_NONE },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(initramfs_images_clear) struct initramfs_images images = { 0 };
		void *folder;

		assert_int_equal(scratch_make(&folder), 0);
		for (size_t j = 0; j < ARRAY_SIZE(rows[i].files) && rows[i].files[j]; j++)
			put(&folder, rows[i].files[j], "x", 0755);
		assert_row(rows[i].name, initramfs_find(folder, &images) == 0);
		assert_row(rows[i].name, images.generator == rows[i].generator);
		assert_int_equal(scratch_remove(&folder), 0);
	}
}

static void test_has_network(void **state)
{
	assert_int_equal(initramfs_has_network(*state, INITRAMFS_GENERATOR_TOOLS), 1);
	assert_int_equal(initramfs_has_network(*state, INITRAMFS_GENERATOR_DRACUT), 0);
	put(state, "usr/lib/dracut/modules.d/35network-legacy/module-setup.sh", "", 0755);
	assert_int_equal(initramfs_has_network(*state, INITRAMFS_GENERATOR_DRACUT), 0);
	put(state, "usr/lib/dracut/modules.d/40network/module-setup.sh", "", 0755);
	assert_int_equal(initramfs_has_network(*state, INITRAMFS_GENERATOR_DRACUT), 1);
}

/* both generators stand in as a script that copies the file "made" to where it is told to */
static void test_regenerate(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *program, *image, *script, *without;
		int r;
		const char *detail;
		bool is_new;
	} rows[] = {
		{ "initramfs-tools", "usr/sbin/mkinitramfs", "boot/initrd.img-6.1",    "[ \"$1 $3\" = '-o 6.1' ] && cp $ROOT/made $2", NULL, 0, NULL, true },
		{ "dracut",          "usr/bin/dracut",       "boot/initramfs-6.1.img", "[ $1$2$3 = -f--kver6.1 ] && cp $ROOT/made $4", NULL, 0, NULL, true },
		{ "fails",           "usr/bin/dracut",       "boot/initramfs-6.1.img", "echo no space; cp $ROOT/made $4; exit 7", NULL, INITRAMFS_E_FAILED, "no space", false },
		{ "lacks something", "usr/bin/dracut",       "boot/initramfs-6.1.img", "cp $ROOT/made $4", "vmcrypt-unlock", INITRAMFS_E_INCOMPLETE, "vmcrypt-unlock", false },
		{ "half of one",     "usr/bin/dracut",       "boot/initramfs-6.1.img", "head -c 500 $ROOT/made >$4", NULL, INITRAMFS_E_DAMAGED, "not a whole image", false },
		{ "makes nothing",   "usr/bin/dracut",       "boot/initramfs-6.1.img", "exit 0", NULL, INITRAMFS_E_ABSENT, "no image", false },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(initramfs_images_clear) struct initramfs_images images = { 0 };
		_cleanup_(freep) char *script = NULL, *detail = NULL, *none = NULL;
		void *folder;

		assert_int_equal(scratch_make(&folder), 0);
		put_system(&folder);
		put(&folder, "boot/vmlinuz-6.1", "x", 0644);
		put(&folder, "boot/vmlinuz-0-rescue-0a", "x", 0644);
		put(&folder, "boot/initramfs-0-rescue-0a.img", "x", 0644);
		put(&folder, rows[i].image, "old", 0644);
		put_image(&folder, "made", rows[i].without, NULL);
		assert_true(asprintf(&script, "#!/bin/sh\nROOT=%s\n%s\n", (const char *)folder,
				     rows[i].script) > 0);
		if (i == 0)
			put(&folder, "usr/sbin/update-initramfs", "", 0755);
		put(&folder, rows[i].program, script, 0755);
		assert_row(rows[i].name, initramfs_find(folder, &images) == 0);
		assert_int_equal(initramfs_regenerate(folder, &images, &conf, "0-rescue-0a", &none),
				 INITRAMFS_E_ABSENT);
		assert_int_equal(initramfs_regenerate(folder, &images, &conf, "6.2", &none),
				 INITRAMFS_E_ABSENT);

		int r = initramfs_regenerate(folder, &images, &conf, "6.1", &detail);

		if (r != rows[i].r)
			fail_msg("%s: %d %s", rows[i].name, r, detail ? detail : "");
		assert_row(rows[i].name, !rows[i].detail || strstr(detail, rows[i].detail));
		if (rows[i].is_new) {
			_cleanup_(initramfs_faults_clear) struct initramfs_faults faults = { 0 };

			assert_row(rows[i].name,
				   initramfs_verify_all(folder, &images, &conf, &faults) == 0);
			assert_row(rows[i].name, faults.n == 0);
		} else {
			assert_content(&folder, rows[i].image, "old");
		}
		_cleanup_(freep) char *boot = scratch_path(&folder, "boot");

		assert_row(rows[i].name, count_entries(boot) == 4);
		assert_int_equal(scratch_remove(&folder), 0);
	}
}

static void test_faults(void **state)
{
	_cleanup_(initramfs_images_clear) struct initramfs_images images = { 0 };
	_cleanup_(initramfs_faults_clear) struct initramfs_faults faults = { 0 }, plain = { 0 };

	put_system(state);
	put(state, "boot/vmlinuz-0-rescue-0a", "x", 0644);
	put(state, "boot/initramfs-0-rescue-0a.img", "x", 0644);
	put(state, "boot/vmlinuz-6.1", "x", 0644);
	put_image(state, "boot/initrd.img-6.1", NULL, NULL);
	put(state, "lib/modules/6.2/modules.builtin",
	    "kernel/drivers/md/dm-crypt.ko\nkernel/drivers/md/dm-mod.ko\n", 0644);
	put(state, "boot/vmlinuz-6.2", "x", 0644);
	put(state, "lib/modules/6.3/x", "x", 0644);
	put(state, "boot/vmlinuz-6.3", "x", 0644);
	put(state, "boot/initrd.img-6.3", "x", 0644);
	put(state, "boot/vmlinuz-6.4", "x", 0644);
	put_image(state, "boot/initrd.img-6.4", "vmcrypt-unlock", NULL);

	assert_int_equal(initramfs_find(*state, &images), 0);
	assert_int_equal(initramfs_verify_all(*state, &images, &conf, &faults), 0);
	assert_int_equal(faults.n, 3);
	assert_string_equal(faults.faults[0].version, "6.2");
	assert_int_equal(faults.faults[0].condition, INITRAMFS_E_ABSENT);
	assert_string_equal(faults.faults[1].version, "6.3");
	assert_int_equal(faults.faults[1].condition, INITRAMFS_E_DAMAGED);
	assert_string_equal(faults.faults[2].version, "6.4");
	assert_int_equal(faults.faults[2].condition, INITRAMFS_E_INCOMPLETE);
	assert_string_equal(faults.faults[2].missing, "vmcrypt-unlock");
	/* without a wish only what is no image at all */
	assert_int_equal(initramfs_verify_all(*state, &images, NULL, &plain), 0);
	assert_int_equal(plain.n, 2);
}

static void test_room(void **state)
{
	_cleanup_(initramfs_images_clear) struct initramfs_images images = { 0 };
	_cleanup_(freep) char *path = scratch_path(state, "boot/initrd.img-6.1");
	uint64_t needed, available;
	_cleanup_(freep) char *detail = NULL;

	put(state, "usr/sbin/update-initramfs", "", 0755);
	put(state, "usr/sbin/mkinitramfs", "#!/bin/sh\nexit 1\n", 0755);
	put(state, "boot/vmlinuz-6.1", "x", 0644);
	put(state, "boot/initrd.img-6.1", "", 0644);
	assert_int_equal(initramfs_find(*state, &images), 0);
	assert_int_equal(initramfs_room(*state, &images, &needed, &available), 0);
	assert_int_equal(truncate(path, 1LL << 42), 0);
	assert_int_equal(initramfs_room(*state, &images, &needed, &available), INITRAMFS_E_NO_ROOM);
	assert_true(needed > 1ULL << 42 && available < needed);
	assert_int_equal(initramfs_regenerate(*state, &images, NULL, "6.1", &detail),
			 INITRAMFS_E_NO_ROOM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_contents, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_kernels, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_split, scratch_make, scratch_remove),
		cmocka_unit_test(test_find),
		cmocka_unit_test_setup_teardown(test_find_in_entries, scratch_make, scratch_remove),
		cmocka_unit_test(test_generator),
		cmocka_unit_test(test_regenerate),
		cmocka_unit_test_setup_teardown(test_faults, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_has_network, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_room, scratch_make, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
