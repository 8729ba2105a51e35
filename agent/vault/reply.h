/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vault/reply.h - takes one string out of a JSON answer that holds a secret
 *
 * The body of such an answer lies in a struct secret and never goes through a JSON library, which
 * would leave copies behind. Reads a top-level object, checks its form, and decodes the one string
 * that was asked for into a secret of its own. Pure; never logs.
 */
#pragma once

#include "base/secret.h"

#define REPLY_MAX_BYTES (256 * 1024) /* a secret has at most 25 KiB; the rest is room for tags */
#define REPLY_MAX_DEPTH 16           /* a secret's bundle has 3 levels */

enum {
	REPLY_E_ABSENT = 1, /* well-formed, but no such string in it */
	REPLY_E_FORM,       /* not a JSON object, or the name twice, or too deep */
};

int reply_string(const struct secret *body, const char *name, struct secret **ret);
int reply_text(const struct secret *body, const char *name, size_t max_bytes, char **ret);
