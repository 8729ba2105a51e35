/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job/steps.h - the tables of steps: what is done to a volume, and in which order
 *
 * encrypt: snapshot, passphrase, keyslots, boot, header, encrypt (commits), verify, tidy.
 *
 * encrypt, OS: the running system goes as far as boot; the initramfs does header, which is the
 * first to change the volume; the running system goes on. With the root's comes swap, after verify.
 * Before all that, where /boot lies on the root: split (perhaps in the initramfs of one boot more),
 * bootfs, loader.
 *
 * format: snapshot, passphrase, keyslots, boot, format (commits), verify, tidy.
 *
 * decrypt: snapshot, passphrase, export, boot, initialise (commits), decrypt, release, tidy. For an
 * OS volume, release waits for the boot that leaves the mapping.
 *
 * grow: partition, mapping, filesystem, tidy.
 *
 * The entries of fstab and crypttab come before the header: a power cut between the two then finds
 * a machine that boots, whichever side it fell.
 */
#pragma once

#include "boot/initramfs-conf.h"
#include "job/job.h"

extern const struct steps encrypt_steps;
extern const struct steps encrypt_os_steps;
extern const struct steps format_steps;
extern const struct steps decrypt_steps;
extern const struct steps decrypt_os_steps;
extern const struct steps grow_steps;

const struct steps *steps_of(const struct job *job);

/* shared by the tables */
int step_snapshot_done(struct job *job);
int step_snapshot(struct job *job);
int step_passphrase_done(struct job *job);
int step_passphrase(struct job *job);
int step_mapping_spec(const struct job *job, char **ret);
int step_boot_done(struct job *job);
int step_boot(struct job *job);
int step_boot_undo(struct job *job);
struct volume *step_os_boot_volume(const struct job *job);
int step_os_point_loader(struct job *job, const char *root_uuid);
int step_os_restore_loader(struct job *job, const char *root_uuid);
bool step_os_is_prepared(struct job *job, const char *header);
int step_os_prepare(struct job *job, const char *header);
int step_os_forget(struct job *job);
int step_os_regenerate(struct job *job, const struct initramfs_conf *conf);
int step_os_boot_done(struct job *job);
int step_os_boot(struct job *job);
int step_os_boot_undo(struct job *job);
bool step_is_swap(const struct inventory *inventory, const struct volume *volume);
const char *step_swap_excuse(const struct inventory *inventory, const struct volume *volume);
int step_swap_encrypt(struct job *job);
int step_swap_decrypt(struct job *job);
int step_finish_room(struct job *job);
int step_make_room_mounted(struct job *job);
int step_make_room_unmounted(struct job *job);
int step_restore_head(struct job *job);
int step_finish_header(struct job *job);
int step_verify(struct job *job);
int step_try_unmount(const struct volume *volume);
int step_unmount(struct job *job, const struct volume *volume);
int step_header_plan(struct job *job, const char *file, struct header_plan *ret);
int step_staging_path(const struct job *job, char **ret);
int step_keyslots(struct job *job);
int step_keyslots_done(struct job *job);
int step_keyslots_undo(struct job *job);
int step_build_header(struct job *job, const char *file);
int step_mount_plain(struct job *job);
int step_set_committing(struct job *job, bool is_committing);
int step_encrypt_done(struct job *job);
int step_convert(struct job *job);
int step_converted(struct job *job, int condition);
int step_keep_header_backup(struct job *job);
int step_tidy_done(struct job *job);
int step_tidy(struct job *job);
int step_close(struct job *job);
