/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any table: adding and pointing are idempotent and keep what is there, removing gives back every
 * byte. */
#include "boot/crypttab.h"
#include "fuzz.h"

static void check(const char *text, const struct crypttab_entry *entry)
{
	_cleanup_(freep) char *without = NULL, *once = NULL, *twice = NULL, *back = NULL;
	int r = crypttab_add_text(text, entry, &once);

	must(r == 0 || r == CRYPTTAB_E_TAKEN);
	must((r == 0) == (once != NULL));
	must(crypttab_remove_text(text, entry->name, &without) == 0);
	must(strlen(without) <= strlen(text));
	if (r != 0) {
		must(strcmp(without, text) != 0);
		return;
	}
	must(strncmp(once, text, strlen(text)) == 0);
	must(crypttab_add_text(once, entry, &twice) == 0 && strcmp(once, twice) == 0);
	must(crypttab_remove_text(once, entry->name, &back) == 0);
	/* it stood there before: then it was not ours, and removing it is a change */
	must(strcmp(back, strcmp(once, text) == 0 ? without : text) == 0);
}

static size_t count_lines(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static void check_pointed(const char *text, const struct crypttab_entry *entry)
{
	_cleanup_(freep) char *once = NULL, *twice = NULL, *added = NULL, *without = NULL,
			      *rest = NULL;

	must(crypttab_point_text(text, entry, &once) == 0);
	must(crypttab_point_text(once, entry, &twice) == 0 && strcmp(once, twice) == 0);
	/* it is there now, for whoever looks for it */
	must(crypttab_add_text(once, entry, &added) == 0 && strcmp(once, added) == 0);
	must(crypttab_remove_text(text, entry->name, &without) == 0);
	must(crypttab_remove_text(once, entry->name, &rest) == 0 && strcmp(rest, without) == 0);
	must(strcmp(without, text) == 0 || count_lines(once) == count_lines(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct crypttab_entry plain = { .name = (char *)"data",
					      .device = (char *)"UUID=0f8a" };
	const struct crypttab_entry detached = { .name = (char *)"data",
						 .device = (char *)"/dev/sdc",
						 .header = (char *)"/boot/h" };
	const struct crypttab_entry early = { .name = (char *)"data",
					      .device = (char *)"UUID=0f8a",
					      .is_initrd = true };
	_cleanup_(freep) char *text = text_from(data, size);

	check(text, &plain);
	check(text, &detached);
	check_pointed(text, &plain);
	check_pointed(text, &detached);
	check_pointed(text, &early);
	return 0;
}
