/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/table.h - a disk's partition table as text
 *
 * In the form that sfdisk(8) reads back (libfdisk's script). Changes nothing.
 */
#pragma once

int table_dump(const char *disk, char **ret_text);
