/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptctl-options.h"
#include "program/vmcryptctl-recover.h"
#include "test.h"

#define ROOT "11111111-2222-4333-8444-555555555555"
#define LUKS "aaaaaaaa-0000-4000-8000-000000000001"

/* clang-format off */
#define VOLUME(more) "{\"uuid\":\"" ROOT "\",\"header_uuid\":\"" LUKS "\",\"mapping\":\"vmcrypt-" ROOT "\"," \
	"\"device\":\"/dev/sda1\",\"link\":\"/dev/disk/by-partuuid/p1\",\"kind\":\"partition\"," \
	"\"filesystem\":\"ext4\",\"state\":\"Encrypted\"," more "}"
#define ROOT_OF(more) VOLUME("\"mounts\":[\"/\"],\"header\":\"attached\",\"provider\":\"keyvault\",\"key\":\"https://kv1.vault.azure.net/secrets/a/1\"" more)
#define DETACHED "\"mounts\":[\"/data\"],\"header\":\"/boot/vmcrypt/headers/" LUKS ".luks\",\"provider\":\"file\",\"key\":\"/etc/vmcrypt/keys/a.key\""
#define BOOT  "{\"uuid\":\"B007\",\"filesystem\":\"ext4\",\"mounts\":[\"/boot\"],\"device\":\"/dev/sda2\"}"
#define EFI   "{\"uuid\":\"EF10-0001\",\"filesystem\":\"vfat\",\"mounts\":[\"/boot/efi\"]}"
#define PLAIN "{\"uuid\":\"9999-9999\",\"filesystem\":\"xfs\",\"mounts\":[\"/x\"],\"state\":\"NotEncrypted\"}"
#define FOREIGN "{\"uuid\":\"8888-8888\",\"header_uuid\":\"8888-8888\",\"mapping\":\"vg-lv\",\"state\":\"Encrypted\"}"

static const struct {
	const char *name, *json, *volume;
	const char *has[6], *lacks[6];
} rows[] = {
	{ "a root", "[" ROOT_OF("") "," BOOT "," EFI "," PLAIN "]", NULL,
	  { "D=/dev/disk/by-uuid/" LUKS "\n", "N=vmcrypt-" ROOT "\n", "cryptsetup open $D $N\n",
	    "mount /dev/disk/by-uuid/B007 /mnt/boot\n", "mount /dev/disk/by-uuid/EF10-0001 /mnt/boot/efi\n",
	    "chroot /mnt\n" },
	  { "--header", "9999", "key-file=$OS", "moving", "subvolume", "likewise" } },
	{ "of a vault: both ways", "[" ROOT_OF("") "]", NULL,
	  { "jq -r .secret token.json", "/unwrapkey?api-version=7.4", "update-initramfs -u -k all" },
	  { "mount /dev/disk/by-uuid", "@" "device" } },
	{ "a header elsewhere", "[" BOOT "," VOLUME(DETACHED) "]", LUKS,
	  { "H=/run/boot/vmcrypt/headers/" LUKS ".luks\n", "D=/dev/disk/by-partuuid/p1\n",
	    "cryptsetup open --header $H $D $N\n", "key-file=$OS/etc/vmcrypt/keys/a.key --header $H",
	    "umount /run/boot\n" },
	  { "chroot", "az keyvault", "by-uuid/" LUKS, "console" } },
	{ "a header elsewhere, /boot on the root", "[" VOLUME(DETACHED) "]", NULL,
	  { "H=HEADER\n" }, { "umount /run/boot" } },
	{ "still moving", "[" ROOT_OF(",\"state\":\"EncryptionInProgress\"") "]", ROOT,
	  { "still moving" }, { NULL } },
	{ "on a logical volume, btrfs", "[" ROOT_OF(",\"kind\":\"lvm\",\"filesystem\":\"btrfs\"") "]", NULL,
	  { "vgchange --activate y", "subvolume" }, { "mdadm" } },
	{ "one of two", "[" ROOT_OF("") "," VOLUME(DETACHED) "]", NULL,
	  { "likewise" }, { NULL } },
	{ "nothing for a shell to do", "[" ROOT_OF(",\"mapping\":\"vmcrypt-$(reboot)\",\"header_uuid\":\"a;b\",\"mounts\":[\"/\",\"\\u001b[2J\"]") "]", NULL,
	  { "N=NAME\n", "D=DEVICE\n" }, { "reboot)", "a;b", "\033" } },
	{ "no mounts, odd types", "[" VOLUME("\"mounts\":[1,null],\"header\":1") ",1,{\"mounts\":{}}]", NULL,
	  { "mount /dev/mapper/$N /mnt\n" }, { NULL } },
	{ "plain again, before its reboot", "[" ROOT_OF(",\"state\":\"NotEncrypted\"") "]", NULL,
	  { "No volume of this machine is encrypted." }, { "cryptsetup" } },
	{ "none of ours", "[" PLAIN "," FOREIGN "]", NULL,
	  { "No volume of this machine is encrypted." }, { "cryptsetup" } },
};
/* clang-format on */

static char *printed(struct json_object *reply, const char *volume, int *ret)
{
	char *text = NULL;
	size_t size_bytes;
	FILE *out = open_memstream(&text, &size_bytes);

	assert_non_null(out);
	*ret = recover_print(reply, volume, out);
	assert_int_equal(fclose(out), 0);
	return text;
}

static struct json_object *reply_of(const char *json)
{
	struct json_object *volumes = json_tokener_parse(json), *reply = json_object_new_object();

	assert_non_null(volumes);
	assert_int_equal(json_set(reply, "volumes", volumes), 0);
	return reply;
}

static void test_volumes(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(json_putp) struct json_object *reply = reply_of(rows[i].json);
		_cleanup_(freep) char *text = NULL;
		int r;

		text = printed(reply, rows[i].volume, &r);
		assert_int_equal(r, 0);
		for (size_t k = 0; k < 6 && rows[i].has[k]; k++)
			if (!strstr(text, rows[i].has[k]))
				fail_msg("%s: \"%s\" is not in:\n%s", rows[i].name, rows[i].has[k],
					 text);
		for (size_t k = 0; k < 6 && rows[i].lacks[k]; k++)
			if (strstr(text, rows[i].lacks[k]))
				fail_msg("%s: \"%s\" is in:\n%s", rows[i].name, rows[i].lacks[k],
					 text);
	}
}

static void test_unknown(void **state)
{
	_cleanup_(json_putp) struct json_object *reply =
		reply_of("[" ROOT_OF("") "," PLAIN "," FOREIGN "]");
	static const char *const volumes[] = { "", "9999-9999", "8888-8888", "1111" };
	struct json_object *object = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(volumes); i++) {
		_cleanup_(freep) char *text = NULL;
		int r;

		text = printed(reply, volumes[i], &r);
		assert_int_equal(r, RECOVER_E_UNKNOWN);
		assert_string_equal(text, "");
		assert_int_equal(recover_to_json(reply, volumes[i], &object), RECOVER_E_UNKNOWN);
	}
}

static void test_json(void **state)
{
	_cleanup_(json_putp) struct json_object *reply =
		reply_of("[" ROOT_OF("") "," BOOT "," PLAIN "]");
	_cleanup_(json_putp) struct json_object *object = NULL;
	struct json_object *volumes, *volume;

	assert_int_equal(recover_to_json(reply, NULL, &object), 0);
	volumes = json_get_array(object, "volumes");
	assert_int_equal(json_object_array_length(volumes), 1);
	volume = json_object_array_get_idx(volumes, 0);
	assert_string_equal(json_get_string(volume, "header_uuid"), LUKS);
	assert_string_equal(json_get_string(volume, "key"),
			    "https://kv1.vault.azure.net/secrets/a/1");
	assert_non_null(strstr(json_get_string(volume, "text"), "by-uuid/B007"));
}

static void test_general(void **state)
{
	_cleanup_(freep) char *text = NULL;
	size_t size_bytes;
	FILE *out = open_memstream(&text, &size_bytes);

	recover_print_general(out);
	assert_int_equal(fclose(out), 0);
	assert_non_null(strstr(text, "D=DEVICE\n"));
	assert_non_null(strstr(text, "/unwrapkey?"));
	assert_non_null(strstr(text, "--header FILE"));
	assert_null(strstr(text, "(null)"));
}

static void test_command_line(void **state)
{
	/* clang-format off */
	static const struct {
		const char *words[5];
		int r;
		const char *name;
	} lines[] = {
		{ { "x", "recover" }, 0, NULL },
		{ { "x", "recover", "--json=short" }, 0, NULL },
		{ { "x", "recover", ROOT, "--json=pretty" }, 0, ROOT },
		{ { "x", "recover", ROOT, LUKS }, OPTIONS_E_WRONG, NULL },
		{ { "x", "recover", "--volume", ROOT }, OPTIONS_E_WRONG, NULL },
		{ { "x", "recover", "--watch" }, OPTIONS_E_WRONG, NULL },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		_cleanup_(options_clear) struct options options = { .recovery_fd = -1 };
		_cleanup_(freep) char *problem = NULL;
		char *argv[6] = { 0 };
		int argc = 0;

		for (; argc < 5 && lines[i].words[argc]; argc++)
			argv[argc] = (char *)lines[i].words[argc];
		assert_int_equal(options_parse(argc, argv, &options, &problem), lines[i].r);
		if (lines[i].r != 0)
			continue;
		assert_int_equal(options.verb, VERB_RECOVER);
		if (lines[i].name)
			assert_string_equal(options.name, lines[i].name);
		else
			assert_null(options.name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_volumes),      cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_json),         cmocka_unit_test(test_general),
		cmocka_unit_test(test_command_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
