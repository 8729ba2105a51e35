/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vault/operation.h"

#include "base/base64.h"
#include "base/cleanup.h"

#define REST_MS 3000 /* a vault that answers at all has answered by then, also a second try */

/**
 * operation_ended() - an operation that may be urgent has its result
 *
 * With one urgent operation done, or all of them failed, the caller has what it waits for. What
 * else is in the batch gets a little more time, not the rest of the batch's.
 */
void operation_ended(struct session *session, const struct vault_operation *operation)
{
	if (!operation->is_urgent)
		return;
	session->n_urgent--;
	if (operation->result.condition == 0 || session->n_urgent == 0)
		http_shorten(session->http, REST_MS);
}

/** operation_decode() - base64url letters to bytes. Return: 0, -EBADMSG or -ENOMEM. */
int operation_decode(const struct secret *letters, struct secret **ret)
{
	_cleanup_(secret_freep) struct secret *bytes = NULL;
	size_t size;
	int r;

	r = secret_new(BASE64_DECODED_SIZE(secret_size(letters)), &bytes);
	if (r < 0)
		return r;
	r = base64_decode((const char *)secret_bytes_const(letters), secret_size(letters),
			  secret_bytes(bytes), &size);
	if (r < 0)
		return r;
	secret_set_size(bytes, size);
	*ret = steal(bytes);
	return 0;
}

/** operation_encode() - bytes to base64url letters. Return: 0 or -ENOMEM. */
int operation_encode(const struct secret *bytes, struct secret **ret)
{
	_cleanup_(secret_freep) struct secret *letters = NULL;
	int r;

	r = secret_new(BASE64_ENCODED_SIZE(secret_size(bytes)) + 1, &letters);
	if (r < 0)
		return r;
	secret_set_size(letters, base64url_encode(secret_bytes_const(bytes), secret_size(bytes),
						  (char *)secret_bytes(letters)));
	*ret = steal(letters);
	return 0;
}
