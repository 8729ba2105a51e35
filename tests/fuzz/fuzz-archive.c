/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any image: entries are strings, small contents are shown whole, and the walk ends within the
 * input. */
#include "boot/archive.h"
#include "fuzz.h"

struct seen {
	uint64_t total_bytes;
};

static int visit(void *context, const struct archive_entry *entry)
{
	struct seen *seen = context;

	must(strlen(entry->name) < ARCHIVE_NAME_MAX_BYTES);
	must(!entry->data == (entry->size_bytes > ARCHIVE_DATA_MAX_BYTES));
	must(!entry->data || strlen(entry->data) <= entry->size_bytes);
	seen->total_bytes += entry->size_bytes;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(fclosep) FILE *in = NULL;
	struct seen seen = { 0 };
	uint64_t offset = UINT64_MAX;
	int r;

	if (size == 0)
		return 0;
	in = fmemopen((void *)data, size, "r");
	must(in);
	r = archive_walk_plain(in, visit, &seen, &offset);
	must(r == 0 || r == ARCHIVE_E_DAMAGED || r == ARCHIVE_E_COMPRESSED);
	must((r == ARCHIVE_E_COMPRESSED) == (offset < size));
	must(seen.total_bytes <= size);
	return 0;
}
