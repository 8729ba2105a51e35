/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* unit/cpio.h - makes initramfs images for tests */
#pragma once

#include <stdio.h>
#include <string.h>

#include "test.h"

/* one entry; @links > 1 and no data stands for another name of a file */
struct cpio_file {
	const char *name, *data;
	unsigned mode;  /* 0 = a regular file, 0644 */
	unsigned links; /* 0 = 1 */
};

static inline void cpio_pad(FILE *out)
{
	while (ftell(out) % 4 != 0)
		assert_true(fputc(0, out) != EOF);
}

static inline void cpio_write_entry(FILE *out, const struct cpio_file *file)
{
	size_t size = file->data ? strlen(file->data) : 0;

	assert_true(fprintf(out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 1U,
			    file->mode ? file->mode : 0100644, 0U, 0U,
			    file->links ? file->links : 1, 0U, (unsigned)size, 0U, 0U, 0U, 0U,
			    (unsigned)strlen(file->name) + 1, 0U) == 110);
	assert_true(fputs(file->name, out) >= 0 && fputc(0, out) != EOF);
	cpio_pad(out);
	assert_true(size == 0 || fwrite(file->data, 1, size, out) == size);
	cpio_pad(out);
}

/* files until one without a name */
static inline void cpio_write(FILE *out, const struct cpio_file *files)
{
	for (; files->name; files++)
		cpio_write_entry(out, files);
	cpio_write_entry(out, &(struct cpio_file){ .name = "TRAILER!!!", .mode = 0 });
}
