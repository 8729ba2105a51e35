/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any file: what is accepted can be written, and is read again as it was; and sh has nothing to do.
 */
#include <unistd.h>

#include "base/file.h"
#include "boot/split-conf.h"
#include "fuzz.h"

static void check_written(const struct split_conf *conf)
{
	_cleanup_(split_conf_clear) struct split_conf again = { 0 };
	_cleanup_(freep) char *path = NULL, *text = NULL;
	size_t size_bytes;

	must(text_format(&path, "/tmp/vmcrypt-fuzz-split-%d", (int)getpid()) == 0);
	must(split_conf_write(path, conf) == 0);
	must(file_read(path, SPLIT_CONF_MAX_BYTES, &text, &size_bytes) == 0);
	(void)unlink(path);
	must(split_conf_parse(text, size_bytes, &again) == 0);
	must(!strpbrk(strchr(text, '\n'), "$`\"'\\;&|<>() \t"));
	must(strcmp(conf->job, again.job) == 0 && !strchr(conf->job, '/'));
	must(strcmp(conf->root_uuid, again.root_uuid) == 0);
	must(strcmp(conf->device, again.device) == 0);
	must(!conf->partition_uuid == !again.partition_uuid);
	must(conf->number == again.number && conf->filesystem_bytes == again.filesystem_bytes);
	must(conf->keeps_bytes == again.keeps_bytes && conf->start_bytes == again.start_bytes);
	must(conf->size_bytes == again.size_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(split_conf_clear) struct split_conf conf = { 0 };
	int r = split_conf_parse((const char *)data, size, &conf);

	must(r == 0 || r == SPLIT_CONF_E_MALFORMED);
	if (r == 0)
		check_written(&conf);
	return 0;
}
