/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/holders.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libmount/libmount.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "volume/device.h"
#include "volume/mounttable.h"

#define HOLDERS_MAX         200               /* more than a person reads */
#define MAPS_MAX_BYTES      (8 * 1024 * 1024) /* about eighty thousand mappings of one process */
#define MOUNTINFO_MAX_BYTES (8 * 1024 * 1024)
#define NAMESPACES_MAX      1024
#define COMMAND_MAX_BYTES   256

/* How to know that a file lies on the volume. */
struct search {
	const struct volume *volume;
	struct holders *holders;
	dev_t *devices; /* st_dev of files there */
	size_t n_devices;
	bool is_by_path; /* btrfs: each subvolume has a number of its own, so the path decides as
			    well */
	ino_t own_namespace, *namespaces; /* mount namespaces that were looked at */
	size_t n_namespaces;
};

void holders_clear(struct holders *holders)
{
	for (size_t i = 0; i < holders->n; i++) {
		free(holders->holders[i].name);
		free(holders->holders[i].what);
	}
	free(holders->holders);
	*holders = (struct holders){ 0 };
}

static int add(struct search *search, pid_t pid, const char *name, const char *what,
	       const char *path)
{
	struct holders *holders = search->holders;
	struct holder *larger, *holder;
	_cleanup_(freep) char *words = NULL, *copy = NULL;
	int r;

	if (holders->n == HOLDERS_MAX)
		return 0;
	r = text_format(&words, "%s %s", what, path);
	if (r < 0)
		return r;
	copy = strdup(name);
	larger = reallocarray(holders->holders, holders->n + 1, sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	holders->holders = larger;
	if (!copy)
		return -ENOMEM;
	holder = &holders->holders[holders->n++];
	*holder = (struct holder){ .pid = pid, .name = steal(copy), .what = steal(words) };
	return 0;
}

static bool is_device_of(const struct search *search, dev_t device)
{
	for (size_t i = 0; i < search->n_devices; i++)
		if (search->devices[i] == device)
			return true;
	return false;
}

static bool is_below(const char *path, const char *target)
{
	size_t n = strlen(target);

	if (strcmp(target, "/") == 0)
		return path[0] == '/';
	return strncmp(path, target, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static bool is_below_any(const struct search *search, const char *path)
{
	for (size_t i = 0; i < search->volume->n_mounts; i++)
		if (is_below(path, search->volume->mounts[i].target))
			return true;
	return false;
}

/* 1 when the link of a process leads there; @path is what to show */
static int leads_there(const struct search *search, int folder, const char *link,
		       char path[PATH_MAX])
{
	struct stat status;
	ssize_t n;

	/* a dead network filesystem would hang stat(); ours are local */
	n = readlinkat(folder, link, path, PATH_MAX - 1);
	if (n < 0)
		return 0;
	path[n] = '\0';
	if (path[0] != '/')
		return 0; /* a socket, a pipe */
	if (search->is_by_path && is_below_any(search, path))
		return 1;
	if (fstatat(folder, link, &status, AT_NO_AUTOMOUNT) < 0)
		return 0;
	return is_device_of(search, status.st_dev) && !S_ISSOCK(status.st_mode) ? 1 : 0;
}

/* /proc/PID/maps: address perms offset major:minor inode path (proc(5)) */
static int maps_there(const struct search *search, int folder, char path[PATH_MAX])
{
	_cleanup_(fclosep) FILE *stream = NULL;
	_cleanup_(freep) char *line = NULL;
	size_t capacity = 0, seen = 0;
	int fd;

	fd = openat(folder, "maps", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	stream = fdopen(fd, "re");
	if (!stream) {
		(void)close(fd);
		return -ENOMEM;
	}
	while (seen < MAPS_MAX_BYTES) {
		ssize_t n = getline(&line, &capacity, stream);
		unsigned major_number, minor_number;
		const char *name;

		if (n < 0)
			break;
		seen += (size_t)n;
		name = strchr(line, '/');
		if (!name || sscanf(line, "%*s %*s %*s %x:%x", &major_number, &minor_number) != 2)
			continue;
		line[strcspn(line, "\n")] = '\0';
		if (!is_device_of(search, makedev(major_number, minor_number)) &&
		    !(search->is_by_path && is_below_any(search, name)))
			continue;
		(void)snprintf(path, PATH_MAX, "%s", name);
		return 1;
	}
	return 0;
}

static int opens_there(const struct search *search, int process, char path[PATH_MAX])
{
	_cleanup_(closedirp) DIR *folder = NULL;
	struct dirent *entry;
	int fd;

	fd = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	folder = fdopendir(fd);
	if (!folder) {
		(void)close(fd);
		return -ENOMEM;
	}
	while ((entry = readdir(folder)))
		if (entry->d_name[0] != '.' && leads_there(search, fd, entry->d_name, path) > 0)
			return 1;
	return 0;
}

/* The first way in which a process holds the volume */
static int look_at_process(struct search *search, int process, pid_t pid, const char *name)
{
	static const struct {
		const char *link, *what;
	} links[] = {
		{ "cwd", "working folder" },
		{ "root", "root folder" },
		{ "exe", "program" },
	};
	char path[PATH_MAX];
	int r;

	r = opens_there(search, process, path);
	if (r != 0)
		return r < 0 ? r : add(search, pid, name, "open file", path);
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		if (leads_there(search, process, links[i].link, path) > 0)
			return add(search, pid, name, links[i].what, path);
	r = maps_there(search, process, path);
	return r <= 0 ? r : add(search, pid, name, "mapped file", path);
}

/* Is the volume mounted in another namespace so that it stays when it is unmounted here? A mount
 * that is shared with ours, or follows it, goes with it. */
static int look_at_namespace(struct search *search, int process, pid_t pid, const char *name)
{
	_cleanup_(freep) char *path = NULL, *text = NULL;
	struct stat status;
	char program[2];
	int r;

	/* a thread of the kernel has no program, and no person would know what to do about it */
	if (readlinkat(process, "exe", program, sizeof(program)) < 0)
		return 0;
	if (fstatat(process, "ns/mnt", &status, 0) < 0 || status.st_ino == search->own_namespace)
		return 0;
	for (size_t i = 0; i < search->n_namespaces; i++)
		if (search->namespaces[i] == status.st_ino)
			return 0;
	if (search->n_namespaces == NAMESPACES_MAX)
		return 0;
	search->namespaces[search->n_namespaces++] = status.st_ino;
	r = text_format(&path, "/proc/%d/mountinfo", (int)pid);
	if (r < 0)
		return r;
	r = file_read(path, MOUNTINFO_MAX_BYTES, &text, NULL);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	for (char *line = text, *next; line && *line; line = next) {
		unsigned major_number, minor_number;
		char target[PATH_MAX];

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (sscanf(line, "%*u %*u %u:%u %*s %4095s", &major_number, &minor_number,
			   target) == 3 &&
		    is_device_of(search, makedev(major_number, minor_number)) &&
		    !strstr(line, " master:") && !strstr(line, " shared:"))
			return add(search, pid, name, "own mount on", target);
	}
	return 0;
}

static int look_at_processes(struct search *search)
{
	_cleanup_(closedirp) DIR *folder = opendir("/proc");
	struct dirent *entry;
	int r = 0;

	if (!folder)
		return -errno;
	while (r == 0 && (entry = readdir(folder))) {
		_cleanup_(closep) int process = -EBADF;
		_cleanup_(freep) char *path = NULL, *name = NULL;
		size_t before = search->holders->n, size_bytes;
		uint64_t pid;

		if (number_parse_u64(entry->d_name, 1, INT_MAX, &pid) < 0)
			continue;
		process = openat(dirfd(folder), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = text_format(&path, "/proc/%s/comm", entry->d_name);
		if (process < 0 || r < 0)
			continue;
		if (file_read(path, COMMAND_MAX_BYTES, &name, &size_bytes) < 0)
			continue; /* it has ended */
		name[strcspn(name, "\n")] = '\0';
		r = look_at_process(search, process, (pid_t)pid, name);
		if (r == 0 && search->holders->n == before)
			r = look_at_namespace(search, process, (pid_t)pid, name);
	}
	return r;
}

static void iteratorp(struct libmnt_iter **iterator)
{
	if (*iterator)
		mnt_free_iter(*iterator);
}

static bool is_mount_of(const struct search *search, struct libmnt_fs *fs)
{
	return mounttable_devno(fs) == search->volume->devno;
}

static bool is_among(int id, const int *ids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (ids[i] == id)
			return true;
	return false;
}

/* Other filesystems that are mounted on folders of this one. */
static int look_at_mounts(struct search *search)
{
	_cleanup_(mounttable_freep) struct libmnt_table *table = NULL;
	_cleanup_(iteratorp) struct libmnt_iter *iterator = mnt_new_iter(MNT_ITER_FORWARD);
	_cleanup_(freep) int *ours = NULL;
	struct libmnt_fs *fs;
	size_t n = 0;
	int r;

	r = mounttable_open(&table);
	if (r < 0)
		return r;
	ours = calloc((size_t)mnt_table_get_nents(table) + 1, sizeof(*ours));
	if (!iterator || !ours)
		return -ENOMEM;
	while (mnt_table_next_fs(table, iterator, &fs) == 0)
		if (is_mount_of(search, fs))
			ours[n++] = mnt_fs_get_id(fs);
	mnt_reset_iter(iterator, MNT_ITER_FORWARD);
	while (r == 0 && mnt_table_next_fs(table, iterator, &fs) == 0)
		if (!is_mount_of(search, fs) && mnt_fs_get_target(fs) &&
		    is_among(mnt_fs_get_parent_id(fs), ours, n))
			r = add(search, 0, "mount", "mounted below:", mnt_fs_get_target(fs));
	return r;
}

static int look_at_swaps(struct search *search)
{
	_cleanup_(mounttable_freep) struct libmnt_table *table = mnt_new_table();
	_cleanup_(iteratorp) struct libmnt_iter *iterator = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *fs;
	int r = 0;

	if (!table || !iterator)
		return -ENOMEM;
	if (mnt_table_parse_swaps(table, NULL) != 0)
		return 0;
	while (r == 0 && mnt_table_next_fs(table, iterator, &fs) == 0) {
		const char *source = mnt_fs_get_source(fs);
		struct stat status;

		if (!source || stat(source, &status) < 0 || !S_ISREG(status.st_mode))
			continue;
		if (is_device_of(search, status.st_dev) ||
		    (search->is_by_path && is_below_any(search, source)))
			r = add(search, 0, "swap", "swap file", source);
	}
	return r;
}

static int look_at_loops(struct search *search)
{
	_cleanup_(closedirp) DIR *folder = opendir("/sys/class/block");
	struct dirent *entry;
	int r = 0;

	while (r == 0 && folder && (entry = readdir(folder))) {
		_cleanup_(freep) char *file = NULL;
		struct stat status;

		if (strncmp(entry->d_name, "loop", 4) != 0)
			continue;
		r = device_attribute(entry->d_name, "loop/backing_file", &file);
		if (r < 0 || !file)
			continue;
		if ((stat(file, &status) == 0 && is_device_of(search, status.st_dev)) ||
		    (search->is_by_path && is_below_any(search, file)))
			r = add(search, 0, entry->d_name, "loop device over", file);
	}
	return r;
}

/* The kernel's NFS server: path, tab, clients (nfsd(7)) */
static int look_at_exports(struct search *search)
{
	_cleanup_(freep) char *text = NULL;
	int r = 0;

	if (file_read("/proc/fs/nfsd/exports", MOUNTINFO_MAX_BYTES, &text, NULL) < 0)
		return 0;
	for (char *line = text, *next; r == 0 && line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		line[strcspn(line, "\t")] = '\0';
		if (line[0] == '/' && is_below_any(search, line))
			r = add(search, 0, "nfsd", "exported folder", line);
	}
	return r;
}

static int prepare(struct search *search)
{
	const struct volume *volume = search->volume;
	struct stat status;

	search->devices = calloc(volume->n_mounts + 1, sizeof(*search->devices));
	search->namespaces = calloc(NAMESPACES_MAX, sizeof(*search->namespaces));
	if (!search->devices || !search->namespaces)
		return -ENOMEM;
	search->devices[search->n_devices++] = volume->devno;
	search->is_by_path = volume->filesystem && strcmp(volume->filesystem, "btrfs") == 0;
	/* subvolumes, as far as they are mounted; what covers a mount point is not ours */
	for (size_t i = 0; search->is_by_path && i < volume->n_mounts; i++)
		if (stat(volume->mounts[i].target, &status) == 0 && major(status.st_dev) == 0)
			search->devices[search->n_devices++] = status.st_dev;
	if (stat("/proc/self/ns/mnt", &status) == 0)
		search->own_namespace = status.st_ino;
	return 0;
}

/**
 * holders_find() - who keeps a volume from being unmounted
 * @volume: as just read: device number and mounts are looked at
 * @ret:    at most 200, one a process; give it to holders_clear()
 *
 * A look through the whole of /proc: some milliseconds for each hundred processes. What ends
 * meanwhile is passed over.
 *
 * Return: 0 or -errno.
 */
int holders_find(const struct volume *volume, struct holders *ret)
{
	struct holders holders = { 0 };
	struct search search = { .volume = volume, .holders = &holders };
	int r;

	r = prepare(&search);
	if (r == 0)
		r = look_at_processes(&search);
	if (r == 0)
		r = look_at_mounts(&search);
	if (r == 0)
		r = look_at_swaps(&search);
	if (r == 0)
		r = look_at_loops(&search);
	if (r == 0)
		r = look_at_exports(&search);
	free(search.devices);
	free(search.namespaces);
	if (r < 0) {
		holders_clear(&holders);
		return r;
	}
	*ret = holders;
	return 0;
}
