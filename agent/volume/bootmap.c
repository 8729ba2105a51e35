/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/bootmap.h"

#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define DEPTH_MAX  16     /* folders within each other; GRUB's are two deep */
#define INODES_MAX 100000 /* a /boot with more is none */
#define FNV_BASIS  0xcbf29ce484222325ULL
#define FNV_PRIME  0x100000001b3ULL

struct walk {
	ext2_filsys fs;
	struct bootmap map;
	unsigned depth, inodes;
	bool is_file; /* whose blocks are being visited */
	int r;
};

static void fsp(ext2_filsys *fs)
{
	if (*fs)
		ext2fs_free(*fs); /* opened read-only: nothing to write */
}

static int error_of(errcode_t error)
{
	if (error == 0)
		return 0;
	if (error == EXT2_ET_NO_MEMORY)
		return -ENOMEM;
	/* com_err: what is below its own tables is an errno */
	return error > 0 && error < 256 ? -(int)error : -EUCLEAN;
}

/* FNV-1a: nobody tries to make two of these alike */
static void add(struct walk *walk, const void *data, size_t size_bytes)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < size_bytes; i++)
		walk->map.digest = (walk->map.digest ^ bytes[i]) * FNV_PRIME;
}

static void add_number(struct walk *walk, uint64_t number)
{
	add(walk, &number, sizeof(number));
}

static void reach(struct walk *walk, uint64_t block)
{
	uint64_t end = (block + 1) * walk->fs->blocksize;

	if (end > walk->map.end_bytes)
		walk->map.end_bytes = end;
	if (!walk->is_file && end > walk->map.folders_end_bytes)
		walk->map.folders_end_bytes = end;
}

/* The blocks of the tree that says where the data is are among them. */
static int on_block(ext2_filsys fs, blk64_t *block, e2_blkcnt_t number, blk64_t reference,
		    int offset, void *context)
{
	struct walk *walk = context;

	add_number(walk, (uint64_t)number);
	add_number(walk, *block);
	reach(walk, *block);
	return 0;
}

static int visit(struct walk *walk, ext2_ino_t number);

static int on_entry(ext2_ino_t folder, int entry, struct ext2_dir_entry *dirent, int offset,
		    int block_bytes, char *buffer, void *context)
{
	struct walk *walk = context;
	int size = ext2fs_dirent_name_len(dirent);

	if (dirent->inode == 0 || (size == 1 && dirent->name[0] == '.') ||
	    (size == 2 && dirent->name[0] == '.' && dirent->name[1] == '.'))
		return 0;
	if (walk->depth == 1 && size == (int)strlen(BOOTMAP_OURS) &&
	    memcmp(dirent->name, BOOTMAP_OURS, (size_t)size) == 0)
		return 0;
	add(walk, dirent->name, (size_t)size);
	walk->r = visit(walk, dirent->inode);
	return walk->r < 0 ? DIRENT_ABORT : 0;
}

static int add_inode(struct walk *walk, ext2_ino_t number, struct ext2_inode *inode)
{
	dgrp_t group = ext2fs_group_of_ino(walk->fs, number);
	int r;

	if (++walk->inodes > INODES_MAX)
		return -E2BIG;
	r = error_of(ext2fs_read_inode(walk->fs, number, inode));
	if (r < 0)
		return r;
	add_number(walk, number);
	add_number(walk, ext2fs_inode_table_loc(walk->fs, group));
	add_number(walk, inode->i_mode);
	add_number(walk, inode->i_size);
	add_number(walk, inode->i_flags);
	add(walk, inode->i_block, sizeof(inode->i_block));
	/* its number goes with its group, wherever the table of that lies */
	reach(walk, ext2fs_group_first_block2(walk->fs, group));
	reach(walk, ext2fs_inode_table_loc(walk->fs, group));
	if (!ext2fs_inode_has_valid_blocks2(walk->fs, inode))
		return 0;
	walk->is_file = LINUX_S_ISREG(inode->i_mode);
	r = error_of(ext2fs_block_iterate3(walk->fs, number, BLOCK_FLAG_READ_ONLY, NULL, on_block,
					   walk));
	walk->is_file = false;
	return r;
}

static int visit(struct walk *walk, ext2_ino_t number)
{
	struct ext2_inode inode;
	int r = add_inode(walk, number, &inode);

	if (r < 0 || !LINUX_S_ISDIR(inode.i_mode))
		return r;
	if (walk->depth == DEPTH_MAX)
		return -ELOOP;
	walk->depth++;
	r = error_of(ext2fs_dir_iterate2(walk->fs, number, 0, NULL, on_entry, walk));
	walk->depth--;
	return walk->r < 0 ? walk->r : r;
}

static int open_device(const char *device, ext2_filsys *ret)
{
	return error_of(ext2fs_open(device, EXT2_FLAG_64BITS | EXT2_FLAG_IGNORE_CSUM_ERRORS, 0, 0,
				    unix_io_manager, ret));
}

/**
 * bootmap_read() - where all of a folder lies
 * @device: with an ext filesystem; of a mounted one it is nearly true
 * @folder: "/boot", from the filesystem's own root
 *
 * Return: 0, -ENOENT (no such folder), -EUCLEAN (not a whole ext filesystem) or -errno.
 */
int bootmap_read(const char *device, const char *folder, struct bootmap *ret)
{
	_cleanup_(fsp) ext2_filsys fs = NULL;
	struct walk walk = { .map.digest = FNV_BASIS };
	struct ext2_inode inode;
	ext2_ino_t number;
	int r;

	r = open_device(device, &fs);
	if (r < 0)
		return r;
	walk.fs = fs;
	/* how a boot loader finds everything else */
	add_number(&walk, fs->blocksize);
	add_number(&walk, EXT2_INODE_SIZE(fs->super));
	add_number(&walk, EXT2_DESC_SIZE(fs->super));
	add_number(&walk, fs->super->s_inodes_per_group);
	add_number(&walk, fs->super->s_blocks_per_group);
	add_number(&walk, fs->super->s_first_data_block);
	add_number(&walk, fs->super->s_feature_incompat & ~(unsigned)EXT3_FEATURE_INCOMPAT_RECOVER);
	r = add_inode(&walk, EXT2_ROOT_INO, &inode);
	if (r == 0 && ext2fs_namei(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, folder, &number) != 0)
		r = -ENOENT;
	if (r == 0)
		r = visit(&walk, number);
	if (r == 0)
		*ret = walk.map;
	return r;
}

static bool is_free(ext2_filsys fs, uint64_t from_bytes, uint64_t size_bytes)
{
	uint64_t first = from_bytes / fs->blocksize,
		 last = (from_bytes + size_bytes - 1) / fs->blocksize;

	for (uint64_t block = first; block <= last; block++)
		if (block < ext2fs_blocks_count(fs->super) &&
		    (block < fs->super->s_first_data_block ||
		     ext2fs_test_block_bitmap2(fs->block_map, block)))
			return false;
	return true;
}

/**
 * bootmap_find_free() - what is in use towards the end of a device, and the longest run that is not
 * @from_bytes:  a multiple of @grain_bytes, as @end_bytes is; the run ends one grain before
 * @end_bytes:   what lies behind the filesystem counts as free
 *
 * Return: 0, -EUCLEAN (not a whole ext filesystem) or -errno.
 */
int bootmap_find_free(const char *device, uint64_t from_bytes, uint64_t end_bytes,
		      unsigned grain_bytes, struct bootmap_free *ret)
{
	_cleanup_(fsp) ext2_filsys fs = NULL;
	struct bootmap_free found = { 0 };
	uint64_t run = from_bytes;
	int r;

	r = open_device(device, &fs);
	if (r == 0)
		r = error_of(ext2fs_read_block_bitmap(fs));
	if (r < 0)
		return r;
	for (uint64_t at = from_bytes; at < end_bytes; at += grain_bytes) {
		bool is_last = at + grain_bytes == end_bytes, is_unused;

		is_unused = is_free(fs, at, grain_bytes);
		if (!is_unused)
			found.used_bytes += grain_bytes;
		if (is_last)
			found.has_end = is_unused;
		if (is_unused && !is_last)
			continue;
		if (at - run > found.length_bytes) {
			found.offset_bytes = run;
			found.length_bytes = at - run;
		}
		run = at + grain_bytes;
	}
	*ret = found;
	return 0;
}
