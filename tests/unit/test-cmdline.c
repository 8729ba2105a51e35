/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/cmdline.h"
#include "test.h"
#include "tree.h"

#define UUID "0a1b2c3d-0000-4000-8000-000000000001"
#define ROOT "root=UUID=" UUID

static void test_root_of(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *arguments, *root;
	} rows[] = {
		{ "one",                "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro\n", "/dev/sda1" },
		{ "the last wins",      "root=/dev/sda1 ro root=UUID=1-2 quiet", "UUID=1-2" },
		{ "none",               "ro quiet",                    NULL },
		{ "nothing",            "",                            NULL },
		{ "like it",            "nfsroot=x rootflags=y rd.root=z", NULL },
		{ "in quotes",          "root=\"LABEL=my root\" ro",   "LABEL=my root" },
		{ "inside quotes",      "x=\"a root=b c\" ro",         NULL },
		{ "init's own",         "root=a -- root=b",            "a" },
		{ "empty",              "root=",                       "" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *root = NULL, *path = scratch_path(state, "cmdline"),
				      *read = NULL;

		assert_row(rows[i].name, cmdline_root_of(rows[i].arguments,
							 strlen(rows[i].arguments), &root) == 0);
		assert_row(rows[i].name,
			   rows[i].root ? root && strcmp(root, rows[i].root) == 0 : !root);
		write_file(path, rows[i].arguments, 0644);
		assert_row(rows[i].name, cmdline_find_root(path, &read) == 0);
		assert_row(rows[i].name,
			   rows[i].root ? read && strcmp(read, rows[i].root) == 0 : !read);
	}
}

static void test_is_by_uuid(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *root;
		bool is;
	} rows[] = {
		{ "ours",             "UUID=" UUID,                                true },
		{ "in capitals",      "UUID=0A1B2C3D-0000-4000-8000-000000000001", true },
		{ "none",             NULL,                                        false },
		{ "empty",            "",                                          false },
		{ "a device",         "/dev/mapper/rootvg-rootlv",                 false },
		{ "another",          "UUID=0a1b2c3d-0000-4000-8000-000000000002", false },
		{ "longer",           "UUID=" UUID "0",                            false },
		{ "of the partition", "PARTUUID=" UUID,                            false },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_row(rows[i].name, cmdline_is_by_uuid(rows[i].root, UUID) == rows[i].is);
}

/* what a root= is added to; NULL = not, and the same text comes back */
static void test_texts(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *key, *before, *after;
	} rows[] = {
		{ "RHEL's LVM",          "options", "title x\nversion 5\noptions root=/dev/mapper/rootvg-rootlv ro $tuned_params\ngrub_class k\n", "title x\nversion 5\noptions root=/dev/mapper/rootvg-rootlv ro $tuned_params " ROOT "\ngrub_class k\n" },
		{ "RHEL 8's variable",   "options", "options $kernelopts $tuned_params\n", "options $kernelopts $tuned_params " ROOT "\n" },
		{ "blanks at the end",   "options", "options root=/dev/sda ro \t\n",       "options root=/dev/sda ro " ROOT " \t\n" },
		{ "no last newline",     "options", "options root=/dev/sda ro",            "options root=/dev/sda ro " ROOT },
		{ "two lines",           "options", "options root=/dev/sda\noptions ro\ninitrd /i\n", "options root=/dev/sda\noptions ro " ROOT "\ninitrd /i\n" },
		{ "another UUID",        "options", "options root=UUID=1-2 ro\n",          "options root=UUID=1-2 ro " ROOT "\n" },
		{ "ours first",          "options", "options " ROOT " ro root=/dev/sda\n", "options " ROOT " ro root=/dev/sda " ROOT "\n" },
		{ "/etc/kernel/cmdline", NULL,      "# mine\nroot=/dev/sda ro\n",          "# mine\nroot=/dev/sda ro " ROOT "\n" },
		{ "init's own",          NULL,      "root=/dev/sda ro -- x root=y\n",       "root=/dev/sda ro " ROOT " -- x root=y\n" },
		{ "CRLF",                NULL,      "root=/dev/sda ro\r\n",                "root=/dev/sda ro " ROOT "\r\n" },

		{ "says so already",     "options", "options " ROOT " ro $tuned_params\n", NULL },
		{ "in capitals",         "options", "options root=UUID=0A1B2C3D-0000-4000-8000-000000000001 ro\n", NULL },
		{ "behind a variable",   "options", "options $tuned_params " ROOT "\n",    NULL },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *after = NULL, *again = NULL, *back = NULL, *own = NULL;
		const char *expected = rows[i].after ? rows[i].after : rows[i].before;

		assert_row(rows[i].name,
			   cmdline_add_root(rows[i].before, rows[i].key, UUID, &after) == 0);
		if (strcmp(after, expected) != 0)
			fail_msg("%s: %s", rows[i].name, after);
		assert_row(rows[i].name, cmdline_add_root(after, rows[i].key, UUID, &again) == 0);
		assert_row(rows[i].name, strcmp(again, after) == 0);
		assert_row(rows[i].name, cmdline_remove_root(after, rows[i].key, UUID, &back) == 0);
		if (strcmp(back, rows[i].before) != 0)
			fail_msg("%s: back: %s", rows[i].name, back);
		/* what was there before us stays */
		if (strcmp(rows[i].name, "ours first") == 0)
			continue;
		assert_row(rows[i].name,
			   cmdline_remove_root(rows[i].before, rows[i].key, UUID, &own) == 0);
		assert_row(rows[i].name, strcmp(own, rows[i].before) == 0);
	}
}

static void test_texts_without_a_root(void **state)
{
	_cleanup_(freep) char *text = NULL, *back = NULL;

	assert_int_equal(cmdline_add_root("title x\n", "options", UUID, &text),
			 CMDLINE_E_OTHER_ROOT);
	assert_int_equal(cmdline_add_root("options quiet\n", "options", UUID, &text),
			 CMDLINE_E_OTHER_ROOT);
	assert_int_equal(cmdline_add_root("root=/dev/sda x=\"a b\n", NULL, UUID, &text),
			 CMDLINE_E_OTHER_ROOT);
	assert_int_equal(cmdline_add_root("", NULL, UUID, &text), CMDLINE_E_OTHER_ROOT);
	/* others have added something behind ours since */
	assert_int_equal(cmdline_remove_root("options root=/dev/sda ro " ROOT " quiet\n", "options",
					     UUID, &back),
			 0);
	assert_string_equal(back, "options root=/dev/sda ro quiet\n");
}

/* as grub-mkconfig, with the root's name that Debian's cloud images have; in a root of its own */
static void put_grub(void **state, const char *name)
{
	_cleanup_(freep) char *script = NULL;

	assert_true(
		asprintf(
			&script,
			"#!/bin/sh\n"
			"GRUB_FORCE_PARTUUID=2\n"
			". %s/etc/default/grub\n"
			"for f in %s/etc/default/grub.d/*.cfg; do [ ! -e $f ] || . $f; done\n"
			"{ echo \"### BEGIN /etc/grub.d/10_linux ###\"\n"
			"  echo \"	linux /vmlinuz-6.1 root=PARTUUID=1 ro $GRUB_CMDLINE_LINUX\"\n"
			"  [ -z \"$GRUB_FORCE_PARTUUID\" ] || "
			"echo \"	linux /vmlinuz-6.1 root=PARTUUID=1 panic=-1\"\n"
			"  echo \"### BEGIN /etc/grub.d/30_os-prober ###\"\n"
			"  echo \"	linux /vmlinuz-other root=/dev/sdz\"\n"
			"  echo \"### END /etc/grub.d/30_os-prober ###\"\n"
			"  echo \"	linux16 /memtest86\"\n"
			"} >$2\n",
			(const char *)*state, (const char *)*state) > 0);
	put(state, name, script, 0755);
}

#define MENU_BEFORE                                                                                \
	"### BEGIN /etc/grub.d/10_linux ###\n"                                                     \
	"	linux /vmlinuz-6.1 root=PARTUUID=1 ro quiet\n"                                           \
	"	linux /vmlinuz-6.1 root=PARTUUID=1 panic=-1\n" MENU_END
#define MENU_AFTER                                                                                 \
	"### BEGIN /etc/grub.d/10_linux ###\n"                                                     \
	"	linux /vmlinuz-6.1 root=PARTUUID=1 ro quiet " ROOT "\n" MENU_END
#define MENU_END                                                                                   \
	"### BEGIN /etc/grub.d/30_os-prober ###\n"                                                 \
	"	linux /vmlinuz-other root=/dev/sdz\n"                                                    \
	"### END /etc/grub.d/30_os-prober ###\n"                                                   \
	"	linux16 /memtest86\n"

static void test_grub_of_debian(void **state)
{
	_cleanup_(freep) char *before = NULL, *set = NULL, *after = NULL, *reset = NULL;
	_cleanup_(freep) char *menu = scratch_path(state, "boot/grub/grub.cfg");
	struct stat status;

	put(state, "etc/default/grub", "GRUB_CMDLINE_LINUX=quiet", 0644);
	put(state, "usr/sbin/update-grub", "", 0755);
	put_grub(state, "usr/sbin/grub-mkconfig");
	put(state, "boot/grub/grub.cfg", MENU_BEFORE, 0600);

	assert_int_equal(cmdline_check_root(*state, UUID, &before), CMDLINE_E_OTHER_ROOT);
	assert_non_null(strstr(before, "line 2 says root=PARTUUID=1"));
	assert_int_equal(cmdline_set_root(*state, UUID, &set), 0);
	assert_null(set);
	assert_int_equal(cmdline_check_root(*state, UUID, &after), 0);
	assert_content(state, "boot/grub/grub.cfg", MENU_AFTER);
	assert_int_equal(stat(menu, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	/* once more */
	assert_int_equal(cmdline_set_root(*state, UUID, &set), 0);
	assert_content(state, "boot/grub/grub.cfg", MENU_AFTER);

	assert_int_equal(cmdline_reset_root(*state, UUID, &reset), 0);
	assert_content(state, "boot/grub/grub.cfg", MENU_BEFORE);
	assert_content(state, "etc/default/grub.d/90-vmcrypt.cfg", NULL);
	assert_content(state, "etc/default/grub", "GRUB_CMDLINE_LINUX=quiet");
}

static void test_grub_without_drop_ins(void **state)
{
	_cleanup_(freep) char *set = NULL, *reset = NULL;

	for (int i = 0; i < 2; i++) {
		const char *defaults =
			i == 0 ? "GRUB_CMDLINE_LINUX=quiet" : "GRUB_CMDLINE_LINUX=quiet\n";

		put(state, "etc/default/grub", defaults, 0644);
		put_grub(state, "usr/sbin/grub2-mkconfig");
		put(state, "boot/grub2/grub.cfg", MENU_BEFORE, 0644);
		assert_int_equal(cmdline_set_root(*state, UUID, &set), 0);
		assert_content(state, "boot/grub2/grub.cfg", MENU_AFTER);
		assert_int_equal(cmdline_reset_root(*state, UUID, &reset), 0);
		assert_content(state, "boot/grub2/grub.cfg", MENU_BEFORE);
		assert_content(state, "etc/default/grub", defaults);
	}
}

/* a change that failed can be taken back without a trace */
static void test_grub_that_does_not_listen(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *tool;
		int r;
		const char *detail;
	} rows[] = {
		{ "fails",        "#!/bin/sh\necho no root here; exit 3\n",                 CMDLINE_E_FAILED,     "no root here" },
		{ "does not care", "#!/bin/sh\ncp ${2%/*}/grub.cfg ${2%/*}/../seen\necho linux /vmlinuz-1 root=/dev/sdz >$2\n",  CMDLINE_E_OTHER_ROOT, "root=/dev/sdz" },
		{ "writes none",  "#!/bin/sh\n>$2\n",                                       CMDLINE_E_OTHER_ROOT, "starts no kernel" },
	};
	/* clang-format on */
	static const char menu[] = "linux /vmlinuz-1 root=/dev/sda\n";

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *detail = NULL, *reset = NULL,
				      *folder = scratch_path(state, "boot/grub");

		put(state, "etc/default/grub", "", 0644);
		put(state, "usr/sbin/update-grub", "", 0755);
		put(state, "usr/sbin/grub-mkconfig", rows[i].tool, 0755);
		put(state, "boot/grub/grub.cfg", menu, 0644);
		assert_row(rows[i].name, cmdline_set_root(*state, UUID, &detail) == rows[i].r);
		assert_row(rows[i].name, detail && strstr(detail, rows[i].detail));
		(void)cmdline_reset_root(*state, UUID, &reset);
		assert_content(state, "etc/default/grub.d/90-vmcrypt.cfg", NULL);
		assert_int_equal(count_entries(folder), 1);
		/* a menu that is wrong never had the name: not when it was about to be taken back
		 */
		if (i == 1)
			assert_content(state, "boot/seen", menu);
		if (rows[i].r == CMDLINE_E_FAILED)
			assert_content(state, "boot/grub/grub.cfg", menu);
	}
}

static void test_entries(void **state)
{
	static const char first[] = "title a\nlinux /vmlinuz-5\ninitrd /i\noptions "
				    "root=/dev/mapper/vg-root ro $tuned_params\n",
			  second[] = "title b\nlinux /vmlinuz-6\noptions " ROOT " ro\n",
			  menu[] = "insmod blscfg\nblscfg\n",
			  memory[] = "title c\nlinux /elf-memtest86+-5.31\n",
			  kernel[] = "root=/dev/mapper/vg-root ro\n";
	_cleanup_(freep) char *detail = NULL, *set = NULL, *after = NULL, *reset = NULL,
			      *tool = NULL, *other = NULL, *told = NULL, *can = NULL;

	put(state, "boot/loader/entries/m-5.conf", first, 0644);
	put(state, "boot/loader/entries/m-6.conf", second, 0644);
	put(state, "boot/loader/entries/memtest.conf", memory, 0644);
	put(state, "boot/loader/entries/old.conf~", "options root=x\n", 0644);
	put(state, "boot/grub2/grub.cfg", menu, 0644);
	put(state, "etc/default/grub", "GRUB_ENABLE_BLSCFG=true\n", 0644);
	put(state, "etc/kernel/cmdline", kernel, 0644);
	put(state, "usr/sbin/grub2-mkconfig", "#!/bin/sh\nexit 1\n", 0755);

	assert_int_equal(cmdline_check_root(*state, UUID, &detail), CMDLINE_E_OTHER_ROOT);
	assert_non_null(strstr(detail, "m-5.conf says root=/dev/mapper/vg-root"));
	assert_int_equal(cmdline_can_set_root(*state, UUID, &can), 0);
	assert_content(state, "boot/loader/entries/m-5.conf", first);
	assert_int_equal(cmdline_set_root(*state, UUID, &set), 0);
	assert_int_equal(cmdline_check_root(*state, UUID, &after), 0);
	assert_content(state, "boot/loader/entries/m-5.conf",
		       "title a\nlinux /vmlinuz-5\ninitrd /i\noptions root=/dev/mapper/vg-root ro "
		       "$tuned_params " ROOT "\n");
	assert_content(state, "boot/loader/entries/m-6.conf", second);
	assert_content(state, "etc/kernel/cmdline", "root=/dev/mapper/vg-root ro " ROOT "\n");
	assert_int_equal(cmdline_reset_root(*state, UUID, &reset), 0);
	assert_content(state, "boot/loader/entries/m-5.conf", first);
	assert_content(state, "boot/loader/entries/m-6.conf", second);
	assert_content(state, "boot/loader/entries/old.conf~", "options root=x\n");
	assert_content(state, "etc/kernel/cmdline", kernel);
	assert_content(state, "etc/default/grub", "GRUB_ENABLE_BLSCFG=true\n");
	assert_content(state, "boot/grub2/grub.cfg", menu);
	assert_content(state, "boot/loader/entries/memtest.conf", memory);

	/* a program of the firmware's may be a kernel */
	put(state, "boot/loader/entries/memtest.conf", "efi /EFI/Linux/m.efi\n", 0644);
	assert_int_equal(cmdline_can_set_root(*state, UUID, &told), CMDLINE_E_OTHER_ROOT);
	assert_non_null(strstr(told, "memtest.conf says root="));
	assert_int_equal(cmdline_set_root(*state, UUID, &tool), CMDLINE_E_OTHER_ROOT);
	assert_non_null(strstr(tool, "memtest.conf says root="));
	/* and so is what has an initramfs */
	put(state, "boot/loader/entries/memtest.conf", "linux /own-6\ninitrd /i\n", 0644);
	assert_int_equal(cmdline_set_root(*state, UUID, &other), CMDLINE_E_OTHER_ROOT);
}

/* as grub2-editenv, for a block of 120 bytes without escapes */
#define EDITENV                                                                                    \
	"#!/bin/sh\n"                                                                              \
	"if [ \"$2\" = list ]; then grep -v '^#' \"$1\"; exit; fi\n"                               \
	"[ ${#3} -le 120 ] || { echo error: environment block too small; exit 1; }\n"              \
	"{ grep -v \"^${3%%=*}=\" \"$1\"; echo \"$3\"; } >\"$1.made\"\n"                           \
	"cat \"$1.made\" >\"$1\"; rm \"$1.made\"\n"

#define BLOCK(kernelopts) "# GRUB Environment Block\nsaved_entry=m-5\nkernelopts=" kernelopts "\n"

/* RHEL 8 behind UEFI: entries say $kernelopts, and the block is a symbolic link */
static void put_kernelopts(void **state, const char *entry, const char *block)
{
	_cleanup_(freep) char *link = scratch_path(state, "boot/grub2/grubenv");

	put(state, "boot/loader/entries/m-5.conf", entry, 0644);
	put(state, "boot/grub2/fonts", "", 0644);
	put(state, "boot/efi/EFI/redhat/grubenv", block, 0600);
	put(state, "usr/bin/grub2-editenv", EDITENV, 0755);
	assert_int_equal(symlink("../efi/EFI/redhat/grubenv", link), 0);
}

static void test_kernelopts(void **state)
{
	static const char entry[] = "linux /vmlinuz-5\noptions $kernelopts $tuned_params\n",
			  named[] =
				  "linux /vmlinuz-5\noptions $kernelopts $tuned_params " ROOT "\n",
			  block[] = BLOCK("root=/dev/mapper/vg-root ro");
	_cleanup_(freep) char *link = scratch_path(state, "boot/grub2/grubenv"),
			      *folder = scratch_path(state, "boot/efi/EFI/redhat");
	_cleanup_(freep) char *detail = NULL, *set = NULL, *late = NULL, *again = NULL,
			      *reset = NULL;
	struct stat status;

	put_kernelopts(state, entry, block);
	assert_int_equal(cmdline_set_root(*state, UUID, &set), 0);
	assert_content(state, "boot/loader/entries/m-5.conf", named);
	assert_content(state, "boot/grub2/grubenv", BLOCK("root=/dev/mapper/vg-root ro " ROOT));
	assert_int_equal(lstat(link, &status), 0);
	assert_true(S_ISLNK(status.st_mode));
	assert_int_equal(stat(link, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(count_entries(folder), 1);

	/* a kernel that is installed later */
	put(state, "boot/loader/entries/m-6.conf", entry, 0644);
	assert_int_equal(cmdline_check_root(*state, UUID, &late), CMDLINE_E_OTHER_ROOT);
	assert_non_null(strstr(late, "m-6.conf"));
	assert_int_equal(cmdline_set_root(*state, UUID, &again), 0);
	assert_int_equal(cmdline_check_root(*state, UUID, &detail), 0);
	assert_content(state, "boot/loader/entries/m-6.conf", named);
	assert_content(state, "boot/grub2/grubenv", BLOCK("root=/dev/mapper/vg-root ro " ROOT));

	assert_int_equal(cmdline_reset_root(*state, UUID, &reset), 0);
	assert_content(state, "boot/loader/entries/m-5.conf", entry);
	assert_content(state, "boot/loader/entries/m-6.conf", entry);
	assert_content(state, "boot/grub2/grubenv", block);
}

/* what the block does not say, or has no room for */
static void test_kernelopts_that_stay(void **state)
{
	static const char entry[] = "options root=/dev/sda ro\n",
			  named[] = "options root=/dev/sda ro " ROOT "\n",
			  full[] = BLOCK("root=/dev/mapper/rootvg-rootlv ro crashkernel=auto "
					 "console=tty1 console=ttyS0 earlyprintk=ttyS0");
	_cleanup_(freep) char *none = NULL, *other = NULL, *failed = NULL, *lost = NULL,
			      *tool = scratch_path(state, "usr/bin/grub2-editenv"),
			      *folder = scratch_path(state, "boot/efi/EFI/redhat");

	put_kernelopts(state, entry, "# GRUB Environment Block\n");
	assert_int_equal(cmdline_set_root(*state, UUID, &none), 0);
	assert_content(state, "boot/grub2/grubenv", "# GRUB Environment Block\n");

	put(state, "boot/grub2/grubenv", BLOCK("ro quiet"), 0600);
	assert_int_equal(cmdline_set_root(*state, UUID, &other), 0);
	assert_content(state, "boot/grub2/grubenv", BLOCK("ro quiet"));

	put(state, "boot/grub2/grubenv", full, 0600);
	put(state, "boot/loader/entries/m-5.conf", entry, 0644);
	assert_int_equal(cmdline_set_root(*state, UUID, &failed), CMDLINE_E_FAILED);
	assert_string_equal(failed, "error: environment block too small");
	assert_content(state, "boot/grub2/grubenv", full);
	assert_int_equal(count_entries(folder), 1);
	/* the entries that are there can be booted all the same */
	assert_content(state, "boot/loader/entries/m-5.conf", named);

	assert_int_equal(unlink(tool), 0);
	assert_int_equal(cmdline_set_root(*state, UUID, &lost), 0);
	assert_content(state, "boot/grub2/grubenv", full);
}

/* what can be told before anything is changed; entries are above */
static void test_can_set_root(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *menu, *tool, *entry;
		int r;
		const char *detail;
	} rows[] = {
		{ "GRUB's tool is there",   "linux /vmlinuz-1 root=/dev/sda\n",     "#!/bin/sh\nexit 1\n", NULL,                                   0,                    NULL },
		{ "nothing makes the menu", "linux /vmlinuz-1 root=/dev/sda\n",     NULL,                  NULL,                                   CMDLINE_E_OTHER_ROOT, "grub.cfg, line 1 says root=/dev/sda" },
		{ "but it is right",        "linux /vmlinuz-1 " ROOT "\n",          NULL,                  NULL,                                   0,                    NULL },
		{ "RHEL 8's variable",      "blscfg\n",                             NULL,                  "options $kernelopts\n",                0,                    NULL },
		{ "an entry without root",  "blscfg\n",                             NULL,                  "linux /vmlinuz-5\noptions quiet\n",    CMDLINE_E_OTHER_ROOT, "m-5.conf says root=" },
		{ "a memory test alone",    "blscfg\n",                             NULL,                  "linux /memtest86+-5.31\n",             CMDLINE_E_OTHER_ROOT, "starts no kernel" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *detail = NULL,
				      *tool = scratch_path(state, "usr/sbin/grub-mkconfig"),
				      *entry = scratch_path(state, "boot/loader/entries/m-5.conf");

		(void)unlink(tool);
		(void)unlink(entry);
		put(state, "boot/grub/grub.cfg", rows[i].menu, 0644);
		if (rows[i].tool)
			put(state, "usr/sbin/grub-mkconfig", rows[i].tool, 0755);
		if (rows[i].entry)
			put(state, "boot/loader/entries/m-5.conf", rows[i].entry, 0644);
		assert_row(rows[i].name, cmdline_can_set_root(*state, UUID, &detail) == rows[i].r);
		assert_row(rows[i].name,
			   rows[i].detail ? detail && strstr(detail, rows[i].detail) : !detail);
		assert_content(state, "boot/grub/grub.cfg", rows[i].menu);
	}
}

static void test_no_loader(void **state)
{
	_cleanup_(freep) char *detail = NULL;

	assert_int_equal(cmdline_can_set_root(*state, UUID, &detail), CMDLINE_E_NO_LOADER);
	assert_int_equal(cmdline_set_root(*state, UUID, &detail), CMDLINE_E_NO_LOADER);
	assert_int_equal(cmdline_reset_root(*state, UUID, &detail), CMDLINE_E_NO_LOADER);
	assert_int_equal(cmdline_set_root(*state, "x\" y", &detail), -EINVAL);
	assert_int_equal(cmdline_set_root(*state, "", &detail), -EINVAL);
	assert_int_equal(count_entries(*state), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_root_of, scratch_make, scratch_remove),
		cmocka_unit_test(test_is_by_uuid),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_texts_without_a_root),
		cmocka_unit_test_setup_teardown(test_grub_of_debian, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_grub_without_drop_ins, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(test_grub_that_does_not_listen, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(test_entries, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_kernelopts, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_kernelopts_that_stay, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(test_can_set_root, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_no_loader, scratch_make, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
