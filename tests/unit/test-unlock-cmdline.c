/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/unlock-cmdline.h"
#include "test.h"

#define UUID "0f8a1c52-6d3e-4b7a-9c61-2e5d7f3b9a10"

static void test_root(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *cmdline, *uuid; /* NULL: unknown */
	} rows[] = {
		{ "UUID",                    "BOOT_IMAGE=/vmlinuz root=UUID=" UUID " ro quiet\n",  UUID },
		{ "at the end",              "ro root=UUID=" UUID,                                 UUID },
		{ "in quotes",               "root=\"UUID=" UUID "\" ro",                          UUID },
		{ "a link to it",            "root=/dev/disk/by-uuid/" UUID " ro",                 UUID },
		{ "our mapping",             "root=/dev/mapper/vmcrypt-" UUID " ro",               UUID },
		{ "the last one holds",      "root=/dev/sda1 root=UUID=" UUID,                     UUID },
		{ "another one holds",       "root=UUID=" UUID " root=/dev/sda1",                  NULL },
		{ "of somebody's own",       "fallbackroot=UUID=" UUID,                            NULL },
		{ "no root",                 "ro quiet",                                           NULL },
		{ "nothing",                 "",                                                   NULL },
		{ "no value",                "root=UUID=",                                         NULL },
		{ "a path behind it",        "root=/dev/disk/by-uuid/" UUID "/../sda ro",          NULL },
		{ "a path in it",            "root=UUID=../../sda",                                NULL },
		{ "longer than any",         "root=UUID=" UUID UUID,                               NULL },
		{ "of another name",         "root=LABEL=root",                                    NULL },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *uuid = NULL, *mapping = NULL;
		int r = unlock_cmdline_root(rows[i].cmdline, &uuid, &mapping);

		assert_row(rows[i].name, r == (rows[i].uuid ? 0 : UNLOCK_CMDLINE_E_UNKNOWN));
		if (!rows[i].uuid) {
			assert_row(rows[i].name, !uuid && !mapping);
			continue;
		}
		assert_string_equal(uuid, rows[i].uuid);
		assert_string_equal(mapping, "vmcrypt-" UUID);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
