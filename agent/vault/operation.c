/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vault/operation.h"

#include "base/base64.h"
#include "base/cleanup.h"

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
