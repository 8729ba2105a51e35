/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst, init/initramfs.c
 * (do_header, do_copy, unpack_to_rootfs) and lib/decompress.c (the magic bytes). */
#include "boot/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

#define HEADER_BYTES    110
#define ALIGNMENT       4
#define MAGIC_MAX_BYTES 6
#define TRAILER         "TRAILER!!!"

/* fields of eight hexadecimal digits behind the magic */
enum { FIELD_MODE = 1, FIELD_LINKS = 4, FIELD_SIZE = 6, FIELD_NAME_SIZE = 11 };

/* One row for each compression that the kernel knows. */
/* clang-format off */
static const struct {
	const char *magic;
	size_t magic_bytes;
	const char *argv[5];
} tools[] = {
	{ "\x1f\x8b",             2, { "gzip", "-dc" } },
	{ "\x28\xb5\x2f\xfd",     4, { "zstd", "-dcq" } },
	{ "\xfd" "7zXZ\0",        6, { "xz", "-dc", "--format=xz" } },
	{ "\x02\x21\x4c\x18",     4, { "lz4", "-dcq" } },
	{ "\x5d\0\0",             3, { "xz", "-dc", "--format=lzma" } },
	{ "BZh",                  3, { "bzip2", "-dc" } },
	{ "\x89" "LZO",           4, { "lzop", "-dc" } },
};
/* clang-format on */

static bool take_field(const char *header, int field, uint32_t *ret)
{
	uint32_t value = 0;

	for (const char *at = header + 6 + field * 8, *end = at + 8; at < end; at++) {
		uint32_t digit;

		if (*at >= '0' && *at <= '9')
			digit = (uint32_t)(*at - '0');
		else if (*at >= 'a' && *at <= 'f')
			digit = (uint32_t)(*at - 'a') + 10;
		else if (*at >= 'A' && *at <= 'F')
			digit = (uint32_t)(*at - 'A') + 10;
		else
			return false;
		value = value << 4 | digit;
	}
	*ret = value;
	return true;
}

/* a stream that may be a pipe, and how far it has been read */
struct stream {
	FILE *in;
	uint64_t offset;
};

static bool take(struct stream *stream, void *buffer, size_t size)
{
	if (fread(buffer, 1, size, stream->in) != size)
		return false;
	stream->offset += size;
	return true;
}

static bool skip(struct stream *stream, uint64_t size)
{
	char buffer[16384];

	while (size > 0) {
		size_t n = size < sizeof(buffer) ? (size_t)size : sizeof(buffer);

		if (!take(stream, buffer, n))
			return false;
		size -= n;
	}
	return true;
}

static bool align(struct stream *stream)
{
	return skip(stream, (ALIGNMENT - stream->offset % ALIGNMENT) % ALIGNMENT);
}

/* 0 after an entry, 1 after the trailer, -EBADMSG where nothing makes sense, or what the visitor
 * says */
static int walk_entry(struct stream *stream, char *name, char *data, archive_visit *visit,
		      void *context)
{
	struct archive_entry entry = { .name = name };
	char header[HEADER_BYTES];
	uint32_t size, name_size;
	int r;

	if (!take(stream, header, sizeof(header)) ||
	    (memcmp(header, "070701", 6) != 0 && memcmp(header, "070702", 6) != 0) ||
	    !take_field(header, FIELD_MODE, &entry.mode) ||
	    !take_field(header, FIELD_LINKS, &entry.links) ||
	    !take_field(header, FIELD_SIZE, &size) ||
	    !take_field(header, FIELD_NAME_SIZE, &name_size))
		return -EBADMSG;
	if (name_size == 0 || name_size > ARCHIVE_NAME_MAX_BYTES ||
	    !take(stream, name, name_size) || name[name_size - 1] != '\0' || !align(stream))
		return -EBADMSG;
	if (strcmp(name, TRAILER) == 0)
		return size == 0 ? 1 : -EBADMSG;

	entry.size_bytes = size;
	if (stream->offset + size > ARCHIVE_MAX_BYTES)
		return -EBADMSG;
	if (size <= ARCHIVE_DATA_MAX_BYTES) {
		if (!take(stream, data, size))
			return -EBADMSG;
		data[size] = '\0';
		entry.data = data;
	} else if (!skip(stream, size)) {
		return -EBADMSG;
	}
	/* the kernel takes a last entry without its padding, but then there is no trailer */
	if (!align(stream))
		return -EBADMSG;
	r = visit(context, &entry);
	return r < 0 ? r : 0;
}

/**
 * archive_walk_plain() - all archives of a stream that are not compressed
 * @in:         at its beginning; read to its end, or to where something else begins
 * @visit:      called with each entry but the trailers
 * @ret_offset: where the rest begins, with ARCHIVE_E_COMPRESSED; else untouched
 *
 * Return: 0 when there is an archive and all are whole, ARCHIVE_E_DAMAGED, ARCHIVE_E_COMPRESSED (a
 * NUL-padded row of none or more archives, and then other bytes), what @visit said, or -errno.
 */
int archive_walk_plain(FILE *in, archive_visit *visit, void *context, uint64_t *ret_offset)
{
	_cleanup_(freep) char *name = malloc(ARCHIVE_NAME_MAX_BYTES);
	_cleanup_(freep) char *data = malloc(ARCHIVE_DATA_MAX_BYTES + 1);
	struct stream stream = { .in = in };
	bool is_any = false;

	if (!name || !data)
		return -ENOMEM;
	for (;;) {
		int byte = fgetc(in), r;

		if (byte == EOF)
			break;
		if (byte == 0) {
			if (++stream.offset > ARCHIVE_MAX_BYTES)
				return ARCHIVE_E_DAMAGED;
			continue;
		}
		if (ungetc(byte, in) == EOF)
			return -EIO;
		if (byte != '0' || stream.offset % ALIGNMENT != 0) {
			*ret_offset = stream.offset;
			return ARCHIVE_E_COMPRESSED;
		}
		do {
			r = walk_entry(&stream, name, data, visit, context);
		} while (r == 0);
		if (r == -EBADMSG)
			return ferror(in) ? -EIO : ARCHIVE_E_DAMAGED;
		if (r < 0)
			return r;
		is_any = true;
	}
	if (ferror(in))
		return -EIO;
	return is_any ? 0 : ARCHIVE_E_DAMAGED;
}

static _Noreturn void decompress(const char *const argv[], int input, int output)
{
	static char *environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL };
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	sigset_t none;

	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGPIPE, SIG_DFL);
	if (null < 0 || dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
	    dup2(null, STDERR_FILENO) < 0)
		_exit(126);
	(void)close_range(3, ~0U, 0);
	(void)execvpe(argv[0], (char *const *)argv, environment);
	_exit(127);
}

static int start(const char *const argv[], int input, pid_t *ret_pid, int *ret_output)
{
	int pipes[2];
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		(void)close(pipes[0]);
		(void)close(pipes[1]);
		return r;
	}
	if (pid == 0)
		decompress(argv, input, pipes[1]);
	(void)close(pipes[1]);
	*ret_pid = pid;
	*ret_output = pipes[0];
	return 0;
}

static int wait_for(pid_t pid, int *ret_status)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	*ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return 0;
}

static const char *const *tool_for(int fd, uint64_t offset)
{
	char magic[MAGIC_MAX_BYTES];
	ssize_t n = pread(fd, magic, sizeof(magic), (off_t)offset);

	for (size_t i = 0; i < ARRAY_SIZE(tools); i++)
		if (n >= (ssize_t)tools[i].magic_bytes &&
		    memcmp(magic, tools[i].magic, tools[i].magic_bytes) == 0)
			return tools[i].argv;
	return NULL;
}

static int walk_compressed(int fd, uint64_t offset, archive_visit *visit, void *context)
{
	_cleanup_(fclosep) FILE *in = NULL;
	const char *const *argv = tool_for(fd, offset);
	int output = -EBADF, r, status = 0;
	uint64_t rest;
	pid_t pid = -1;

	if (!argv)
		return ARCHIVE_E_DAMAGED;
	if (lseek(fd, (off_t)offset, SEEK_SET) < 0)
		return -errno;
	r = start(argv, fd, &pid, &output);
	if (r < 0)
		return r;
	in = fdopen(output, "re");
	if (in) {
		r = archive_walk_plain(in, visit, context, &rest);
	} else {
		r = -errno;
		(void)close(output);
	}
	/* a tool that is not read to its end gets SIGPIPE */
	if (in)
		(void)fclose(steal(in));
	if (wait_for(pid, &status) < 0)
		return -ECHILD;
	log_debug("Decompressor %s: status %d.", argv[0], status);
	if (r < 0)
		return r;
	if (status == 127)
		return ARCHIVE_E_NO_TOOL;
	/* gzip's 2 is a warning: NUL bytes that pad the image */
	if (status != 0 && !(status == 2 && strcmp(argv[0], "gzip") == 0))
		return ARCHIVE_E_DAMAGED;
	return r == ARCHIVE_E_COMPRESSED ? ARCHIVE_E_DAMAGED : r;
}

/**
 * archive_walk() - all entries of an image
 * @path:    the image; read once, decompressed in a process beside
 * @visit:   called with each entry, in the order in which the kernel unpacks them
 * @context: for @visit
 *
 * The whole image is read and its checksum proven, so that 0 means that it can be unpacked.
 *
 * Return: 0, ARCHIVE_E_DAMAGED, ARCHIVE_E_NO_TOOL, what @visit said, or -errno.
 */
int archive_walk(const char *path, archive_visit *visit, void *context)
{
	_cleanup_(fclosep) FILE *in = fopen(path, "re");
	uint64_t offset;
	int r;

	if (!in)
		return -errno;
	r = archive_walk_plain(in, visit, context, &offset);
	if (r == ARCHIVE_E_COMPRESSED)
		return walk_compressed(fileno(in), offset, visit, context);
	return r;
}
