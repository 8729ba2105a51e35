/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"
#include "volume/role.h"

#define NO_PARENT 99
#define ROWS_MAX  12

/* One device of a machine: what was read of it, and what shall be made of it. */
struct row {
	const char *name;
	size_t parent; /* row of what it lies on */
	struct volume volume;
	const char *target; /* mounted here */
	enum volume_role role;
	const char *excuse;    /* asked for Data */
	const char *excuse_os; /* asked for OS */
};

#define MAPPED   .kind = VOLUME_KIND_CRYPT, .filesystem = (char *)"ext4", .uuid = (char *)"u"
#define EXT4     .filesystem = (char *)"ext4", .uuid = (char *)"u"
#define PART     .kind = VOLUME_KIND_PARTITION
#define TABLE    .table_type = (char *)"gpt"
#define MEMBER   .filesystem = (char *)"LVM2_member"
#define ESP_TYPE .partition_type = (char *)"c12a7328-f81f-11d2-ba4b-00a0c93ec93b"

/* clang-format off */
static const struct row plain_disks[] = {
	{ "OS disk",               NO_PARENT, { TABLE },                     NULL,        VOLUME_ROLE_CONTAINER, "container",  "container" },
	{ "root",                  0,         { PART, EXT4 },                "/",         VOLUME_ROLE_OS,        "other-type", "none" },
	{ "EFI, not mounted",      0,         { PART, ESP_TYPE, .filesystem = (char *)"vfat" }, NULL, VOLUME_ROLE_BOOT, "boot", "boot" },
	{ "/boot",                 0,         { PART, EXT4 },                "/boot",     VOLUME_ROLE_BOOT,      "boot",       "boot" },
	{ "/home on the OS disk",  0,         { PART, EXT4 },                "/home",     VOLUME_ROLE_OS,        "other-type", "none" },
	{ "whole data disk",       NO_PARENT, { EXT4 },                      "/data",     VOLUME_ROLE_DATA,      "none",       "other-type" },
	{ "read-only disk",        NO_PARENT, { TABLE, .is_read_only = true }, NULL,      VOLUME_ROLE_CONTAINER, "container",  "container" },
	{ "partition of it",       6,         { PART, EXT4 },                "/ro",       VOLUME_ROLE_DATA,      "read-only",  "read-only" },
	{ "only in fstab",         NO_PARENT, { EXT4, .has_fstab_entry = true }, NULL,    VOLUME_ROLE_DATA,      "none",       "other-type" },
	{ "nobody's",              NO_PARENT, { EXT4 },                      NULL,        VOLUME_ROLE_DATA,      "not-mounted", "other-type" },
	{ "empty disk",            NO_PARENT, { .size_bytes = 1 },           NULL,        VOLUME_ROLE_DATA,      "no-filesystem", "other-type" },
	{ "table, no partition",   NO_PARENT, { TABLE },                     NULL,        VOLUME_ROLE_CONTAINER, "container",  "container" },
};

static const struct row platform[] = {
	{ "resource disk",         NO_PARENT, { TABLE, .is_resource_disk = true }, NULL,  VOLUME_ROLE_CONTAINER, "container",  "container" },
	{ "its partition",         0,         { PART, EXT4 },                "/mnt",      VOLUME_ROLE_RESOURCE,  "resource",   "resource" },
	{ "as delivered",          NO_PARENT, { .filesystem = (char *)"ntfs", .label = (char *)"Temporary Storage" }, NULL, VOLUME_ROLE_RESOURCE, "resource", "resource" },
	{ "swap on it",            0,         { PART, .filesystem = (char *)"swap" }, NULL, VOLUME_ROLE_RESOURCE, "resource",  "resource" },
	{ "key volume by label",   NO_PARENT, { .filesystem = (char *)"vfat", .label = (char *)"BEK VOLUME" }, NULL, VOLUME_ROLE_BEK, "bek", "bek" },
	{ "key volume by link",    NO_PARENT, { TABLE, .is_bek_disk = true }, NULL,       VOLUME_ROLE_CONTAINER, "container",  "container" },
	{ "its partition",         5,         { PART, .filesystem = (char *)"vfat" }, NULL, VOLUME_ROLE_BEK,     "bek",        "bek" },
	{ "a person's own BEK",    NO_PARENT, { EXT4, .label = (char *)"BEK VOLUME" }, "/bek", VOLUME_ROLE_DATA, "none",      "other-type" },
	{ "swap partition",        NO_PARENT, { PART, .filesystem = (char *)"swap" }, NULL, VOLUME_ROLE_SWAP,    "swap",       "swap" },
	{ "active, unformatted",   NO_PARENT, { PART, .is_swap_active = true }, NULL,     VOLUME_ROLE_SWAP,      "swap",       "swap" },
	{ "ephemeral OS disk",     NO_PARENT, { EXT4, .is_resource_disk = true }, "/",    VOLUME_ROLE_OS,        "other-type", "none" },
	{ "BIOS boot",             NO_PARENT, { PART, .partition_type = (char *)"21686148-6449-6E6F-744E-656564454649" }, NULL, VOLUME_ROLE_BOOT, "boot", "boot" },
};

static const struct row stacks[] = {
	{ "physical volume",       NO_PARENT, { MEMBER },                    NULL,        VOLUME_ROLE_CONTAINER, "container",  "container" },
	{ "logical volume",        0,         { .kind = VOLUME_KIND_LVM, EXT4 }, "/data", VOLUME_ROLE_DATA,      "none",       "other-type" },
	{ "idle physical volume",  NO_PARENT, { MEMBER },                    NULL,        VOLUME_ROLE_CONTAINER, "container",  "container" },
	{ "our volume",            NO_PARENT, { .filesystem = (char *)"crypto_LUKS", .uuid = (char *)"l" }, NULL, VOLUME_ROLE_CONTAINER, "encrypted", "encrypted" },
	{ "its mapping",           3,         { MAPPED },                    "/secret",   VOLUME_ROLE_DATA,      "encrypted",  "encrypted" },
	{ "a locked volume",       NO_PARENT, { .filesystem = (char *)"crypto_LUKS", .uuid = (char *)"m" }, NULL, VOLUME_ROLE_DATA, "encrypted", "encrypted" },
	{ "PV on a mapping",       7,         { .kind = VOLUME_KIND_CRYPT, MEMBER }, NULL, VOLUME_ROLE_CONTAINER, "container", "container" },
	{ "device with detached header", NO_PARENT, { EXT4 },                NULL,        VOLUME_ROLE_CONTAINER, "container",  "container" },
	{ "LV on an encrypted PV", 6,         { .kind = VOLUME_KIND_LVM, EXT4 }, "/deep", VOLUME_ROLE_DATA,      "encrypted",  "encrypted" },
	{ "swap on a mapping",     3,         { .kind = VOLUME_KIND_CRYPT, .filesystem = (char *)"swap" }, NULL, VOLUME_ROLE_SWAP, "encrypted", "encrypted" },
};

static const struct row shared_os[] = {
	{ "PV of the OS",          NO_PARENT, { MEMBER },                    NULL,        VOLUME_ROLE_CONTAINER, "container",  "container" },
	{ "root LV",               0,         { .kind = VOLUME_KIND_LVM, EXT4 }, "/",     VOLUME_ROLE_OS,        "other-type", "none" },
	{ "var LV",                0,         { .kind = VOLUME_KIND_LVM, EXT4 }, "/var",  VOLUME_ROLE_OS,        "other-type", "none" },
	{ "usr on another disk",   NO_PARENT, { EXT4 },                      "/usr",      VOLUME_ROLE_OS,        "other-type", "none" },
	{ "boot from fstab",       NO_PARENT, { EXT4, .fstab_target = (char *)"/boot", .has_fstab_entry = true }, NULL, VOLUME_ROLE_BOOT, "boot", "boot" },
	{ "srv elsewhere",         NO_PARENT, { EXT4 },                      "/srv",      VOLUME_ROLE_DATA,      "none",       "other-type" },
};

static const struct row refused[] = {
	{ "loop",                  NO_PARENT, { .kind = VOLUME_KIND_LOOP, EXT4 }, "/a",   VOLUME_ROLE_DATA,      "unsupported-device", "unsupported-device" },
	{ "loop with partitions",  NO_PARENT, { .kind = VOLUME_KIND_LOOP, TABLE }, NULL,  VOLUME_ROLE_CONTAINER, "container",  "container" },
	{ "partition of a loop",   1,         { PART, EXT4 },                "/b",        VOLUME_ROLE_DATA,      "unsupported-device", "unsupported-device" },
	{ "multipath or such",     NO_PARENT, { .kind = VOLUME_KIND_OTHER, EXT4 }, "/c",  VOLUME_ROLE_DATA,      "unsupported-device", "unsupported-device" },
	{ "USB stick",             NO_PARENT, { EXT4, .is_removable = true }, "/d",       VOLUME_ROLE_DATA,      "removable",  "removable" },
	{ "vfat",                  NO_PARENT, { .filesystem = (char *)"vfat", .uuid = (char *)"A-B" }, "/e", VOLUME_ROLE_DATA, "unsupported-filesystem", "other-type" },
	{ "zeroed UUID",           NO_PARENT, { .filesystem = (char *)"ext4" }, "/f",     VOLUME_ROLE_DATA,      "no-uuid",    "other-type" },
	{ "btrfs of two",          NO_PARENT, { .filesystem = (char *)"btrfs", .uuid = (char *)"b", .filesystem_devices = 2 }, "/g", VOLUME_ROLE_DATA, "several-devices", "other-type" },
	{ "two formats",           NO_PARENT, { EXT4, .has_other_signatures = true }, "/h", VOLUME_ROLE_DATA,    "ambivalent", "other-type" },
	{ "BitLocker",             NO_PARENT, { .filesystem = (char *)"BitLocker" }, NULL, VOLUME_ROLE_DATA,     "encrypted",  "encrypted" },
	{ "external journal",      NO_PARENT, { .filesystem = (char *)"jbd" }, NULL,      VOLUME_ROLE_CONTAINER, "container",  "container" },
};
/* clang-format on */

static void check_machine(const struct row *rows, size_t n)
{
	struct volume volumes[ROWS_MAX];
	struct volume_mount mounts[ROWS_MAX] = { 0 };
	size_t parents[ROWS_MAX], children[ROWS_MAX];
	struct inventory inventory = { .volumes = volumes, .n = n };

	assert_true(n <= ROWS_MAX);
	for (size_t i = 0; i < n; i++)
		volumes[i] = rows[i].volume;
	for (size_t i = 0; i < n; i++) {
		if (rows[i].target) {
			mounts[i].target = (char *)rows[i].target;
			volumes[i].mounts = &mounts[i];
			volumes[i].n_mounts = 1;
		}
		if (rows[i].parent == NO_PARENT)
			continue;
		parents[i] = rows[i].parent;
		volumes[i].parents = &parents[i];
		volumes[i].n_parents = 1;
		children[rows[i].parent] = i;
		volumes[rows[i].parent].children = &children[rows[i].parent];
		volumes[rows[i].parent].n_children = 1;
	}
	assert_int_equal(role_assign_all(&inventory), 0);
	for (size_t i = 0; i < n; i++) {
		const char *data, *os;

		data = volume_excuse_to_string(volume_excuse(&inventory, &volumes[i], false, true));
		os = volume_excuse_to_string(volume_excuse(&inventory, &volumes[i], true, false));
		assert_row(rows[i].name, volumes[i].role == rows[i].role);
		assert_row(rows[i].name, strcmp(data, rows[i].excuse) == 0);
		assert_row(rows[i].name, strcmp(os, rows[i].excuse_os) == 0);
	}
}

static void test_roles_and_excuses(void **state)
{
	check_machine(plain_disks, ARRAY_SIZE(plain_disks));
	check_machine(platform, ARRAY_SIZE(platform));
	check_machine(stacks, ARRAY_SIZE(stacks));
	check_machine(shared_os, ARRAY_SIZE(shared_os));
	check_machine(refused, ARRAY_SIZE(refused));
}

static void test_every_excuse_has_words(void **state)
{
	for (enum volume_excuse i = VOLUME_EXCUSE_NONE; i <= VOLUME_EXCUSE_SEVERAL_DEVICES; i++) {
		assert_non_null(volume_excuse_to_string(i));
		assert_non_null(volume_excuse_sentence(i));
		for (enum volume_excuse k = VOLUME_EXCUSE_NONE; k < i; k++)
			assert_string_not_equal(volume_excuse_to_string(i),
						volume_excuse_to_string(k));
	}
}

static void test_find_uuid_prefers_what_nothing_lies_on(void **state)
{
	size_t one = 1;
	struct volume volumes[] = {
		{ .name = (char *)"sdc", .uuid = (char *)"AA", .children = &one, .n_children = 1 },
		{ .name = (char *)"dm-0", .uuid = (char *)"aa", .mapping = (char *)"m" },
		{ .name = (char *)"sdd", .uuid = (char *)"bb", .children = &one, .n_children = 1 },
	};
	struct inventory inventory = { .volumes = volumes, .n = ARRAY_SIZE(volumes) };

	assert_ptr_equal(inventory_find_uuid(&inventory, "aA"), &volumes[1]);
	assert_ptr_equal(inventory_find_uuid(&inventory, "BB"), &volumes[2]);
	assert_null(inventory_find_uuid(&inventory, "cc"));
	assert_null(inventory_find_uuid(&inventory, NULL));
	assert_ptr_equal(inventory_find_mapping(&inventory, "m"), &volumes[1]);
	assert_null(inventory_find_mapping(&inventory, NULL));
}

/* A header that the kernel takes for a partition table; beside it, partitions that are some. */
static void test_phantoms_are_dropped(void **state)
{
	static const struct {
		const char *name;
		struct volume volume;
		size_t parent;
		bool stays;
	} rows[] = {
		{ "array with a header", { .kind = VOLUME_KIND_MD, MEMBER }, NO_PARENT, true },
		{ "phantom", { PART }, 0, false },
		{ "disk with a table", { TABLE }, NO_PARENT, true },
		{ "its partition", { PART }, 2, true },
		{ "whole filesystem", { EXT4 }, NO_PARENT, true },
		{ "swapped to", { PART, .is_swap_active = true }, 4, true },
		{ "phantom with a format", { PART, EXT4 }, 4, false },
		{ "mapping", { MAPPED }, 0, true },
	};
	struct volume *volumes = calloc(ARRAY_SIZE(rows), sizeof(*volumes));
	struct inventory *inventory = calloc(1, sizeof(*inventory));
	size_t n = 0;

	assert_non_null(volumes);
	assert_non_null(inventory);
	*inventory = (struct inventory){ .volumes = volumes, .n = ARRAY_SIZE(rows) };
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct volume *row = &rows[i].volume;

		/* what is dropped is freed */
		volumes[i] = (struct volume){
			.kind = row->kind,
			.is_swap_active = row->is_swap_active,
			.name = strdup(rows[i].name),
			.filesystem = row->filesystem ? strdup(row->filesystem) : NULL,
			.table_type = row->table_type ? strdup(row->table_type) : NULL,
			.parents = calloc(1, sizeof(size_t)),
			.children = calloc(ARRAY_SIZE(rows), sizeof(size_t)),
		};
		if (rows[i].parent == NO_PARENT)
			continue;
		volumes[i].parents[volumes[i].n_parents++] = rows[i].parent;
		volumes[rows[i].parent].children[volumes[rows[i].parent].n_children++] = i;
	}
	assert_int_equal(inventory_drop_phantoms(inventory), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].stays)
			assert_string_equal(inventory->volumes[n++].name, rows[i].name);
	assert_int_equal(inventory->n, n);
	assert_int_equal(inventory->volumes[0].n_children,
			 1); /* the mapping, under its new number */
	assert_int_equal(inventory->volumes[0].children[0], 5);
	assert_int_equal(inventory->volumes[1].children[0], 2);
	assert_int_equal(inventory->volumes[3].n_children, 1);
	assert_int_equal(inventory->volumes[4].parents[0], 3);
	inventory_free(inventory);
}

static void test_json_is_text(void **state)
{
	static const struct {
		const char *label, *shown;
	} rows[] = {
		{ "data", "data" },
		{ "Daten für Zoë", "Daten für Zoë" },
		{ "\xf0\x9f\x92\xbe", "\xf0\x9f\x92\xbe" },
		{ "a\xff"
		  "b\n",
		  "a?b?" },
		{ "\xc0\xaf", "??" },
		{ "\xed\xa0\x80", "???" },
		{ "cut \xe2\x82", "cut ??" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(json_putp) struct json_object *object = NULL;
		struct volume volume = { .name = (char *)"sdc", .label = (char *)rows[i].label };
		struct inventory inventory = { .volumes = &volume, .n = 1 };

		assert_int_equal(volume_to_json(&inventory, &volume, &object), 0);
		assert_string_equal(json_get_string(object, "label"), rows[i].shown);
		assert_null(json_get_string(object, "uuid"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_roles_and_excuses),
		cmocka_unit_test(test_every_excuse_has_words),
		cmocka_unit_test(test_find_uuid_prefers_what_nothing_lies_on),
		cmocka_unit_test(test_phantoms_are_dropped),
		cmocka_unit_test(test_json_is_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
