/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job/status.h - the encryption state of the machine, read from its disks
 *
 * Nothing is remembered: the state of a volume is what its LUKS2 header says now. State words are
 * those of the platform's status (NotEncrypted, EncryptionInProgress, Encrypted,
 * DecryptionInProgress, NotMounted, VMRestartPending).
 */
#pragma once

#include "base/json.h"

int status_read(bool wants_os, bool wants_data, struct json_object **ret);
