/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A client's bytes, cut anywhere: the same calls come out, or the stream ends for the same reason.
 */
#include <errno.h>

#include "fuzz.h"
#include "ipc/varlink-frame.h"

#define MAX_BYTES 4096

static int run(const uint8_t *data, size_t size, size_t cut, uint64_t *ret_digest)
{
	_cleanup_(frame_input_clear) struct frame_input input = { .max_bytes = MAX_BYTES };
	uint64_t digest = 14695981039346656037U;
	int r;

	for (size_t at = 0; at < size; at += cut) {
		size_t n = size - at < cut ? size - at : cut;
		struct json_object *object;

		r = frame_input_append(&input, data + at, n);
		if (r < 0)
			return r;
		while ((r = frame_input_next(&input, &object)) == 1) {
			struct varlink_request request;
			const char *text = json_object_to_json_string(object);

			for (; *text; text++)
				digest = (digest ^ (uint8_t)*text) * 1099511628211U;
			if (varlink_request_parse(object, &request) == 0) {
				must(strlen(request.method) <= VARLINK_METHOD_MAX_BYTES);
				must(strchr(request.method, '.'));
				must(!(request.is_oneway && request.wants_more));
			}
			json_object_put(object);
		}
		if (r < 0)
			return r;
		must(input.used < MAX_BYTES);
	}
	*ret_digest = digest;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t whole = 0, cut = 0;
	int r;

	if (size == 0)
		return 0;
	/* a message that is too long may be found out about before or after a broken one */
	r = run(data, size, 61, &whole);
	must((r < 0) == (run(data, size, 7, &cut) < 0));
	must(r < 0 || whole == cut);
	return 0;
}
