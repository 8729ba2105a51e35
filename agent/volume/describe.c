/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "volume/inventory.h"

const char *volume_kind_to_string(enum volume_kind kind)
{
	static const char *const words[] = {
		[VOLUME_KIND_DISK] = "disk",   [VOLUME_KIND_PARTITION] = "partition",
		[VOLUME_KIND_LVM] = "lvm",     [VOLUME_KIND_CRYPT] = "crypt",
		[VOLUME_KIND_MD] = "md",       [VOLUME_KIND_LOOP] = "loop",
		[VOLUME_KIND_OTHER] = "other",
	};

	return words[kind];
}

const char *volume_role_to_string(enum volume_role role)
{
	static const char *const words[] = {
		[VOLUME_ROLE_DATA] = "data",           [VOLUME_ROLE_OS] = "os",
		[VOLUME_ROLE_BOOT] = "boot",           [VOLUME_ROLE_SWAP] = "swap",
		[VOLUME_ROLE_RESOURCE] = "resource",   [VOLUME_ROLE_BEK] = "bek",
		[VOLUME_ROLE_CONTAINER] = "container",
	};

	return words[role];
}

/* clang-format off */
static const struct {
	const char *word, *sentence;
} excuses[] = {
	[VOLUME_EXCUSE_NONE] = { "none",
		"It is selected." },
	[VOLUME_EXCUSE_OTHER_TYPE] = { "other-type",
		"It belongs to the other volume type than the one that was asked for (OS or Data)." },
	[VOLUME_EXCUSE_BOOT] = { "boot",
		"Firmware or boot loader read it, so it stays plain." },
	[VOLUME_EXCUSE_SWAP] = { "swap",
		"It is swap space: it gets a random key at each boot when the OS volume is encrypted." },
	[VOLUME_EXCUSE_RESOURCE] = { "resource",
		"It is the platform's temporary disk, whose content does not outlive a move of the machine." },
	[VOLUME_EXCUSE_BEK] = { "bek",
		"It is the platform's key volume." },
	[VOLUME_EXCUSE_CONTAINER] = { "container",
		"Other volumes lie on it; those are looked at one by one." },
	[VOLUME_EXCUSE_READ_ONLY] = { "read-only",
		"Its device is read-only." },
	[VOLUME_EXCUSE_REMOVABLE] = { "removable",
		"Its device is removable." },
	[VOLUME_EXCUSE_NO_FILESYSTEM] = { "no-filesystem",
		"There is no filesystem on it." },
	[VOLUME_EXCUSE_NO_UUID] = { "no-uuid",
		"Its filesystem has no UUID to know it by; tune2fs, xfs_admin or btrfstune give it one." },
	[VOLUME_EXCUSE_UNSUPPORTED_FILESYSTEM] = { "unsupported-filesystem",
		"Its filesystem is none of ext2, ext3, ext4, xfs and btrfs." },
	[VOLUME_EXCUSE_UNSUPPORTED_DEVICE] = { "unsupported-device",
		"It lies on a kind of device that is not supported (a loop, memory, optical or network device, "
		"or a device-mapper target other than LVM and dm-crypt)." },
	[VOLUME_EXCUSE_ENCRYPTED] = { "encrypted",
		"It is encrypted already." },
	[VOLUME_EXCUSE_NOT_MOUNTED] = { "not-mounted",
		"It is neither mounted nor in /etc/fstab, so nothing says that it is wanted; mount it." },
	[VOLUME_EXCUSE_AMBIVALENT] = { "ambivalent",
		"It bears traces of several formats; look with wipefs, and remove the dead one." },
	[VOLUME_EXCUSE_SEVERAL_DEVICES] = { "several-devices",
		"Its filesystem spans several devices, which cannot be encrypted one at a time." },
};
/* clang-format on */

const char *volume_excuse_to_string(enum volume_excuse excuse)
{
	return excuses[excuse].word;
}

const char *volume_excuse_sentence(enum volume_excuse excuse)
{
	return excuses[excuse].sentence;
}

/* Length of the UTF-8 sequence at @text, 0 = none (RFC 3629: shortest form, no surrogates) */
static size_t sequence_length(const unsigned char *text)
{
	size_t n = text[0] < 0x80   ? 1
		   : text[0] < 0xc2 ? 0
		   : text[0] < 0xe0 ? 2
		   : text[0] < 0xf0 ? 3
		   : text[0] < 0xf5 ? 4
				    : 0;

	for (size_t i = 1; i < n; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
	    (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
		return 0;
	return n;
}

/* Labels and paths are bytes that anyone has written; JSON is UTF-8. What is not becomes "?". */
static int set_text(struct json_object *object, const char *name, const char *value)
{
	_cleanup_(freep) char *text = NULL;

	if (!value)
		return 0;
	text = strdup(value);
	if (!text)
		return -ENOMEM;
	for (char *at = text; *at;) {
		size_t n = sequence_length((const unsigned char *)at);

		if (n == 0 || (unsigned char)*at < 0x20) {
			*at = '?';
			n = 1;
		}
		at += n;
	}
	return json_set_string(object, name, text);
}

static int set_names(const struct inventory *inventory, const size_t *indexes, size_t n,
		     struct json_object *object, const char *name)
{
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();

	if (!array)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct json_object *text =
			json_object_new_string(inventory->volumes[indexes[i]].name);

		if (!text)
			return -ENOMEM;
		if (json_object_array_add(array, text) < 0) {
			json_object_put(text);
			return -ENOMEM;
		}
	}
	return json_set(object, name, steal(array));
}

static int set_mounts(const struct volume *volume, struct json_object *object)
{
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();

	if (!array)
		return -ENOMEM;
	for (size_t i = 0; i < volume->n_mounts; i++) {
		struct json_object *text;
		_cleanup_(json_putp) struct json_object *holder = json_object_new_object();

		/* by way of an object, to have the text made fit */
		if (!holder || set_text(holder, "target", volume->mounts[i].target) < 0 ||
		    !json_object_object_get_ex(holder, "target", &text))
			return -ENOMEM;
		if (json_object_array_add(array, json_object_get(text)) < 0) {
			json_object_put(text);
			return -ENOMEM;
		}
	}
	return json_set(object, "mounts", steal(array));
}

static int set_texts(const struct volume *volume, struct json_object *object)
{
	const struct {
		const char *name, *value;
	} rows[] = {
		{ "name", volume->name },
		{ "device", volume->path },
		{ "kind", volume_kind_to_string(volume->kind) },
		{ "role", volume_role_to_string(volume->role) },
		{ "filesystem", volume->filesystem },
		{ "uuid", volume->uuid },
		{ "label", volume->label },
		{ "partition_uuid", volume->partition_uuid },
		{ "table", volume->table_type },
		{ "mapping", volume->mapping },
		{ "link", volume->link },
		{ "lun", volume->lun },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (set_text(object, rows[i].name, rows[i].value) < 0)
			return -ENOMEM;
	return 0;
}

/**
 * volume_to_json() - what status, plan and snapshot say of a device
 * @ret: owned by the caller
 *
 * Return: 0 or -ENOMEM.
 */
int volume_to_json(const struct inventory *inventory, const struct volume *volume,
		   struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *object = json_object_new_object();

	if (!object || set_texts(volume, object) < 0 ||
	    json_set_int(object, "size_bytes", (int64_t)volume->size_bytes) < 0 ||
	    json_set_int(object, "filesystem_bytes", (int64_t)volume->filesystem_bytes) < 0 ||
	    json_set_bool(object, "read_only", volume->is_read_only) < 0 ||
	    set_mounts(volume, object) < 0 ||
	    set_names(inventory, volume->parents, volume->n_parents, object, "parents") < 0)
		return -ENOMEM;
	*ret = steal(object);
	return 0;
}
