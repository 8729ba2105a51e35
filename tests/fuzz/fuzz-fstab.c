/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any table: encrypting is idempotent, changes as many lines as it says, and goes back to the byte.
 */
#include "boot/fstab.h"
#include "fuzz.h"

static const struct fstab_device device = {
	.path = "/dev/sdc1",
	.uuid = "1b4e",
	.label = "My Data",
	.partition_uuid = "0a1b-02",
	.partition_label = "p",
	.mapping = "data",
};

static size_t count_lines(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static void check(const char *text, const char *spec)
{
	_cleanup_(fstab_entries_clear) struct fstab_entries before = { 0 }, none = { 0 },
							    all = { 0 };
	_cleanup_(freep) char *once = NULL, *twice = NULL, *back = NULL, *other = NULL;
	int r = fstab_encrypt_text(text, &device, spec, &once, &before);

	must(r == (before.n > 0) && r == (strcmp(text, once) != 0));
	must(count_lines(text) == count_lines(once));
	for (size_t i = 0; i < before.n; i++) {
		must(before.entries[i].line >= 1 &&
		     before.entries[i].line <= count_lines(text) + 1);
		must(strstr(text, before.entries[i].original));
	}
	must(fstab_encrypt_text(once, &device, spec, &twice, &none) == 0);
	must(strcmp(once, twice) == 0 && none.n == 0);
	/* also those that need no change: a line that names the mapping is somebody's */
	must(fstab_encrypt_text(text, &device, "X=1", &other, &all) >= 0);
	must(fstab_restore_text(once, &device, &all, &back) == r);
	must(strcmp(back, text) == 0);
}

/* lines that were edited since: must not crash, and must stay as many; without the old ones, none
 * is left that names the mapping */
static void check_edited(const char *text, const char *other)
{
	const struct fstab_device mapping = { .mapping = device.mapping };
	_cleanup_(fstab_entries_clear) struct fstab_entries before = { 0 }, none = { 0 },
							    found = { 0 };
	_cleanup_(freep) char *once = NULL, *back = NULL, *lost = NULL, *again = NULL;

	must(fstab_encrypt_text(text, &device, "/dev/mapper/data", &once, &before) >= 0);
	must(fstab_restore_text(other, &device, &before, &back) >= 0);
	must(count_lines(other) == count_lines(back));
	must(fstab_restore_text(other, &device, &none, &lost) >= 0);
	must(fstab_encrypt_text(lost, &mapping, "X=1", &again, &found) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) char *text = text_from(data, size),
			      *other = text_from(data + size / 2, size - size / 2);

	check(text, NULL);
	check(text, "/dev/mapper/data");
	check_edited(text, other);
	return 0;
}
