/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/packages.h - nothing is installed for a moment
 *
 * A kernel that arrives while /boot changes its place would be left at the old one.
 */
#pragma once

#define PACKAGES_MAX 3 /* databases of packages that a machine may have */

struct packages_lock {
	int files[PACKAGES_MAX]; /* opened; .n of them */
	unsigned n;
};

int packages_lock(const char *root, struct packages_lock *ret);
void packages_unlock(struct packages_lock *lock);
