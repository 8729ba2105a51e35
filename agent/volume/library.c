/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* which libcryptsetup this is: header_library_check() */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libcryptsetup.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "volume/header.h"

/* The shared object is libcryptsetup.so.12.MINOR.0; MINOR rises with each feature release. */
#define MINOR_2_4 7
#define MINOR_2_7 10

/* A message of the code that cured the corruption (2.7.5); a distribution that has taken the cure
 * into an older version has it too. */
#define CURE_MESSAGE "is suspended, assuming direct-io is supported"

static int library_path(char **ret)
{
	Dl_info where;

	if (!dladdr((void *)(uintptr_t)&crypt_reencrypt_status, &where) || !where.dli_fname)
		return -ENOENT;
	*ret = realpath(where.dli_fname, NULL);
	return *ret ? 0 : -errno;
}

static int library_minor(const char *path, uint64_t *ret)
{
	const char *version = strstr(path, "libcryptsetup.so.12.");
	char digits[8];
	size_t n;

	if (!version)
		return -EPROTO;
	version += strlen("libcryptsetup.so.12.");
	n = strspn(version, "0123456789");
	if (n == 0 || n >= sizeof(digits))
		return -EPROTO;
	memcpy(digits, version, n);
	digits[n] = '\0';
	return number_parse_u64(digits, 0, 1000, ret);
}

static int contains(const char *path, const char *text, bool *ret)
{
	_cleanup_(closep) int fd = -EBADF;
	struct stat status;
	void *bytes;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status) < 0)
		return -errno;
	if (status.st_size <= 0)
		return -ENODATA;
	bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (bytes == MAP_FAILED)
		return -errno;
	*ret = memmem(bytes, (size_t)status.st_size, text, strlen(text)) != NULL;
	(void)munmap(bytes, (size_t)status.st_size);
	return 0;
}

/**
 * header_library_check_file() - judge a libcryptsetup by its file
 * @path:       with its full version, "…/libcryptsetup.so.12.9.0"
 * @ret_reason: NULL = fit to convert online, else a sentence; owned by the caller
 *
 * Return: 0 or -errno.
 */
int header_library_check_file(const char *path, char **ret_reason)
{
	bool is_cured = false;
	uint64_t minor;
	int r;

	*ret_reason = NULL;
	r = library_minor(path, &minor);
	if (r < 0)
		return text_format(ret_reason, "The version of %s cannot be told from its name.",
				   path);
	if (minor < MINOR_2_4)
		return text_format(ret_reason,
				   "cryptsetup is older than 2.4 and cannot convert safely.");
	if (minor != MINOR_2_7)
		return 0;
	r = contains(path, CURE_MESSAGE, &is_cured);
	if (r < 0 || is_cured)
		return r;
	return text_format(ret_reason, "cryptsetup 2.7.0 to 2.7.4 can corrupt data while it "
				       "converts online; 2.7.5 has the cure.");
}

/**
 * header_library_check() - may the libcryptsetup that we run with convert online?
 *
 * The library cannot be asked for its version; its file's name says the feature release, and
 * for 2.7 its content says whether the cure is in, whatever number the distribution has given it.
 *
 * Return: 0 (and then *ret_reason as in header_library_check_file()), or -errno.
 */
int header_library_check(char **ret_reason)
{
	_cleanup_(freep) char *path = NULL;
	int r;

	r = library_path(&path);
	if (r < 0)
		return r;
	return header_library_check_file(path, ret_reason);
}
