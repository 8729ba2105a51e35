/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * lossy-disk.c - gives User-Mode Linux disks with a volatile write cache
 *
 * UML hands what its guest writes to the host at once, so a machine that is killed loses nothing
 * that its driver has completed. Real disks may lose whatever was not flushed, any part of it, in
 * any order. Preloaded into linux.uml, this keeps about half of the sectors written since the last
 * flush in the memory of the process, and passes the rest on: a kill then leaves a mixture of old
 * and new. A flush (fdatasync()) brings all of that disk to the host. Reads see what was written.
 * Other files are passed through.
 *
 * A physical sector of 4096 bytes, as disks have them, is written whole or not at all. ext4 needs
 * no less: of a superblock torn between its two logical sectors "fsck -a" says that it must be
 * mended by hand, and mount refuses it (invalid superblock checksum), whatever lies beneath.
 *
 * Linux 6.1 puts a flush into UML's queue as a request without any part, and then does nothing for
 * it, so it is looked for where the thread that does all input and output reads its requests.
 *
 * VMTEST_LOSSY: seed of the choice. VMTEST_LOSSY_DISKS: number of the host's device, and those of
 * the inodes of the disks, with blanks between. Source: Linux 6.1,
 * arch/um/drivers/ubd_kern.c (struct io_thread_req, io_thread()).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SECTOR_BYTES 4096 /* physical */
#define ARENA_BYTES                                                                                \
	(1ULL << 30) /* more than the guest's memory can hold unflushed; touched as needed */
#define DISKS_MAX 8
#define HELD_MAX  (1 << 20)

/* What UML's thread reads pointers to. */
struct request {
	void *request;
	int fds[2]; /* the first is the disk's */
	unsigned long offsets[2];
	unsigned long long offset;
	int sector_bytes, error;
	int n_parts; /* 0: a flush */
};

/* A stretch that only this process has. */
struct held {
	dev_t device;
	ino_t inode;
	off_t at;
	size_t size;
	char *bytes; /* NULL: brought to the host */
};

static ssize_t (*next_pread)(int, void *, size_t, off_t);
static ssize_t (*next_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*next_read)(int, void *, size_t);
static int (*next_sync)(int);
static int (*next_fallocate)(int, int, off_t, off_t);
static char *arena;
static size_t arena_used;
static struct held *helds;
static size_t n_held, n_alive;
static uint64_t chance;
static ino_t disks[DISKS_MAX];
static dev_t disk_device;
static size_t n_disks;
static pid_t thread; /* that does it all; known once it has touched a disk */

__attribute__((constructor)) static void begin(void)
{
	const char *seed = getenv("VMTEST_LOSSY"), *names = getenv("VMTEST_LOSSY_DISKS");
	char *end;

	next_pread = (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread64");
	next_pwrite = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
	next_read = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
	next_sync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
	next_fallocate = (int (*)(int, int, off_t, off_t))dlsym(RTLD_NEXT, "fallocate64");
	chance = (seed ? strtoull(seed, NULL, 10) : 1) * 0x9e3779b97f4a7c15ULL + 1;
	arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	helds = mmap(NULL, HELD_MAX * sizeof(*helds), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (arena == MAP_FAILED || helds == MAP_FAILED)
		abort();
	if (!names)
		return;
	disk_device = strtoull(names, &end, 10);
	while (*end && n_disks < DISKS_MAX)
		disks[n_disks++] = strtoull(end, &end, 10);
}

/* xorshift64 */
static uint64_t next_chance(void)
{
	chance ^= chance << 13;
	chance ^= chance >> 7;
	chance ^= chance << 17;
	return chance;
}

/* The thread that does UML's input and output has a stack of one page: nothing large may lie on it.
 */
static int is_disk(int fd, struct stat *status)
{
	if (fstat(fd, status) < 0)
		return 0;
	for (size_t i = 0; i < n_disks; i++)
		if (disks[i] == status->st_ino && status->st_dev == disk_device)
			return 1;
	return 0;
}

static int overlaps(const struct held *held, const struct stat *status, off_t at, size_t size)
{
	return held->bytes && held->inode == status->st_ino && held->device == status->st_dev &&
	       held->at < at + (off_t)size && at < held->at + (off_t)held->size;
}

static void put(int fd, struct held *held)
{
	for (size_t done = 0; done < held->size;) {
		ssize_t n = next_pwrite(fd, held->bytes + done, held->size - done,
					held->at + (off_t)done);

		if (n <= 0)
			abort();
		done += (size_t)n;
	}
	held->bytes = NULL;
	n_alive--;
}

static void flush(int fd, const struct stat *status)
{
	size_t kept = 0, n = n_held;

	for (size_t i = 0; i < n; i++)
		if (helds[i].bytes && helds[i].inode == status->st_ino &&
		    helds[i].device == status->st_dev)
			put(fd, &helds[i]);
	for (size_t i = 0; n_alive > 0 && i < n; i++)
		if (helds[i].bytes)
			helds[kept++] = helds[i];
	n_held = kept;
	if (n_alive == 0)
		arena_used = 0;
}

/* In sectors: some are kept, some go through, and what lies over something kept is kept too. */
static ssize_t keep_some(int fd, const struct stat *status, const char *bytes, size_t size,
			 off_t at)
{
	for (size_t done = 0; done < size;) {
		size_t part = size - done, into = (size_t)(at + (off_t)done) % SECTOR_BYTES;
		int is_kept;

		/* pieces of up to 8 sectors, so that a large write can be torn */
		if (part > SECTOR_BYTES - into)
			part = (1 + next_chance() % 8) * SECTOR_BYTES - into;
		if (part > size - done)
			part = size - done;
		is_kept = next_chance() & 1;
		for (size_t i = 0; !is_kept && i < n_held; i++)
			is_kept = overlaps(&helds[i], status, at + (off_t)done, part);
		if (is_kept && (arena_used + part > ARENA_BYTES || n_held == HELD_MAX))
			flush(fd, status);
		if (is_kept && arena_used + part <= ARENA_BYTES && n_held < HELD_MAX) {
			helds[n_held++] =
				(struct held){ status->st_dev, status->st_ino, at + (off_t)done,
					       part, arena + arena_used };
			memcpy(arena + arena_used, bytes + done, part);
			arena_used += part;
			n_alive++;
		} else if (next_pwrite(fd, bytes + done, part, at + (off_t)done) != (ssize_t)part) {
			abort();
		}
		done += part;
	}
	return (ssize_t)size;
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at)
{
	struct stat status;

	if (!is_disk(fd, &status))
		return next_pwrite(fd, bytes, size, at);
	thread = gettid();
	return keep_some(fd, &status, bytes, size, at);
}

ssize_t pread64(int fd, void *bytes, size_t size, off_t at)
{
	ssize_t n = next_pread(fd, bytes, size, at);
	struct stat status;

	if (n <= 0 || n_alive == 0 || !is_disk(fd, &status))
		return n;
	for (size_t i = 0; i < n_held; i++) {
		const struct held *held = &helds[i];
		off_t from = held->at > at ? held->at : at;
		off_t to = held->at + (off_t)held->size < at + n ? held->at + (off_t)held->size
								 : at + n;

		if (overlaps(held, &status, at, (size_t)n))
			memcpy((char *)bytes + (from - at), held->bytes + (from - held->at),
			       (size_t)(to - from));
	}
	return n;
}

ssize_t read(int fd, void *bytes, size_t size)
{
	/* others have constructors that read, too */
	ssize_t n = next_read ? next_read(fd, bytes, size) : syscall(SYS_read, fd, bytes, size);
	struct request *const *requests = bytes;
	struct stat status;

	if (n <= 0 || n_alive == 0 || gettid() != thread)
		return n;
	for (size_t i = 0; i < (size_t)n / sizeof(*requests); i++)
		if (requests[i]->n_parts == 0 && is_disk(requests[i]->fds[0], &status))
			flush(requests[i]->fds[0], &status);
	return n;
}

static int sync_disk(int fd)
{
	struct stat status;

	if (!is_disk(fd, &status))
		return next_sync(fd);
	flush(fd, &status);
	return 0; /* the host does not lose power */
}

int fdatasync(int fd)
{
	return sync_disk(fd);
}

int fsync(int fd)
{
	return sync_disk(fd);
}

/* Zeros and holes go to the host; what is kept from before must not come over them later. */
int fallocate64(int fd, int mode, off_t at, off_t size)
{
	struct stat status;

	if (is_disk(fd, &status))
		flush(fd, &status);
	return next_fallocate(fd, mode, at, size);
}
