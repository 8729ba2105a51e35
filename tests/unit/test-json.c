/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/json.h"
#include "test.h"

static void test_parse(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text;
		int r;
	} rows[] = {
		{ "an object",                  "{\"a\": 1}",              0 },
		{ "blanks around it",           " \n{\"a\": 1} \t\r\n",    0 },
		{ "as deep as it may be", "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]", 0 },
		{ "nothing",                    "",                        -EBADMSG },
		{ "blanks only",                "  ",                      -EBADMSG },
		{ "half an object",             "{\"a\":",                 -EBADMSG },
		{ "two values",                 "{} {}",                   -EBADMSG },
		{ "bytes behind it",            "{}x",                     -EBADMSG },
		{ "one level too deep", "[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]", -EBADMSG },
		{ "a comment",                  "{/* */}",                 -EBADMSG },
		{ "a comma at the end",         "{\"a\": 1,}",             -EBADMSG },
		{ "no UTF-8",                   "{\"a\": \"\xff\"}",       -EBADMSG },
		{ "null, which nobody sends",   "null",                    -EBADMSG },
		{ "a bare number", "17", 0 },
		{ "a number and more", "17 x", -EBADMSG },
		{ "half an object", "{\"a\":1", -EBADMSG },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(json_putp) struct json_object *object = NULL;

		assert_row(rows[i].name,
			   json_parse(rows[i].text, strlen(rows[i].text), &object) == rows[i].r);
		assert_row(rows[i].name, (object != NULL) == (rows[i].r == 0));
	}
}

static void test_getters_check_the_type(void **state)
{
	static const char text[] = "{\"s\":\"x\",\"n\":\"a\\u0000b\",\"i\":-5,\"b\":true,\"o\":{},"
				   "\"a\":[],\"z\":null}";
	_cleanup_(json_putp) struct json_object *object = NULL;

	assert_int_equal(json_parse(text, strlen(text), &object), 0);
	assert_string_equal(json_get_string(object, "s"), "x");
	assert_null(json_get_string(object, "n"));
	assert_null(json_get_string(object, "i"));
	assert_null(json_get_string(object, "z"));
	assert_null(json_get_string(object, "absent"));
	assert_null(json_get_string(NULL, "s"));
	assert_int_equal(json_get_int(object, "i", 9), -5);
	assert_int_equal(json_get_int(object, "s", 9), 9);
	assert_true(json_get_bool(object, "b", false));
	assert_true(json_get_bool(object, "i", true));
	assert_non_null(json_get_object(object, "o"));
	assert_null(json_get_object(object, "a"));
	assert_non_null(json_get_array(object, "a"));
	assert_null(json_get_array(object, "o"));
}

static void test_file_there_and_back(void **state)
{
	_cleanup_(json_putp) struct json_object *object = json_object_new_object(), *back = NULL;
	_cleanup_(freep) char *path = scratch_path(state, "x.json");

	assert_int_equal(json_set_string(object, "url", "https://a/b"), 0);
	assert_int_equal(json_set_string(object, "none", NULL), 0);
	assert_int_equal(json_set_int(object, "n", INT64_MAX), 0);
	assert_int_equal(json_set_bool(object, "yes", true), 0);
	assert_int_equal(json_write_file(path, object, 0600), 0);
	assert_int_equal(json_read_file(path, 10, &back), -EFBIG);
	assert_int_equal(json_read_file(path, 1000, &back), 0);
	assert_true(json_object_equal(object, back));
	assert_false(json_object_object_get_ex(back, "none", NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_getters_check_the_type),
		cmocka_unit_test_setup_teardown(test_file_there_and_back, scratch_make,
						scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
