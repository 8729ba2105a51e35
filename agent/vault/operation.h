/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vault/operation.h - the verbs of vault/vault.h, as chains of calls
 *
 * Each begins with x_start(), goes on in the callbacks of its calls, and leaves its end in the
 * operation's results. Its state is the x it returns, to be freed when http_run() has returned.
 * Those that can be urgent say operation_ended() then.
 */
#pragma once

#include "vault/call.h"

struct fetch;
struct store;
struct probe;

int fetch_start(struct session *session, struct vault_operation *operation, struct fetch **ret);
void fetch_free(struct fetch *fetch);

int store_start(struct session *session, struct vault_operation *operation, struct store **ret);
void store_free(struct store *store);

int probe_start(struct session *session, struct vault_operation *operation, struct probe **ret);
void probe_free(struct probe *probe);

void operation_ended(struct session *session, const struct vault_operation *operation);

int operation_decode(const struct secret *letters, struct secret **ret);
int operation_encode(const struct secret *bytes, struct secret **ret);
