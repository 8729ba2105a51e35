/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "key/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "key/client.h"
#include "key/passphrase.h"

static int open_without_links(const char *path, int flags)
{
	const struct open_how how = {
		.flags = (unsigned)(flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK),
		.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

static bool is_ours(const struct stat *status)
{
	return status->st_uid == 0 || status->st_uid == geteuid();
}

/**
 * key_file_fetch() - a passphrase from its file
 * @path: absolute; no part of it may be a symbolic link
 * @ret:  whole content, 1..PASSPHRASE_MAX_BYTES; owned by the caller
 *
 * Return: 0 · KEY_E_GONE (no such file) · KEY_E_DENIED (another's file, one that group or others
 * can read, or one that we may not) · KEY_E_CONFIG (a link, or no regular file) · KEY_E_CORRUPT
 * (empty, or too large) · -errno. Source: openat2(2), RESOLVE_NO_SYMLINKS, Linux 5.6.
 */
int key_file_fetch(const char *path, struct secret **ret)
{
	_cleanup_(closep) int fd = -EBADF;
	struct stat status;
	int r;

	if (path[0] != '/')
		return KEY_E_CONFIG;
	fd = open_without_links(path, O_RDONLY);
	if (fd == -ENOENT || fd == -ENOTDIR)
		return KEY_E_GONE;
	if (fd == -EACCES || fd == -EPERM)
		return KEY_E_DENIED;
	if (fd == -ELOOP || fd == -ENXIO)
		return KEY_E_CONFIG;
	if (fd < 0)
		return fd;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode))
		return KEY_E_CONFIG;
	if (!is_ours(&status) || (status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
		return KEY_E_DENIED;

	r = secret_read_fd_to_end(fd, PASSPHRASE_MAX_BYTES, ret);
	return r == -EFBIG || r == -ENODATA ? KEY_E_CORRUPT : r;
}

static bool is_file_name(const char *name)
{
	if (name[0] == '\0' || name[0] == '.' || strlen(name) > 200)
		return false;
	for (const char *at = name; *at; at++)
		if (*at == '/' || (unsigned char)*at <= ' ' || *at == 0x7f)
			return false;
	return true;
}

/* is the passphrase there already? 0 yes and durable, -EEXIST another one, KEY_E_GONE nothing */
static int compare(const char *path, const struct secret *passphrase)
{
	_cleanup_(secret_freep) struct secret *stored = NULL;
	int r;

	r = key_file_fetch(path, &stored);
	if (r < 0 || r == KEY_E_GONE)
		return r;
	if (r > 0 || !secret_equal(stored, passphrase))
		return -EEXIST;
	/* an earlier attempt may have been cut between its rename and its sync */
	r = file_sync_path(path);
	return r < 0 ? r : file_sync_parent(path);
}

static int write_aside(int directory, const char *temporary, const struct secret *passphrase)
{
	_cleanup_(closep) int fd = -EBADF;
	int r;

	fd = openat(directory, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return -errno;
	/* the umask may have taken bits away */
	if (fchmod(fd, 0600) < 0)
		return -errno;
	r = secret_write_fd(fd, passphrase);
	if (r < 0)
		return r;
	return fsync(fd) < 0 ? -errno : 0;
}

/**
 * key_file_store() - keep a passphrase in a file, durably, and prove it by reading it back
 * @directory:  absolute; made with mode 0700 if absent, and refused (-EPERM) when others can write
 * there
 * @name:       file name, 1..200 printable letters without slash, not beginning with a dot
 * @passphrase: 1..PASSPHRASE_MAX_BYTES
 * @ret_path:   owned by the caller
 *
 * A second call with the same passphrase changes nothing and succeeds.
 *
 * Return: 0 · KEY_E_CORRUPT (what was read back differs) · -EEXIST (another file has the name; it
 * is untouched) · -EINVAL · -EPERM · -errno. On failure no part of a passphrase is left behind.
 */
int key_file_store(const char *directory, const char *name, const struct secret *passphrase,
		   char **ret_path)
{
	_cleanup_(freep) char *path = NULL, *temporary = NULL;
	_cleanup_(closep) int fd = -EBADF;
	struct stat status;
	int r;

	if (directory[0] != '/' || !is_file_name(name) || secret_size(passphrase) == 0 ||
	    secret_size(passphrase) > PASSPHRASE_MAX_BYTES)
		return -EINVAL;
	r = directory_make(directory, 0700);
	if (r < 0)
		return r;
	fd = open_without_links(directory, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (!is_ours(&status) || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return -EPERM;

	r = text_format(&path, "%s/%s", directory, name);
	if (r < 0)
		return r;
	r = compare(path, passphrase);
	if (r < 0)
		return r;
	if (r == KEY_E_GONE) {
		/* always the same name, so that the next call clears away what a power cut left */
		r = text_format(&temporary, ".%s.new", name);
		if (r < 0)
			return r;
		if (unlinkat(fd, temporary, 0) < 0 && errno != ENOENT)
			return -errno;
		r = write_aside(fd, temporary, passphrase);
		if (r == 0 && renameat2(fd, temporary, fd, name, RENAME_NOREPLACE) < 0)
			r = -errno;
		if (r == 0 && fsync(fd) < 0)
			r = -errno;
		if (r < 0) {
			(void)unlinkat(fd, temporary, 0);
			return r;
		}
		r = compare(path, passphrase);
		if (r != 0)
			return r < 0 && r != -EEXIST ? r : KEY_E_CORRUPT;
	}
	*ret_path = steal(path);
	return 0;
}
