/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* base/notify.h - tells the service manager how we are (sd_notify(3) without the library)
 *
 * One datagram to $NOTIFY_SOCKET; nothing happens when there is none.
 */
#pragma once

int notify_send(const char *state);
