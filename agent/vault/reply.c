/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vault/reply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct scanner {
	const uint8_t *at, *end;
};

static void skip_blanks(struct scanner *scanner)
{
	while (scanner->at < scanner->end && *scanner->at != '\0' &&
	       strchr(" \t\r\n", *scanner->at))
		scanner->at++;
}

static bool take(struct scanner *scanner, uint8_t letter)
{
	skip_blanks(scanner);
	if (scanner->at == scanner->end || *scanner->at != letter)
		return false;
	scanner->at++;
	return true;
}

/* the next letter without moving; 0 at the end */
static uint8_t peek(struct scanner *scanner)
{
	skip_blanks(scanner);
	return scanner->at == scanner->end ? 0 : *scanner->at;
}

static int hex4(struct scanner *scanner, uint32_t *ret)
{
	uint32_t value = 0;

	if (scanner->end - scanner->at < 4)
		return -EBADMSG;
	for (int i = 0; i < 4; i++) {
		uint8_t c = *scanner->at++;

		if (c >= '0' && c <= '9')
			value = value << 4 | (uint32_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value << 4 | (uint32_t)(c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			value = value << 4 | (uint32_t)(c - 'A' + 10);
		else
			return -EBADMSG;
	}
	*ret = value;
	return 0;
}

/* behind "\u": one code point, from two escapes when it is a surrogate pair (RFC 8259, section 7)
 */
static int code_point(struct scanner *scanner, uint32_t *ret)
{
	uint32_t high, low;

	if (hex4(scanner, &high) < 0)
		return -EBADMSG;
	if (high < 0xd800 || high > 0xdfff) {
		*ret = high;
		return 0;
	}
	if (high > 0xdbff || scanner->end - scanner->at < 6 || scanner->at[0] != '\\' ||
	    scanner->at[1] != 'u')
		return -EBADMSG;
	scanner->at += 2;
	if (hex4(scanner, &low) < 0 || low < 0xdc00 || low > 0xdfff)
		return -EBADMSG;
	*ret = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
	return 0;
}

static size_t utf8_encode(uint32_t point, uint8_t out[4])
{
	if (point < 0x80) {
		out[0] = (uint8_t)point;
		return 1;
	}
	if (point < 0x800) {
		out[0] = (uint8_t)(0xc0 | point >> 6);
		out[1] = (uint8_t)(0x80 | (point & 63));
		return 2;
	}
	if (point < 0x10000) {
		out[0] = (uint8_t)(0xe0 | point >> 12);
		out[1] = (uint8_t)(0x80 | (point >> 6 & 63));
		out[2] = (uint8_t)(0x80 | (point & 63));
		return 3;
	}
	out[0] = (uint8_t)(0xf0 | point >> 18);
	out[1] = (uint8_t)(0x80 | (point >> 12 & 63));
	out[2] = (uint8_t)(0x80 | (point >> 6 & 63));
	out[3] = (uint8_t)(0x80 | (point & 63));
	return 4;
}

/* what stands behind a backslash; @ret_size bytes of it in @out */
static int escape(struct scanner *scanner, uint8_t out[4], size_t *ret_size)
{
	static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
	const char *found;
	uint32_t point;
	uint8_t c;

	if (scanner->at == scanner->end)
		return -EBADMSG;
	c = *scanner->at++;
	if (c == 'u') {
		if (code_point(scanner, &point) < 0)
			return -EBADMSG;
		*ret_size = utf8_encode(point, out);
		explicit_bzero(&point, sizeof(point));
		return 0;
	}
	found = c ? strchr(letters, c) : NULL;
	if (!found)
		return -EBADMSG;
	out[0] = (uint8_t)meanings[found - letters];
	*ret_size = 1;
	return 0;
}

/**
 * scan_string() - a string, decoded into @out or only skipped
 * @out: large enough for the rest of the body (decoding never makes text longer), or NULL
 *
 * Return: 0, -EBADMSG or -ENOBUFS.
 */
static int scan_string(struct scanner *scanner, struct secret *out)
{
	if (!take(scanner, '"'))
		return -EBADMSG;
	while (scanner->at < scanner->end) {
		uint8_t c = *scanner->at++, bytes[4] = { c };
		size_t size = 1;
		int r = 0;

		if (c == '"')
			return 0;
		if (c < 0x20)
			return -EBADMSG;
		if (c == '\\' && escape(scanner, bytes, &size) < 0)
			return -EBADMSG;
		if (out)
			r = secret_append(out, bytes, size);
		explicit_bzero(bytes, sizeof(bytes));
		if (r < 0)
			return r;
	}
	return -EBADMSG;
}

static int scan_word(struct scanner *scanner)
{
	static const char *const words[] = { "true", "false", "null" };
	size_t left = (size_t)(scanner->end - scanner->at), size = 0;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t length = strlen(words[i]);

		if (left >= length && memcmp(scanner->at, words[i], length) == 0) {
			scanner->at += length;
			return 0;
		}
	}
	/* a number: nobody here reads one, so that only its letters are checked */
	while (size < left && scanner->at[size] && strchr("+-.0123456789eE", scanner->at[size]))
		size++;
	scanner->at += size;
	return size > 0 ? 0 : -EBADMSG;
}

static int scan_value(struct scanner *scanner, unsigned depth)
{
	uint8_t first = peek(scanner), last = first == '{' ? '}' : ']';

	if (first == '"')
		return scan_string(scanner, NULL);
	if (first != '{' && first != '[')
		return scan_word(scanner);
	if (depth >= REPLY_MAX_DEPTH)
		return -EBADMSG;
	scanner->at++;
	if (take(scanner, last))
		return 0;
	do {
		if (first == '{' && (scan_string(scanner, NULL) < 0 || !take(scanner, ':')))
			return -EBADMSG;
		if (scan_value(scanner, depth + 1) < 0)
			return -EBADMSG;
	} while (take(scanner, ','));
	return take(scanner, last) ? 0 : -EBADMSG;
}

/* the name of a member, and whether it is @name; one written with escapes is never ours */
static int scan_name(struct scanner *scanner, const char *name, bool *ret_is_it)
{
	const uint8_t *begin;
	size_t length = strlen(name);

	if (peek(scanner) != '"')
		return -EBADMSG;
	begin = scanner->at + 1;
	if (scan_string(scanner, NULL) < 0 || !take(scanner, ':'))
		return -EBADMSG;
	*ret_is_it = (size_t)(scanner->end - begin) > length && memcmp(begin, name, length) == 0 &&
		     begin[length] == '"';
	return 0;
}

static int find(struct scanner *scanner, const char *name, struct secret *out, bool *ret_found)
{
	bool is_seen = false, is_it;

	if (!take(scanner, '{'))
		return -EBADMSG;
	if (take(scanner, '}')) {
		skip_blanks(scanner);
		return scanner->at == scanner->end ? 0 : -EBADMSG;
	}
	do {
		if (scan_name(scanner, name, &is_it) < 0)
			return -EBADMSG;
		if (is_it && is_seen)
			return -EBADMSG;
		is_seen = is_seen || is_it;
		if (is_it && peek(scanner) == '"') {
			if (scan_string(scanner, out) < 0)
				return -EBADMSG;
			*ret_found = true;
		} else if (scan_value(scanner, 1) < 0) {
			return -EBADMSG;
		}
	} while (take(scanner, ','));
	if (!take(scanner, '}'))
		return -EBADMSG;
	skip_blanks(scanner);
	return scanner->at == scanner->end ? 0 : -EBADMSG;
}

/**
 * reply_string() - the string of a top-level member
 * @body: the answer as it came
 * @name: letters only
 * @ret:  decoded bytes, at least one; owned by the caller
 *
 * A name that occurs twice is refused: two readers of such an answer could disagree.
 *
 * Return: 0, REPLY_E_ABSENT (also: empty, or not a string), REPLY_E_FORM, or -ENOMEM.
 * Source: RFC 8259.
 */
int reply_string(const struct secret *body, const char *name, struct secret **ret)
{
	_cleanup_(secret_freep) struct secret *out = NULL;
	struct scanner scanner;
	bool is_found = false;
	int r;

	if (!body || secret_size(body) == 0)
		return REPLY_E_FORM;
	r = secret_new(secret_size(body), &out);
	if (r < 0)
		return r;
	scanner.at = secret_bytes_const(body);
	scanner.end = scanner.at + secret_size(body);
	if (find(&scanner, name, out, &is_found) < 0)
		return REPLY_E_FORM;
	if (!is_found || secret_size(out) == 0)
		return REPLY_E_ABSENT;
	*ret = steal(out);
	return 0;
}

/**
 * reply_text() - a member that is no secret, such as an identifier, as an ordinary string
 * @max_bytes: longer ones are REPLY_E_FORM, and so is anything but printable ASCII
 */
int reply_text(const struct secret *body, const char *name, size_t max_bytes, char **ret)
{
	_cleanup_(secret_freep) struct secret *out = NULL;
	int r;

	r = reply_string(body, name, &out);
	if (r != 0)
		return r;
	if (secret_size(out) > max_bytes)
		return REPLY_E_FORM;
	for (size_t i = 0; i < secret_size(out); i++)
		if (secret_bytes_const(out)[i] < 0x21 || secret_bytes_const(out)[i] > 0x7e)
			return REPLY_E_FORM;
	*ret = strndup((const char *)secret_bytes_const(out), secret_size(out));
	return *ret ? 0 : -ENOMEM;
}
