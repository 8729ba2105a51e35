/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/luks.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "volume/header.h"

void luks_freep(struct crypt_device **cd)
{
	crypt_free(*cd);
}

static void log_message(int level, const char *message, void *user)
{
	size_t length = strlen(message);

	while (length > 0 && message[length - 1] == '\n')
		length--;
	log_debug("libcryptsetup: %.*s", (int)length, message);
}

/** header_log_to_debug() - libcryptsetup's own messages become debug lines; once for the process */
void header_log_to_debug(void)
{
	crypt_set_log_callback(NULL, log_message, NULL);
}

/**
 * luks_prepare() - what each use of the library needs
 *
 * The folder of the metadata locks is absent in an initramfs. Token plugins stay out: ours would
 * ask the key service from inside a process that has the passphrase already, others are no code of
 * ours.
 *
 * Return: 0 or -errno.
 */
int luks_prepare(void)
{
	static bool is_prepared;
	int r;

	if (is_prepared)
		return 0;
	header_log_to_debug();
	crypt_set_debug_level(log_is_enabled(LOG_LEVEL_DEBUG) ? CRYPT_DEBUG_ALL : CRYPT_DEBUG_NONE);
	crypt_token_external_disable();
	r = directory_make("/run/cryptsetup", 0700);
	if (r < 0)
		return log_debug_errno(r, "Folder /run/cryptsetup: cannot be made: %m");
	is_prepared = true;
	return 0;
}

/**
 * luks_init() - a context of the library, nothing read yet
 * @file: header file, or NULL for a header at the device's head
 *
 * Return: 0 or -errno.
 */
int luks_init(const char *device, const char *file, struct crypt_device **ret)
{
	int r;

	r = luks_prepare();
	if (r < 0)
		return r;
	if (!device)
		return crypt_init(ret, file);
	return file ? crypt_init_data_device(ret, file, device) : crypt_init(ret, device);
}

/**
 * luks_is_signed() - does blkid see a LUKS signature, of any version, whole or not?
 * @path: device or file
 *
 * Return: 0 or -errno.
 */
int luks_is_signed(const char *path, bool *ret)
{
	static char *types[] = { "crypto_LUKS", NULL };
	_cleanup_(closep) int fd = -EBADF;
	blkid_probe probe;
	int r;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	probe = blkid_new_probe();
	if (!probe)
		return -ENOMEM;
	if (blkid_probe_set_device(probe, fd, 0, 0) < 0 ||
	    blkid_probe_enable_superblocks(probe, 1) < 0 ||
	    blkid_probe_filter_superblocks_type(probe, BLKID_FLTR_ONLYIN, types) < 0)
		r = -EIO;
	else
		r = blkid_do_probe(probe);
	blkid_free_probe(probe);
	if (r < 0)
		return -EIO;
	*ret = r == 0;
	return 0;
}

/**
 * luks_open() - read a LUKS2 header
 * @device: data device; NULL when the header file alone matters
 * @file:   header file, or NULL for a header at the device's head
 * @ret:    freed with luks_freep()
 *
 * Needs no passphrase and no exclusive access. The library repairs a header copy that is torn from
 * the other one, whenever it reads.
 *
 * Return: 0, HEADER_E_NONE, HEADER_E_FOREIGN (LUKS1), HEADER_E_MALFORMED, or -errno.
 */
int luks_open(const char *device, const char *file, struct crypt_device **ret)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	const char *metadata = file ? file : device;
	struct stat status;
	bool is_signed;
	int r;

	if (stat(metadata, &status) < 0)
		return -errno;
	r = luks_init(device, file, &cd);
	if (r < 0)
		return r;
	r = crypt_load(cd, CRYPT_LUKS, NULL);
	if (r < 0) {
		int error = r;

		r = luks_is_signed(metadata, &is_signed);
		if (r < 0)
			return r;
		log_debug_errno(error, "Device %s: no LUKS header that can be read: %m", metadata);
		return is_signed ? HEADER_E_MALFORMED : HEADER_E_NONE;
	}
	if (strcmp(crypt_get_type(cd), CRYPT_LUKS2) != 0)
		return HEADER_E_FOREIGN;
	*ret = steal(cd);
	return 0;
}

/**
 * luks_set_minimal_pbkdf() - no stretching for what is random already
 *
 * For keyslots of machine-made passphrases, and for the digests of volume keys, which the library
 * would otherwise benchmark for a second each. 1,000 iterations are the library's minimum.
 *
 * Return: 0 or -errno.
 */
int luks_set_minimal_pbkdf(struct crypt_device *cd)
{
	const struct crypt_pbkdf_type minimal = {
		.type = CRYPT_KDF_PBKDF2,
		.hash = "sha256",
		.iterations = 1000,
		.flags = CRYPT_PBKDF_NO_BENCHMARK,
	};

	return crypt_set_pbkdf_type(cd, &minimal);
}

/** luks_json() - the header's JSON area, parsed. Return: 0, -EBADMSG or -errno. */
int luks_json(struct crypt_device *cd, struct json_object **ret)
{
	const char *text;
	size_t length;
	int r;

	r = crypt_dump_json(cd, &text, 0);
	if (r < 0)
		return r;
	length = strlen(text);
	if (length > LUKS_JSON_MAX_BYTES)
		return -EBADMSG;
	return json_parse(text, length, ret);
}

static void flush_message(int level, const char *message, void *user)
{
	struct luks_flush *flush = user;

	log_message(level, message, NULL);
	flush->flushes++;
	if (fdatasync(flush->fd) < 0 && flush->error == 0)
		flush->error = -errno;
}

/**
 * luks_flush_begin() - data first, then the header that says so
 * @cd:     used until luks_flush_end()
 * @device: data device
 *
 * The library moves the first segment, or recovers a hotzone, and then writes the header without a
 * flush of the data device in between. With the header on another device, a power cut could keep
 * the header and lose the data from the disk's volatile cache. The library says what it does in
 * debug messages, several between the two writes (one right before each header write), so the
 * device is flushed at each: cheap when there is nothing to flush, and right whatever the message
 * is.
 *
 * Return: 0 or -errno. Source: libcryptsetup 2.4 to 2.8, reencrypt_move_data() and
 * reencrypt_recover_segment() with what follows them; LUKS2_disk_hdr_write() for the message.
 */
int luks_flush_begin(struct crypt_device *cd, const char *device, struct luks_flush *flush)
{
	flush->fd = open(device, O_RDWR | O_CLOEXEC);
	if (flush->fd < 0)
		return -errno;
	flush->cd = cd;
	flush->error = 0;
	flush->flushes = 0;
	crypt_set_debug_level(CRYPT_DEBUG_ALL);
	crypt_set_log_callback(cd, flush_message, flush);
	return 0;
}

/** luks_flush_end() - a last flush; what failed meanwhile is told. Return: 0 or -errno. */
int luks_flush_end(struct luks_flush *flush)
{
	int r = flush->error;

	crypt_set_log_callback(flush->cd, NULL, NULL);
	crypt_set_debug_level(log_is_enabled(LOG_LEVEL_DEBUG) ? CRYPT_DEBUG_ALL : CRYPT_DEBUG_NONE);
	if (fdatasync(flush->fd) < 0 && r == 0)
		r = -errno;
	(void)close(flush->fd);
	flush->fd = -EBADF;
	return r;
}

/** header_device_bytes() - size of a block device or a regular file. Return: 0 or -errno. */
int header_device_bytes(const char *device, uint64_t *ret)
{
	_cleanup_(closep) int fd = -EBADF;
	struct stat status;

	fd = open(device, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status) < 0)
		return -errno;
	if (S_ISBLK(status.st_mode))
		return ioctl(fd, BLKGETSIZE64, ret) < 0 ? -errno : 0;
	if (!S_ISREG(status.st_mode))
		return -ENOTBLK;
	*ret = (uint64_t)status.st_size;
	return 0;
}

/**
 * luks_open_exclusive() - open to write what nobody uses
 *
 * Return: 0, HEADER_E_BUSY when it is mounted, mapped or otherwise held, or -errno.
 */
int luks_open_exclusive(const char *device, int *ret)
{
	struct stat status;
	int fd, flags = O_RDWR | O_CLOEXEC;

	if (stat(device, &status) < 0)
		return -errno;
	if (S_ISBLK(status.st_mode))
		flags |= O_EXCL;
	fd = open(device, flags);
	if (fd < 0)
		return errno == EBUSY ? HEADER_E_BUSY : -errno;
	*ret = fd;
	return 0;
}

/**
 * luks_is_plain() - is all data decrypted?
 * @segments: of the same header
 *
 * At the end of a decryption the library destroys the keyslots one by one and only then drops the
 * conversion's mark. Cut in between, the header says "in conversion" and has no keyslot to go on
 * with; but there is nothing left to do.
 */
bool luks_is_plain(const struct segments *segments, crypt_reencrypt_info state)
{
	if (segments->encrypted_bytes != 0)
		return false;
	return state == CRYPT_REENCRYPT_NONE ||
	       (state == CRYPT_REENCRYPT_CLEAN && segments->is_decrypting);
}

/**
 * luks_segments() - the segments of an open header
 * @ret: without ->cipher, which would point into the JSON
 *
 * Return: 0, -EBADMSG or -errno.
 */
int luks_segments(struct crypt_device *cd, const char *device, struct segments *ret)
{
	_cleanup_(json_putp) struct json_object *json = NULL;
	uint64_t device_bytes;
	int r;

	r = header_device_bytes(device, &device_bytes);
	if (r == 0)
		r = luks_json(cd, &json);
	if (r == 0)
		r = segments_from_json(json, device_bytes, ret);
	if (r == 0)
		ret->cipher = NULL;
	return r;
}
