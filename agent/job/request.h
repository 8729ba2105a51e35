/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job/request.h - what was asked for
 *
 * Parsed and checked once, at the door, before anything looks at a disk; then stored as it is in
 * the job's folder (request.json). Says all that is wrong at once.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"
#include "key/reference.h"

#define REQUEST_MAX_BYTES        (64 * 1024) /* the platform's own limit for extension settings */
#define REQUEST_MAX_VOLUMES      256 /* selected by UUID; the largest machine takes 64 data disks */
#define REQUEST_VOLUME_MAX_BYTES 64  /* a UUID has 36 letters, vfat's 9 */

enum request_kind {
	REQUEST_ENCRYPT, /* in place, or --encrypt-format-all */
	REQUEST_DECRYPT,
	REQUEST_RESTORE, /* a snapshot */
	REQUEST_GROW,    /* volumes follow their devices, which have become larger */
	REQUEST_CHECK,   /* no job: what is encrypted already, will it boot? */
};

struct request {
	enum request_kind kind;
	bool wants_os, wants_data; /* from volume_type: All, OS, Data */
	enum key_provider provider;
	char *vault, *kek, *algorithm, *client_id;
	char *key_directory; /* provider file; NULL = /etc/vmcrypt/keys */
	char *snapshot;      /* restore: its name */
	char **volumes;      /* only these UUIDs; none = all of the type */
	size_t n_volumes;
	bool is_format_all, is_next_boot, has_recovery_key, has_detached_header,
		allows_other_region, wants_reboot; /* as soon as nothing but a boot is left to do */
};

/* One thing that is wrong with a request, for the caller of the door. */
struct request_problem {
	const char *parameter; /* as in the JSON: "vault" */
	char *what, *remedy;   /* a sentence each */
};

struct request_problems {
	struct request_problem *problems;
	size_t n;
};

struct request *request_free(struct request *request);
void request_freep(struct request **request);
void request_problems_clear(struct request_problems *problems);

/* JSON names: kind ("encrypt" "decrypt" "restore" "grow" "check"), volume_type, provider, vault,
 * kek, algorithm, client_id, key_directory, snapshot, volumes, format_all, next_boot, recovery_key,
 * detached_header, allow_other_region, reboot. Unknown names are problems too. Returns 0 (also with
 * problems: then *ret is NULL) or -errno. */
int request_from_json(struct json_object *object, struct request **ret,
		      struct request_problems *problems);
int request_to_json(const struct request *request, struct json_object **ret);

const char *request_kind_to_string(enum request_kind kind);
bool request_is_snapshot_name(const char *text);
bool request_may_overlap(const struct request *a, const struct request *b);
