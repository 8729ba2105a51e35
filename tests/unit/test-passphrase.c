/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/base64.h"
#include "key/passphrase.h"
#include "test.h"

static void test_form(void **state)
{
	for (int i = 0; i < 100; i++) {
		_cleanup_(secret_freep) struct secret *one = NULL, *other = NULL;
		uint8_t bytes[BASE64_DECODED_SIZE(43)];
		size_t size;

		assert_int_equal(passphrase_generate(&one), 0);
		assert_int_equal(passphrase_generate(&other), 0);
		assert_false(secret_equal(one, other));
		assert_int_equal(secret_size(one), 43);
		assert_int_equal(base64_decode((const char *)secret_bytes(one), 43, bytes, &size),
				 0);
		assert_int_equal(size, PASSPHRASE_RANDOM_BYTES);
		/* nothing that a shell, a crypttab or a vault could take for something else */
		assert_null(memchr(secret_bytes(one), '+', 43));
		assert_null(memchr(secret_bytes(one), '=', 43));
		assert_null(memchr(secret_bytes(one), '\n', 43));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
