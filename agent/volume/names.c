/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "volume/device.h"

#define NAMES_DEPTH_MAX 4 /* /dev/disk/azure/data/by-lun */

/* Links that stay with a device, best first; by-diskseq, by-uuid and by-label do not. What udev
 * calls a partition of a named disk ends in -partN and ranks with its disk. */
/* clang-format off */
static const char *const ranking[] = {
	"by-partuuid/",
	"by-id/dm-uuid-",
	"by-id/md-uuid-",
	"azure/scsi",
	"azure/data/by-lun/",
	"azure/root",
	"azure/os",
	"by-id/wwn-",
	"by-id/nvme-eui.",
	"by-id/nvme-uuid.",
	"by-id/scsi-",
	"by-id/virtio-",
	"by-id/nvme-",
	"by-id/ata-",
	"by-id/google-",
	"by-path/",
};

/* What the platform's links say of a disk. */
static const char *const resource_names[] = { "azure/resource", "azure/local/", "cloud/azure_resource" };
static const char *const bek_names[] = { "azure/BEK" };
static const char *const lun_names[] = { "azure/data/by-lun/" };
/* clang-format on */

struct names {
	struct inventory *inventory;
	size_t *ranks; /* of each volume's link */
};

static size_t rank_of(const char *name)
{
	size_t rank = 0;

	while (rank < ARRAY_SIZE(ranking) &&
	       strncmp(name, ranking[rank], strlen(ranking[rank])) != 0)
		rank++;
	return rank;
}

static bool is_among(const char *name, const char *const *prefixes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

/* "azure/scsi1/lun3-part1", "azure/data/by-lun/3" → "lun3" */
static int take_lun(const char *name, struct volume *volume)
{
	const char *digits = NULL;
	size_t n;

	if (is_among(name, lun_names, ARRAY_SIZE(lun_names)))
		digits = name + strlen(lun_names[0]);
	else if (strncmp(name, "azure/scsi", 10) == 0 && (digits = strstr(name, "/lun")))
		digits += 4;
	n = digits ? strspn(digits, "0123456789") : 0;
	if (n == 0 || n > 4 || volume->lun)
		return 0;
	return text_format(&volume->lun, "lun%.*s", (int)n, digits);
}

static int take_name(struct names *names, const char *name, dev_t devno)
{
	struct volume *volume = inventory_find_devno(names->inventory, devno);
	size_t rank = rank_of(name), *best;
	_cleanup_(freep) char *link = NULL;
	int r;

	if (!volume)
		return 0;
	if (is_among(name, resource_names, ARRAY_SIZE(resource_names)))
		volume->is_resource_disk = true;
	if (is_among(name, bek_names, ARRAY_SIZE(bek_names)))
		volume->is_bek_disk = true;
	r = take_lun(name, volume);
	if (r < 0)
		return r;
	best = &names->ranks[volume - names->inventory->volumes];
	if (rank > *best || rank == ARRAY_SIZE(ranking))
		return 0;
	r = text_format(&link, "/dev/disk/%s", name);
	if (r < 0)
		return r;
	/* of equals the first by name, so that the answer does not depend on the folder's order */
	if (rank == *best && volume->link && strcmp(volume->link, link) <= 0)
		return 0;
	free(volume->link);
	volume->link = steal(link);
	*best = rank;
	return 0;
}

static int walk(struct names *names, const char *folder_name, unsigned depth)
{
	_cleanup_(freep) char *path = NULL;
	_cleanup_(closedirp) DIR *folder = NULL;
	struct dirent *entry;
	int r;

	r = text_format(&path, "/dev/disk/%s", folder_name);
	if (r < 0)
		return r;
	folder = opendir(path);
	while (r == 0 && folder && (entry = readdir(folder))) {
		_cleanup_(freep) char *name = NULL;
		struct stat status;

		if (entry->d_name[0] == '.')
			continue;
		r = text_format(&name, "%s%s%s", folder_name, folder_name[0] ? "/" : "",
				entry->d_name);
		if (r < 0 || fstatat(dirfd(folder), entry->d_name, &status, 0) < 0)
			continue;
		if (S_ISBLK(status.st_mode))
			r = take_name(names, name, status.st_rdev);
		else if (S_ISDIR(status.st_mode) && depth < NAMES_DEPTH_MAX)
			r = walk(names, name, depth + 1);
	}
	return r;
}

/**
 * device_name_all() - names that stay, the LUN, and what the platform's links say
 *
 * Return: 0 (also without udev, and then there are no names) or -ENOMEM.
 */
int device_name_all(struct inventory *inventory)
{
	_cleanup_(freep) size_t *ranks = calloc(inventory->n + 1, sizeof(*ranks));
	struct names names = { .inventory = inventory, .ranks = ranks };

	if (!ranks)
		return -ENOMEM;
	for (size_t i = 0; i < inventory->n; i++)
		ranks[i] = ARRAY_SIZE(ranking);
	return walk(&names, "", 0);
}
