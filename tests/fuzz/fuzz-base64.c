/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What decodes has one text only, which is what encoding gives; anything encodes and comes back. */
#include "base/base64.h"
#include "fuzz.h"

static void check_decode(const char *text, size_t size)
{
	_cleanup_(freep) uint8_t *bytes = malloc(BASE64_DECODED_SIZE(size));
	_cleanup_(freep) char *again = NULL;
	size_t bytes_size, letters;

	must(bytes);
	if (base64_decode(text, size, bytes, &bytes_size) < 0)
		return;
	must(bytes_size <= BASE64_DECODED_SIZE(size));
	again = malloc(BASE64_ENCODED_SIZE(bytes_size) + 1);
	must(again);
	letters = base64url_encode(bytes, bytes_size, again);
	must(letters <= size && size - letters <= 2);
	for (size_t i = 0; i < size; i++) {
		char c = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];

		must(i < letters ? c == again[i] : c == '=');
	}
}

static void check_encode(const uint8_t *data, size_t size)
{
	_cleanup_(freep) char *text = malloc(BASE64_ENCODED_SIZE(size) + 1);
	size_t letters, back;

	must(text);
	letters = base64url_encode(data, size, text);
	must(letters == BASE64_ENCODED_SIZE(size));
	/* in place, as a vault's reply is decoded */
	_cleanup_(freep) char *place = malloc(letters + 3);

	must(place);
	memcpy(place, text, letters);
	must(base64_decode(place, letters, (uint8_t *)place, &back) == 0);
	must(back == size && (size == 0 || memcmp(place, data, size) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_decode((const char *)data, size);
	check_encode(data, size);
	return 0;
}
