/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* base/json.h - JSON in from outside, bounded; typed getters
 *
 * A thin face over json-c: a size limit, a depth limit, no trailing bytes, and getters that check
 * the type. Never sees a secret.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_MAX_DEPTH 16 /* our deepest object has 6 levels; json-c's own limit is 32 */

void json_putp(struct json_object **object);

int json_parse(const char *text, size_t size_bytes, struct json_object **ret);
int json_read_file(const char *path, size_t max_bytes, struct json_object **ret);
int json_write_file(const char *path, struct json_object *object, mode_t mode);

const char *json_get_string(struct json_object *object, const char *name);
bool json_get_bool(struct json_object *object, const char *name, bool otherwise);
int64_t json_get_int(struct json_object *object, const char *name, int64_t otherwise);
struct json_object *json_get_object(struct json_object *object, const char *name);
struct json_object *json_get_array(struct json_object *object, const char *name);

int json_set_string(struct json_object *object, const char *name, const char *value);
int json_set_bool(struct json_object *object, const char *name, bool value);
int json_set_int(struct json_object *object, const char *name, int64_t value);
int json_set(struct json_object *object, const char *name, struct json_object *value);
