/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"
#include "volume/geometry.h"

#define EDITS_MAX 10

/* Bytes put into an empty block; the offsets are those of the on-disk formats. */
struct edit {
	size_t offset, size_bytes;
	uint64_t value;
	bool is_big;
};

#define LE16(at, v)                                                                                \
	{                                                                                          \
		at, 2, v, false                                                                    \
	}
#define LE32(at, v)                                                                                \
	{                                                                                          \
		at, 4, v, false                                                                    \
	}
#define LE64(at, v)                                                                                \
	{                                                                                          \
		at, 8, v, false                                                                    \
	}
#define BE16(at, v)                                                                                \
	{                                                                                          \
		at, 2, v, true                                                                     \
	}
#define BE32(at, v)                                                                                \
	{                                                                                          \
		at, 4, v, true                                                                     \
	}
#define BE64(at, v)                                                                                \
	{                                                                                          \
		at, 8, v, true                                                                     \
	}
#define BYTE(at, v)                                                                                \
	{                                                                                          \
		at, 1, v, false                                                                    \
	}

#define EXT_SUPER   LE16(1024 + 0x38, 0xef53)
#define XFS_SUPER   BE32(0, 0x58465342), BE32(4, 4096)
#define BTRFS_MAGIC LE64(0x40, 0x4d5f53665248425f) /* "_BHRfS_M" */

static void build(uint8_t block[GEOMETRY_BLOCK_BYTES], const struct edit *edits)
{
	memset(block, 0, GEOMETRY_BLOCK_BYTES);
	for (size_t i = 0; i < EDITS_MAX && edits[i].size_bytes > 0; i++)
		for (size_t k = 0; k < edits[i].size_bytes; k++)
			block[edits[i].offset +
			      (edits[i].is_big ? edits[i].size_bytes - 1 - k : k)] =
				(uint8_t)(edits[i].value >> (8 * k));
}

static void test_parse(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *type;
		struct edit edits[EDITS_MAX];
		int r;
		struct geometry expected;
	} rows[] = {
		{ "ext4, 4 KiB blocks", "ext4", { EXT_SUPER, LE32(1028, 1000), LE32(1036, 10), LE32(1048, 2) }, 0,
		  { .bytes = 4096000, .block_bytes = 4096, .unit_bytes = 4096, .free_bytes = 40960, .devices = 1 } },
		{ "ext2, 1 KiB blocks", "ext2", { EXT_SUPER, LE32(1028, 1000) }, 0,
		  { .bytes = 1024000, .block_bytes = 1024, .unit_bytes = 1024, .devices = 1 } },
		{ "ext4 beyond 16 TiB", "ext4", { EXT_SUPER, LE32(1028, 7), LE32(1024 + 0x150, 1), LE32(1048, 2), LE32(1024 + 0x60, 0x80) }, 0,
		  { .bytes = ((1ULL << 32) + 7) * 4096, .block_bytes = 4096, .unit_bytes = 4096, .devices = 1 } },
		{ "ext4, high half unused", "ext4", { EXT_SUPER, LE32(1028, 7), LE32(1024 + 0x150, 1) }, 0,
		  { .bytes = 7168, .block_bytes = 1024, .unit_bytes = 1024, .devices = 1 } },
		{ "ext4 with errors", "ext4", { EXT_SUPER, LE16(1024 + 0x3a, 3) }, 0,
		  { .block_bytes = 1024, .unit_bytes = 1024, .devices = 1, .has_errors = true } },
		{ "ext4 that counted errors", "ext4", { EXT_SUPER, LE32(1024 + 0x194, 1) }, 0,
		  { .block_bytes = 1024, .unit_bytes = 1024, .devices = 1, .has_errors = true } },
		{ "ext4, journal to replay", "ext4", { EXT_SUPER, LE32(1024 + 0x60, 4) }, 0,
		  { .block_bytes = 1024, .unit_bytes = 1024, .devices = 1, .needs_recovery = true } },
		{ "ext4, external journal", "ext4", { EXT_SUPER, LE32(1024 + 0xe4, 0x810) }, 0,
		  { .block_bytes = 1024, .unit_bytes = 1024, .devices = 2 } },
		{ "ext4, stable inodes", "ext4", { EXT_SUPER, LE32(1024 + 0x5c, 0x800) }, 0,
		  { .block_bytes = 1024, .unit_bytes = 1024, .devices = 1, .is_rigid = true } },
		{ "ext4, impossible blocks", "ext4", { EXT_SUPER, LE32(1048, 7) }, -EBADMSG, { 0 } },
		{ "ext4, size that overflows", "ext4", { EXT_SUPER, LE32(1024 + 0x150, UINT32_MAX), LE32(1048, 2), LE32(1024 + 0x60, 0x80) }, -EBADMSG, { 0 } },
		{ "nothing", "ext4", { { 0 } }, -EBADMSG, { 0 } },
		{ "xfs, 512-byte sectors", "xfs", { XFS_SUPER, BE64(8, 100), BE64(48, 1), BE32(84, 25), BE32(88, 4), BE16(102, 512), BE64(144, 9) }, 0,
		  { .bytes = 409600, .block_bytes = 4096, .unit_bytes = 512, .free_bytes = 36864, .devices = 1, .group_bytes = 102400, .groups = 4 } },
		{ "xfs, log elsewhere", "xfs", { XFS_SUPER, BE16(102, 4096) }, 0,
		  { .block_bytes = 4096, .unit_bytes = 4096, .devices = 2 } },
		{ "xfs, realtime device", "xfs", { XFS_SUPER, BE64(16, 5), BE64(48, 1), BE16(102, 512) }, 0,
		  { .block_bytes = 4096, .unit_bytes = 512, .devices = 2 } },
		{ "xfs in repair", "xfs", { XFS_SUPER, BE64(48, 1), BE16(102, 512), BE32(216, 0x10) }, 0,
		  { .block_bytes = 4096, .unit_bytes = 512, .devices = 1, .has_errors = true } },
		{ "xfs half made", "xfs", { XFS_SUPER, BE64(48, 1), BE16(102, 512), BYTE(126, 1) }, 0,
		  { .block_bytes = 4096, .unit_bytes = 512, .devices = 1, .has_errors = true } },
		{ "xfs, no sector size", "xfs", { XFS_SUPER }, -EBADMSG, { 0 } },
		{ "xfs, odd block size", "xfs", { BE32(0, 0x58465342), BE32(4, 4097), BE16(102, 512) }, -EBADMSG, { 0 } },
		{ "btrfs", "btrfs", { BTRFS_MAGIC, LE64(0x88, 1), LE32(0x90, 4096), LE64(0xc9, 3), LE64(0xd1, 81920), LE64(0xd9, 40960) }, 0,
		  { .bytes = 81920, .block_bytes = 4096, .unit_bytes = 4096, .free_bytes = 40960, .devices = 1, .device_id = 3 } },
		{ "btrfs of two", "btrfs", { BTRFS_MAGIC, LE64(0x88, 2), LE32(0x90, 4096) }, 0,
		  { .block_bytes = 4096, .unit_bytes = 4096, .devices = 2 } },
		{ "btrfs of none", "btrfs", { BTRFS_MAGIC, LE32(0x90, 4096) }, -EBADMSG, { 0 } },
		{ "btrfs fuller than full", "btrfs", { BTRFS_MAGIC, LE64(0x88, 1), LE32(0x90, 4096), LE64(0xd9, 1) }, -EBADMSG, { 0 } },
		{ "a type that is not ours", "vfat", { { 0 } }, -EOPNOTSUPP, { 0 } },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct geometry *expected = &rows[i].expected;
		uint8_t block[GEOMETRY_BLOCK_BYTES];
		struct geometry found = { 0 };

		build(block, rows[i].edits);
		assert_row(rows[i].name, geometry_parse(rows[i].type, block, &found) == rows[i].r);
		assert_row(rows[i].name, found.bytes == expected->bytes);
		assert_row(rows[i].name, found.block_bytes == expected->block_bytes);
		assert_row(rows[i].name, found.unit_bytes == expected->unit_bytes);
		assert_row(rows[i].name, found.free_bytes == expected->free_bytes);
		assert_row(rows[i].name, found.devices == expected->devices);
		assert_row(rows[i].name, found.device_id == expected->device_id);
		assert_row(rows[i].name, found.group_bytes == expected->group_bytes);
		assert_row(rows[i].name, found.groups == expected->groups);
		assert_row(rows[i].name, found.has_errors == expected->has_errors);
		assert_row(rows[i].name, found.needs_recovery == expected->needs_recovery);
		assert_row(rows[i].name, found.is_rigid == expected->is_rigid);
	}
}

static void test_read_needs_a_whole_block(void **state)
{
	_cleanup_(freep) char *path = scratch_path(state, "short");
	struct geometry geometry;

	write_file(path, "XFSB", 0600);
	assert_int_equal(geometry_read(path, "xfs", &geometry), -EBADMSG);
	assert_int_equal(geometry_read(path, "vfat", &geometry), -EOPNOTSUPP);
	assert_int_equal(geometry_read("/nonexistent", "xfs", &geometry), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test_setup_teardown(test_read_needs_a_whole_block, scratch_make,
						scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
