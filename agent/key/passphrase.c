/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "key/passphrase.h"

#include "base/base64.h"
#include "base/cleanup.h"

/**
 * passphrase_generate() - 256 random bits as 43 letters of base64url
 * @ret: owned by the caller
 *
 * Return: 0 or -errno (-ENOMEM: raise LimitMEMLOCK=).
 */
int passphrase_generate(struct secret **ret)
{
	_cleanup_(secret_freep) struct secret *random = NULL, *passphrase = NULL;
	size_t letters;
	int r;

	r = secret_new_random(PASSPHRASE_RANDOM_BYTES, &random);
	if (r < 0)
		return r;
	r = secret_new(BASE64_ENCODED_SIZE(PASSPHRASE_RANDOM_BYTES), &passphrase);
	if (r < 0)
		return r;
	letters = base64url_encode(secret_bytes(random), secret_size(random),
				   (char *)secret_bytes(passphrase));
	secret_set_size(passphrase, letters);
	*ret = steal(passphrase);
	return 0;
}
