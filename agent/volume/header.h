/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/header.h - the LUKS2 header of a volume: build, read, put in place, back up
 *
 * The only module that makes keyslots and tokens. A header is built whole in a file on another
 * device and then written to the volume's head in one commit; it is never edited while data moves,
 * but for destroying a keyslot. All LUKS work is libcryptsetup's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/secret.h"

#define HEADER_SHIFT_BYTES                                                                         \
	(16ULL * 1024 * 1024) /* data offset and data shift; half of ROOM_BYTES */
#define HEADER_TOKEN_TYPE      "vmcrypt"
#define HEADER_TOKEN_MAX_BYTES 8192 /* JSON text; a 4096-bit wrapped passphrase is 683 letters */

enum {
	HEADER_E_NONE = 1,   /* no LUKS2 header there */
	HEADER_E_FOREIGN,    /* LUKS, but without a token of ours */
	HEADER_E_MALFORMED,  /* a token of our type that does not parse, or a header libcryptsetup
				refuses */
	HEADER_E_PASSPHRASE, /* opens no keyslot */
	HEADER_E_BUSY,       /* in use */
	HEADER_E_ALREADY,    /* there is a LUKS header, or it is initialised, already: nothing was
				touched */
	HEADER_E_PLAIN, /* all data is decrypted: the device itself is the volume, nothing to map */
	HEADER_E_TORN,  /* only reencrypt_run() with a backup of the header can bring it to its end
			 */
	HEADER_E_STALE, /* commit: the data has changed since header_initialise(): build anew */
};

enum header_conversion {
	HEADER_CONVERSION_NONE,  /* whole: all data encrypted (or all plain, after a decryption) */
	HEADER_CONVERSION_CLEAN, /* between two steps */
	HEADER_CONVERSION_CRASHED, /* a step was cut; the next activation recovers it */
	HEADER_CONVERSION_INVALID,
};

/* What our token says. */
struct header_token {
	struct json_object
		*reference;    /* where the passphrase comes from: key/reference.h parses it */
	char *filesystem_uuid; /* of the data beneath */
	char *mapping;         /* name below /dev/mapper */
	char *device; /* detached header: a link to the backing device that stays; else NULL */
	uint64_t device_bytes; /* detached header: size of the backing device, to know it again */
};

struct header_info {
	char *uuid; /* LUKS UUID */
	struct header_token *
		*tokens; /* all of ours that parse, by keyslot priority; none = foreign */
	size_t n_tokens;
	struct header_token *token; /* tokens[0] or NULL; borrowed */
	enum header_conversion conversion;
	bool is_decrypting, is_detached;
	uint64_t data_bytes, encrypted_bytes; /* of the data area, from the segments */
	unsigned sector_bytes;
	unsigned keyslots; /* active ones, without the reencryption's */
	char *cipher;
};

struct header_plan {
	const char *device; /* backing device */
	const char *
		file; /* where the header is built (attached) or stays (detached); another device */
	const char *uuid; /* LUKS UUID to use */
	bool is_detached;
	bool is_format;        /* no data to keep: no reencryption is initialised */
	unsigned sector_bytes; /* 512 or 4096 */
	bool has_discards;     /* allow discards, kept as a persistent flag */
	const struct header_token *token;
	const struct secret *passphrase; /* machine-made: minimal PBKDF2 */
	const struct secret *recovery;   /* typed by people: Argon2id; or NULL */
};

struct header_token *header_token_free(struct header_token *token);
void header_token_freep(struct header_token **token);
struct header_info *header_info_free(struct header_info *info);
void header_info_freep(struct header_info **info);

int header_token_from_json(struct json_object *object, struct header_token **ret);
int header_token_to_json(const struct header_token *token, struct json_object **ret);

int header_device_bytes(const char *device, uint64_t *ret); /* block device or regular file */
/* @file: NULL for an attached header */
int header_read(const char *device, const char *file, struct header_info **ret);
int header_build(const struct header_plan *
			 plan); /* formats @file, adds keyslots and token; no data moves; fsynced */
int header_initialise(
	const struct header_plan *plan); /* reencryption initialised in @file; attached: copies the
					    first segment to the tail */
/* @file onto @device's head, flushed: the commit point. While @file is there, do it again after a
 * power cut, before anything can mount what looks like the old data; remove @file when it has
 * returned 0. */
int header_commit(const char *device, const char *file);
int header_backup(const char *device, const char *header_file,
		  const char *to); /* to must not exist; fsynced */
int header_set_device_bytes(const char *device, const char *file, uint64_t device_bytes);
int header_prove(const char *device, const char *file,
		 const struct secret *passphrase); /* opens a keyslot? nothing activated */
unsigned header_sector_bytes(unsigned filesystem_block_bytes, unsigned logical_block_bytes,
			     unsigned physical_block_bytes, uint64_t device_bytes);
/* Attached → exported header file, then decryption initialised in it; see steps in the source. */
int header_export(const char *device, const char *file);
int header_initialise_decryption(const char *device, const char *file, const char *mapping,
				 const struct secret *passphrase);
/* 0 = this libcryptsetup may convert online; else a sentence */
int header_library_check(char **ret_reason);
int header_library_check_file(const char *path, char **ret_reason);
void header_log_to_debug(void);
