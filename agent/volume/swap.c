/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/swap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/process.h"

#define HEAD_BYTES       (64 * 1024) /* the header, with the largest page that Linux has */
#define ERASE_BYTES      (64ULL * 1024 * 1024)
#define MKSWAP_TIMEOUT_S 60

/**
 * swap_erase() - overwrite all that was swapped out with zeros; the header stays
 *
 * Cost: writes the whole device, where it cannot be told to do that by itself.
 *
 * Return: 0, -EBUSY (in use), or -errno.
 */
int swap_erase(const char *device)
{
	_cleanup_(closep) int fd = open(device, O_RDWR | O_EXCL | O_CLOEXEC);
	uint64_t size_bytes;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, BLKGETSIZE64, &size_bytes) < 0)
		return -errno;
	for (uint64_t at = HEAD_BYTES; at < size_bytes;) {
		uint64_t left = size_bytes - at;
		uint64_t range[2] = { at, left < ERASE_BYTES ? left : ERASE_BYTES };

		if (ioctl(fd, BLKZEROOUT, range) < 0)
			return -errno;
		at += range[1];
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/**
 * swap_make() - new swap space, empty
 * @label: or NULL
 *
 * Return: 0, or -errno; what mkswap said is in the log.
 */
int swap_make(const char *device, const char *uuid, const char *label)
{
	const char *const argv[] = { "mkswap", "--uuid", uuid, device, label ? "--label" : NULL,
				     label,    NULL };
	_cleanup_(freep) char *output = NULL;
	int status = 0, r;

	r = process_run(argv, MKSWAP_TIMEOUT_S, &status, &output);
	if (r == 0 && status != 0) {
		log_debug("mkswap: %s", output ? output : "");
		r = -EIO;
	}
	return r;
}
