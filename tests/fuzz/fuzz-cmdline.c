/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any loader entry, menu or command line: a root that was added is the one that counts, is added
 * once, and goes away without a trace. */
#include "boot/cmdline.h"
#include "boot/loader.h"
#include "fuzz.h"

#define UUID "0a1b2c3d-0000-4000-8000-000000000001"

static void check(const char *text, const char *key)
{
	_cleanup_(freep) char *once = NULL, *twice = NULL, *back = NULL, *again = NULL;
	int r = cmdline_add_root(text, key, UUID, &once);

	must(r == 0 || r == CMDLINE_E_OTHER_ROOT);
	if (r != 0)
		return;
	must(strlen(once) >= strlen(text));
	must(cmdline_add_root(once, key, UUID, &twice) == 0);
	must(strcmp(once, twice) == 0);
	must(cmdline_remove_root(once, key, UUID, &back) == 0);
	if (strcmp(once, text) == 0)
		return;
	must(strcmp(back, text) == 0);
	must(cmdline_add_root(back, key, UUID, &again) == 0);
	must(strcmp(again, once) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) char *text = text_from(data, size), *root = NULL, *kernel = NULL,
			      *initrds = NULL;
	struct loader_menu menu = { .at = text };
	struct loader_entry entry = { 0 };
	struct loader_line line;
	const char *end = text + strlen(text);

	check(text, "options");
	check(text, NULL);
	must(cmdline_root_of(text, strlen(text), &root) == 0);
	must(!root || strlen(root) <= size);
	while (loader_menu_next(&menu, &line)) {
		_cleanup_(freep) char *found = NULL;

		must(line.arguments >= text && line.arguments + line.size <= end);
		must(cmdline_root_of(line.arguments, line.size, &found) == 0);
	}
	(void)loader_menu_has_entries(text);
	must(loader_entry_parse(text, &entry, &kernel, &initrds) == 0);
	must(!entry.path && !entry.initrd);
	free(entry.version);
	free(entry.options);
	return 0;
}
