/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vault/body.h - writes the JSON body of a request that holds a secret
 *
 * Straight into a struct secret; the counterpart of vault/reply.h.
 */
#pragma once

#include "base/secret.h"

int body_append(struct secret *body, const char *text);
int body_append_string(struct secret *body, const void *bytes, size_t size_bytes);
int body_append_member(struct secret *body, const char *name, const char *value);
