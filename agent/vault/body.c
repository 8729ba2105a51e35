/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vault/body.h"

#include <errno.h>
#include <string.h>

/** body_append() - text as it is. Return: 0 or -ENOBUFS. */
int body_append(struct secret *body, const char *text)
{
	return secret_append(body, text, strlen(text));
}

/**
 * body_append_string() - bytes as a JSON string with its quotes
 * @bytes: UTF-8; each takes at most 6 letters
 *
 * Return: 0 or -ENOBUFS.
 */
int body_append_string(struct secret *body, const void *bytes, size_t size_bytes)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *at = bytes;
	int r;

	r = secret_append(body, "\"", 1);
	for (size_t i = 0; i < size_bytes && r == 0; i++) {
		uint8_t c = at[i];
		char control[6] = { '\\', 'u', '0', '0', digits[c >> 4], digits[c & 15] };

		if (c < 0x20 || c == 0x7f)
			r = secret_append(body, control, sizeof(control));
		else if (c == '"' || c == '\\')
			r = secret_append(body, (char[]){ '\\', (char)c }, 2);
		else
			r = secret_append(body, &c, 1);
		explicit_bzero(control, sizeof(control));
		explicit_bzero(&c, sizeof(c));
	}
	return r < 0 ? r : secret_append(body, "\"", 1);
}

/** body_append_member() - ,"name":"value"; nothing when @value is NULL. Return: 0 or -ENOBUFS. */
int body_append_member(struct secret *body, const char *name, const char *value)
{
	int r;

	if (!value)
		return 0;
	r = body_append(body, ",");
	if (r == 0)
		r = body_append_string(body, name, strlen(name));
	if (r == 0)
		r = body_append(body, ":");
	if (r == 0)
		r = body_append_string(body, value, strlen(value));
	return r;
}
