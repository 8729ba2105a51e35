/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any file: what is accepted can be written, and is read again as it was; and sh has nothing to do.
 */
#include <unistd.h>

#include "base/file.h"
#include "boot/initramfs-conf.h"
#include "fuzz.h"

static bool is_same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static void check_written(const struct initramfs_conf *conf)
{
	_cleanup_(initramfs_conf_clear) struct initramfs_conf again = { 0 };
	_cleanup_(freep) char *path = NULL, *text = NULL;
	size_t size_bytes;

	must(text_format(&path, "/tmp/vmcrypt-fuzz-conf-%d", (int)getpid()) == 0);
	must(initramfs_conf_write(path, conf) == 0);
	must(file_read(path, INITRAMFS_CONF_MAX_BYTES, &text, &size_bytes) == 0);
	(void)unlink(path);
	must(initramfs_conf_parse(text, size_bytes, &again) == 0);
	must(!strpbrk(strchr(text, '\n'), "$`\"'\\;&|<>() \t"));
	must(is_same(conf->root_uuid, again.root_uuid) && is_same(conf->mapping, again.mapping));
	must(is_same(conf->boot_uuid, again.boot_uuid));
	must(is_same(conf->boot_type, again.boot_type));
	must(is_same(conf->header, again.header) && is_same(conf->filesystem, again.filesystem));
	must(is_same(conf->header_uuid, again.header_uuid) && is_same(conf->device, again.device));
	must(conf->prompt_after_s == again.prompt_after_s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(initramfs_conf_clear) struct initramfs_conf conf = { 0 };
	unsigned after_s = INITRAMFS_PROMPT_AFTER_MAX;
	int r = initramfs_conf_parse((const char *)data, size, &conf);

	must(r == 0 || r == INITRAMFS_CONF_E_MALFORMED);
	must((r == 0) == (conf.root_uuid && conf.mapping));
	if (r == 0)
		check_written(&conf);
	r = initramfs_settings_parse((const char *)data, size, &after_s);
	must(r == 0 || r == INITRAMFS_CONF_E_MALFORMED);
	must(after_s <= INITRAMFS_PROMPT_AFTER_MAX);
	return 0;
}
