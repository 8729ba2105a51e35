/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fuzz/replay.c - runs a fuzz target over files, where there is no libFuzzer */
#include <errno.h>

#include "base/file.h"
#include "fuzz.h"

#define SEED_MAX_BYTES (1024 * 1024)

static int replay_file(const char *path)
{
	_cleanup_(freep) char *data = NULL;
	size_t size;
	int r;

	r = file_read(path, SEED_MAX_BYTES, &data, &size);
	if (r < 0)
		return r;
	/* in memory of its exact size, so that a read past the end is seen by valgrind */
	_cleanup_(freep) uint8_t *exact = malloc(size ? size : 1);

	if (!exact)
		return -ENOMEM;
	memcpy(exact, data, size);
	(void)LLVMFuzzerTestOneInput(exact, size);
	return 0;
}

static int replay_folder(const char *path)
{
	_cleanup_(closedirp) DIR *folder = opendir(path);
	int n = 0;

	if (!folder)
		return -errno;
	for (struct dirent *entry; (entry = readdir(folder));) {
		_cleanup_(freep) char *file = NULL;
		int r;

		if (entry->d_name[0] == '.')
			continue;
		if (text_format(&file, "%s/%s", path, entry->d_name) < 0)
			return -ENOMEM;
		/* before it is run: the last line names the one that ended the process */
		(void)printf("%s\n", entry->d_name);
		(void)fflush(stdout);
		r = replay_file(file);
		if (r < 0)
			return r;
		n++;
	}
	return n;
}

int main(int argc, char *argv[])
{
	int n = 0;

	for (int i = 1; i < argc; i++) {
		int r = replay_folder(argv[i]);

		if (r < 0) {
			(void)fprintf(stderr, "%s: %s\n", argv[i], strerror(-r));
			return 1;
		}
		n += r;
	}
	/* a corpus that is not there must not look like one that passes */
	return n > 0 ? 0 : 1;
}
