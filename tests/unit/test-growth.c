/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* what a volume does not use yet of its device, but for the filesystem: that takes a real one */
#include "test.h"
#include "volume/growth.h"

#define MIB    1048576ULL
#define OFFSET (16 * MIB)

static void test_find(void **state)
{
	/* clang-format off */
	static const struct {
		const char *promise;
		unsigned sector_bytes;
		uint64_t device_bytes, mapping_bytes;
		uint64_t token_bytes; /* 0 = attached */
		uint64_t missing_bytes;
		bool is_header_behind;
	} rows[] = {
		{ "as large as it can be",                    4096, 64 * MIB,        48 * MIB, 0,        0,        false },
		{ "the device has grown",                     4096, 96 * MIB,        48 * MIB, 0,        32 * MIB, false },
		{ "what is no whole sector does not count",   4096, 64 * MIB + 3584, 48 * MIB, 0,        0,        false },
		{ "unless sectors are small",                  512, 64 * MIB + 3584, 48 * MIB, 0,        3584,     false },
		{ "a detached header that knows it all",      4096, 64 * MIB,        64 * MIB, 64 * MIB, 0,        false },
		{ "a detached header that does not know yet", 4096, 96 * MIB,        96 * MIB, 64 * MIB, 0,        true },
		{ "nor does its mapping",                     4096, 96 * MIB,        64 * MIB, 64 * MIB, 32 * MIB, true },
		{ "no rest is told to a detached header",     4096, 64 * MIB + 512,  64 * MIB, 64 * MIB, 0,        false },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct volume backing = { .kind = VOLUME_KIND_DISK,
					  .size_bytes = rows[i].device_bytes };
		struct volume mapped = { .kind = VOLUME_KIND_CRYPT,
					 .size_bytes = rows[i].mapping_bytes };
		struct inventory inventory = { .volumes = &backing, .n = 1 };
		bool is_detached = rows[i].token_bytes > 0;
		struct header_token token = { .device = is_detached ? (char *)"/dev/sdc" : NULL,
					      .device_bytes = rows[i].token_bytes };
		struct header_info header = {
			.token = &token,
			.is_detached = is_detached,
			.sector_bytes = rows[i].sector_bytes,
			.data_bytes = rows[i].device_bytes - (is_detached ? 0 : OFFSET),
		};
		struct growth growth;

		assert_row(rows[i].promise,
			   growth_find(&inventory, &backing, &mapped, &header, &growth) == 0);
		assert_row(rows[i].promise, growth.mapping_bytes == rows[i].missing_bytes);
		assert_row(rows[i].promise, growth.is_header_behind == rows[i].is_header_behind);
		assert_row(rows[i].promise, growth.partition_bytes == 0);
		assert_row(rows[i].promise,
			   growth_is_none(&growth) ==
				   (rows[i].missing_bytes == 0 && !rows[i].is_header_behind));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_find) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
