/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/keyfetch.h - the parts of vmcrypt-keyfetch
 *
 * keyfetch.c: one batch. keyfetch-listen.c: the socket, where no service manager has one.
 */
#pragma once

int keyfetch_listen(const char *path);
