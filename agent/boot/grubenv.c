/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Source: GRUB manual, "The GRUB environment block"; grub2-editenv(1). */
#include "boot/grubenv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/process.h"
#include "boot/bootfs.h"

#define GRUBENV        "/boot/grub2/grubenv"
#define TOOL           "/usr/bin/grub2-editenv"
#define TOOL_TIMEOUT_S 60

/* Behind UEFI, RHEL 8's block is a symbolic link to the firmware's partition, and stays one.
 * Return: 0, -ENOENT or another -errno. */
static int find(const char *root, char **ret_file, char **ret_tool)
{
	_cleanup_(freep) char *path = NULL, *file = NULL, *tool = NULL;

	if (text_format(&path, "%s" GRUBENV, root) < 0 || text_format(&tool, "%s" TOOL, root) < 0)
		return -ENOMEM;
	file = realpath(path, NULL);
	if (!file || access(tool, X_OK) < 0)
		return -errno;
	*ret_file = steal(file);
	*ret_tool = steal(tool);
	return 0;
}

/**
 * grubenv_read() - a variable
 * @ret: its value, NULL when there is none (also without a block, or with one that GRUB cannot read
 *       either); owned by the caller
 *
 * Return: 0 or -errno.
 */
int grubenv_read(const char *root, const char *name, char **ret)
{
	_cleanup_(freep) char *file = NULL, *tool = NULL, *output = NULL;
	size_t name_size = strlen(name);
	int status, r = find(root, &file, &tool);

	*ret = NULL;
	if (r == 0)
		r = process_run((const char *const[]){ tool, file, "list", NULL }, TOOL_TIMEOUT_S,
				&status, &output);
	if (r < 0 || status != 0)
		return r == -ENOENT ? 0 : r;
	for (const char *at = output; *at; at += strcspn(at, "\n"), at += *at == '\n') {
		if (strncmp(at, name, name_size) != 0 || at[name_size] != '=')
			continue;
		at += name_size + 1;
		return text_format(ret, "%.*s", (int)strcspn(at, "\n"), at);
	}
	return 0;
}

/**
 * grubenv_write() - set a variable
 * @ret_detail: with GRUBENV_E_FAILED what the tool said; owned by the caller
 *
 * The tool writes into a copy, which then gets the name: cut off, GRUB reads the old block or the
 * new one.
 *
 * Return: 0, GRUBENV_E_FAILED or -errno; only 0 has changed the block.
 */
int grubenv_write(const char *root, const char *name, const char *value, char **ret_detail)
{
	_cleanup_(freep) char *file = NULL, *tool = NULL, *new = NULL, *output = NULL,
			      *assignment = NULL;
	struct stat old;
	int status, r = find(root, &file, &tool);

	if (r == 0)
		r = text_format(&new, "%s.vmcrypt-new", file);
	if (r == 0)
		r = text_format(&assignment, "%s=%s", name, value);
	if (r < 0)
		return r;
	r = stat(file, &old) < 0 ? -errno : file_copy(file, new, old.st_mode & 07777);
	if (r == 0)
		r = process_run((const char *const[]){ tool, new, "set", assignment, NULL },
				TOOL_TIMEOUT_S, &status, &output);
	if (r == 0 && status != 0) {
		output[strcspn(output, "\n")] = '\0';
		*ret_detail = steal(output);
		r = GRUBENV_E_FAILED;
	}
	if (r == 0 && chmod(new, old.st_mode & 07777) < 0)
		r = -errno;
	if (r == 0)
		r = file_sync_path(new);
	if (r == 0 && rename(new, file) < 0)
		r = -errno;
	if (r != 0) {
		(void)unlink(new);
		return r;
	}
	r = file_sync_parent(file);
	return r < 0 ? r : bootfs_settle(file);
}
