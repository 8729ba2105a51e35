/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/preflight.h"

#include <errno.h>
#include <libcryptsetup.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "job/preflight-grow.h"
#include "job/preflight-os.h"
#include "job/preflight-volume.h"
#include "job/snapshot.h"
#include "key/client.h"
#include "volume/maptable.h"

#define MEMORY_BASE_BYTES (128ULL * 1024 * 1024) /* for the machine itself while we work */
#define MEMORY_VOLUME_BYTES                                                                        \
	(48ULL * 1024 * 1024)   /* 25 MiB and a hotzone of 16 MiB for each volume at work */
#define MEMINFO_MAX_BYTES 65536 /* /proc/meminfo has about 1500 bytes */
#define BENCHMARK_BYTES   4096  /* enough to see that the cipher is there */

static int machine(struct plan *plan, enum fault_level level, const char *code, const char *remedy,
		   const char *what)
{
	return faults_add(&plan->report.faults, level, code, NULL, "preflight", remedy, "%s", what);
}

static int check_library(struct plan *plan)
{
	_cleanup_(freep) char *reason = NULL;
	int r = header_library_check(&reason);

	if (r == 0)
		return 0;
	return machine(plan, FAULT_ERROR, "libcryptsetup-unsafe",
		       "Install cryptsetup 2.7.5 or later, or your distribution's fixed build.",
		       reason ? reason : "This version of libcryptsetup may corrupt data online.");
}

static int check_kernel(struct plan *plan)
{
	static const char *const load[] = { "modprobe", "-q", "dm-crypt", NULL };
	double encrypt, decrypt;
	int r;

	if (access("/sys/module/dm_crypt", F_OK) < 0)
		(void)process_run(load, 30, &r, NULL);
	/* built in, it shows below /sys/module only when it has parameters: it does since Linux 4.0
	 */
	if (access("/sys/module/dm_crypt", F_OK) < 0)
		return machine(
			plan, FAULT_ERROR, "dm-crypt-missing",
			"Install the kernel's dm-crypt module (on Ubuntu: linux-modules-extra).",
			"The kernel has no dm-crypt.");
	r = crypt_benchmark(NULL, "aes", "xts", 64, 16, BENCHMARK_BYTES, &encrypt, &decrypt);
	/* -ENOTSUP: no user-space crypto interface, which says nothing about dm-crypt's own use */
	if (r < 0 && r != -ENOTSUP && r != -ERANGE)
		return machine(plan, FAULT_ERROR, "cipher-missing",
			       "Load the kernel's aes and xts modules.",
			       "The kernel cannot use the cipher aes-xts-plain64.");
	return 0;
}

static int check_memory(struct plan *plan)
{
	uint64_t needed = MEMORY_BASE_BYTES + plan->n_jobs * MEMORY_VOLUME_BYTES;
	_cleanup_(freep) char *text = NULL;
	unsigned long long kib;
	const char *line;
	int r;

	r = file_read("/proc/meminfo", MEMINFO_MAX_BYTES, &text, NULL);
	if (r < 0)
		return r;
	line = strstr(text, "MemAvailable:");
	if (!line || sscanf(line, "MemAvailable: %llu", &kib) != 1 || kib * 1024 >= needed)
		return 0;
	return faults_add(&plan->report.faults, FAULT_ERROR, "memory-low", NULL, "preflight",
			  "Stop a program, or convert fewer volumes at once (--volume).",
			  "%llu MiB of memory are available, %llu MiB are needed.", kib / 1024,
			  (unsigned long long)(needed / 1024 / 1024));
}

static int check_space(struct plan *plan)
{
	uint64_t needed = 0, there;
	int r;

	for (size_t i = 0; i < plan->n_jobs; i++)
		if (!plan->jobs[i].is_os)
			needed += 2 * SNAPSHOT_EDGE_BYTES + ROOM_BYTES;

	r = directory_make(STATE_DIRECTORY, 0700);
	if (r == 0)
		r = directory_free_bytes(STATE_DIRECTORY, &there);
	if (r < 0)
		return faults_add(&plan->report.faults, FAULT_ERROR, "state-unwritable", NULL,
				  "preflight", "Make it writable.",
				  STATE_DIRECTORY " cannot be used: %s.", strerror(-r));
	if (there >= needed)
		return 0;
	return faults_add(&plan->report.faults, FAULT_ERROR, "snapshot-space", NULL, "preflight",
			  "Make room there.",
			  STATE_DIRECTORY " has %llu MiB free, the snapshot needs %llu MiB.",
			  (unsigned long long)(there / 1024 / 1024),
			  (unsigned long long)(needed / 1024 / 1024));
}

static int check_boot_files(struct plan *plan)
{
	int r = 0;

	if (access("/etc", W_OK) < 0)
		r = faults_add(&plan->report.faults, FAULT_ERROR, "etc-read-only", NULL,
			       "preflight", "Remount it writable.", "/etc cannot be written: %s.",
			       strerror(errno));
	for (size_t i = 0; r == 0 && i < plan->n_jobs; i++) {
		uint64_t there;

		if (!plan->jobs[i].header_file || plan->jobs[i].is_os)
			continue;
		r = directory_make(HEADER_DIRECTORY, 0700);
		if (r == 0)
			r = directory_free_bytes(HEADER_DIRECTORY, &there);
		if (r < 0 || there < plan->n_jobs * 2 * HEADER_SHIFT_BYTES)
			return machine(plan, FAULT_ERROR, "boot-space",
				       "Make 32 MiB of room for each volume on /boot.",
				       "/boot has no room for the headers.");
	}
	return r;
}

static int key_fault(struct plan *plan, const struct key_result *result, const char *action)
{
	const char *word = key_condition_to_string(result->condition);
	static const struct {
		int condition;
		const char *code, *remedy;
	} rows[] = {
		{ KEY_E_DENIED, "vault-denied",
		  "Give the machine's identity the roles Key Vault Secrets Officer and, for the key, "
		  "Key Vault Crypto Service Encryption User, and open the vault's firewall for it." },
		{ KEY_E_UNREACHABLE, "vault-unreachable",
		  "Check the address, DNS, routes and the vault's firewall." },
		{ KEY_E_GONE, "key-missing", "Check the name; recover it if it was deleted." },
		{ KEY_E_DISABLED, "key-disabled", "Enable it in the vault." },
		{ KEY_E_CONFIG, "identity-missing",
		  "Give the machine a managed identity (or choose one with --encryption-identity)." },
		{ KEY_E_CORRUPT, "vault-answers-wrong",
		  "Look for a proxy between the machine and the vault." },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].condition == result->condition)
			return faults_add(&plan->report.faults, FAULT_ERROR, rows[i].code, NULL,
					  "preflight", rows[i].remedy, "Cannot %s: %s", action,
					  result->message ? result->message : word);
	return 0;
}

static int check_region(struct plan *plan, const struct key_probe *probe)
{
	if (!probe->vault_region || !probe->machine_location)
		return machine(
			plan, FAULT_WARNING, "region-unknown",
			"Make sure that they are: otherwise a boot depends on two regions.",
			"It cannot be told whether the vault and the machine are in the same region.");
	if (strcasecmp(probe->vault_region, probe->machine_location) == 0)
		return 0;
	return faults_add(&plan->report.faults,
			  plan->request->allows_other_region ? FAULT_WARNING : FAULT_ERROR,
			  "other-region", NULL, "preflight",
			  "Use a vault in the machine's region, or --allow-other-region.",
			  "The vault is in %s, the machine in %s.", probe->vault_region,
			  probe->machine_location);
}

static bool is_purgeable(const char *level)
{
	return level && strstr(level, "Purgeable") != NULL;
}

/* A real set, get, wrap and unwrap with the machine's own identity: what is asked at every boot. */
static int check_vault(struct plan *plan)
{
	const struct request *request = plan->request;
	char host[HOST_NAME_MAX + 1] = "";
	struct key_probe probe = { 0 };
	const struct key_store store = {
		.provider = request->provider,
		.vault = request->vault,
		.kek = request->kek,
		.algorithm = request->algorithm,
		.client_id = request->client_id,
		.directory = request->key_directory ? request->key_directory : KEY_DIRECTORY,
		.machine = host,
	};
	int r;

	(void)gethostname(host, sizeof(host) - 1);
	r = key_probe(&store, KEY_TIMEOUT_MS, &probe);
	if (r < 0) {
		key_probe_clear(&probe);
		return faults_add(&plan->report.faults, FAULT_ERROR, "key-service", NULL,
				  "preflight", "See the journal of vmcrypt-keyfetch.",
				  "The key service failed: %s.", strerror(-r));
	}
	r = key_fault(plan, &probe.set, "store a secret");
	/* the same reason four times over helps nobody */
	if (r == 0 && probe.get.condition != probe.set.condition)
		r = key_fault(plan, &probe.get, "read a secret");
	if (r == 0 && probe.wrap.condition != probe.set.condition)
		r = key_fault(plan, &probe.wrap, "wrap with the key encryption key");
	if (r == 0 && probe.unwrap.condition != probe.wrap.condition)
		r = key_fault(plan, &probe.unwrap, "unwrap with the key encryption key");
	if (r == 0 && probe.kek_is_disabled && probe.wrap.condition != KEY_E_DISABLED)
		r = machine(plan, FAULT_ERROR, "key-disabled", "Enable it in the vault.",
			    "The key encryption key is disabled.");
	if (r == 0 && probe.kek_is_expired)
		r = machine(plan, FAULT_ERROR, "key-expired",
			    "Use a key version that has not expired.",
			    "The key encryption key has expired.");
	if (r == 0 &&
	    (is_purgeable(probe.vault_recovery_level) || is_purgeable(probe.kek_recovery_level)))
		r = machine(
			plan, FAULT_WARNING, "vault-purgeable",
			"Turn on purge protection for the vault.",
			"Whoever may purge can destroy this vault's keys, and so the data, at once.");
	if (r == 0 && request->provider == KEY_PROVIDER_KEYVAULT && probe.set.condition == 0)
		r = check_region(plan, &probe);
	if (r == 0 && probe.has_encryption_at_host)
		r = machine(plan, FAULT_WARNING, "encryption-at-host",
			    "Nothing needs to be done; the data is encrypted twice.",
			    "The machine's host already encrypts its disks.");
	key_probe_clear(&probe);
	return r;
}

/* All that was asked for by its type is encrypted, and at least one volume is. */
static bool is_all_encrypted(const struct plan *plan, const struct inventory *inventory)
{
	const struct request *request = plan->request;
	bool has_os = false, has_data = false;

	for (size_t i = 0; i < inventory->n; i++) {
		const struct volume *volume = &inventory->volumes[i];
		bool is_plain = false;

		if (!volume->filesystem || volume->n_mounts == 0 ||
		    volume_excuse(inventory, volume, request->wants_os, request->wants_data) !=
			    VOLUME_EXCUSE_ENCRYPTED)
			continue;
		/* decrypted, and still in use */
		if (volume->kind == VOLUME_KIND_CRYPT &&
		    !inventory_is_in_conversion(inventory, volume))
			(void)maptable_is_plain(volume->mapping, &is_plain);
		if (is_plain)
			return false;
		has_os |= volume->role == VOLUME_ROLE_OS;
		has_data |= volume->role == VOLUME_ROLE_DATA;
	}
	return request->n_volumes == 0 && (!request->wants_os || has_os) &&
	       (!request->wants_data || has_data || (request->wants_os && has_os)) &&
	       plan->n_jobs == 0;
}

/* Why nothing was selected, volume by volume. */
static int explain_nothing(struct plan *plan, struct inventory *inventory)
{
	const struct request *request = plan->request;
	int r;

	if (plan->is_look && request->kind == REQUEST_ENCRYPT && is_all_encrypted(plan, inventory))
		return machine(plan, FAULT_WARNING, "already-encrypted",
			       "Nothing needs to be done; see `vmcryptctl show`.",
			       "The volumes of this type are encrypted already; enable would find "
			       "none.");
	r = machine(plan, FAULT_ERROR, "no-volume",
		    "See `vmcryptctl volumes` for each device and why it is left out.",
		    request->kind == REQUEST_ENCRYPT
			    ? "No volume of this type can be encrypted."
			    : "No encrypted volume of this type was found.");
	for (size_t i = 0; r == 0 && i < request->n_volumes; i++) {
		struct volume *volume = inventory_find_uuid(inventory, request->volumes[i]);
		enum volume_excuse excuse;

		if (!volume) {
			r = faults_add(&plan->report.faults, FAULT_ERROR, "volume-unknown",
				       request->volumes[i], "preflight",
				       "See `vmcryptctl volumes`.", "There is no such volume.");
			continue;
		}
		excuse = volume_excuse(inventory, volume, request->wants_os, request->wants_data);
		if (excuse != VOLUME_EXCUSE_NONE)
			r = faults_add(&plan->report.faults, FAULT_ERROR,
				       excuse == VOLUME_EXCUSE_ENCRYPTED ? "already-encrypted"
									 : "volume-unsupported",
				       request->volumes[i], "preflight",
				       "Leave it out, or change it first.", "%s",
				       volume_excuse_sentence(excuse));
	}
	return r;
}

/* The root that was asked for by its type cannot be encrypted; with others there would be a job
 * that ends well. Return: 0 or -errno. */
static int explain_root(struct plan *plan, const struct inventory *inventory)
{
	const struct request *request = plan->request;
	const struct volume *root = NULL;
	enum volume_excuse excuse;

	if (!request->wants_os || request->n_volumes > 0)
		return 0;
	for (size_t i = 0; i < inventory->n; i++)
		if (inventory->volumes[i].is_root)
			root = &inventory->volumes[i];
	if (!root)
		return machine(plan, FAULT_ERROR, "volume-unsupported",
			       "Encrypt the data volumes alone (--volume-type Data).",
			       "The root filesystem lies on no volume that is known.");
	excuse = volume_excuse(inventory, root, request->wants_os, request->wants_data);
	if (excuse == VOLUME_EXCUSE_NONE || excuse == VOLUME_EXCUSE_ENCRYPTED)
		return 0;
	return faults_add(
		&plan->report.faults, FAULT_ERROR, "volume-unsupported", root->uuid, "preflight",
		"Change it first, or encrypt the data volumes alone (--volume-type Data).",
		"The root cannot be encrypted. %s", volume_excuse_sentence(excuse));
}

/* Nothing is to be changed: can the next boot open what is encrypted, with any kernel? */
static int preflight_boots(struct plan *plan)
{
	int r;

	r = check_library(plan);
	if (r == 0)
		r = check_boot_files(plan);
	return r == 0 ? preflight_images(plan) : r;
}

/**
 * preflight_run() - every reason not to start, and what is worth knowing
 * @plan:      with its jobs decided; reasons are added to its report
 * @inventory: the same as for plan_decide()
 *
 * Return: 0 when it could look (there may be reasons: count the errors), or -errno.
 */
int preflight_run(struct plan *plan, struct inventory *inventory)
{
	const struct request *request = plan->request;
	int r;

	if (request->kind == REQUEST_GROW)
		return preflight_grow(plan);
	if (request->kind == REQUEST_CHECK)
		return preflight_boots(plan);
	r = check_library(plan);
	if (r == 0)
		r = check_kernel(plan);
	if (r == 0)
		r = check_memory(plan);
	if (r == 0)
		r = check_space(plan);
	if (r == 0)
		r = check_boot_files(plan);
	if (r == 0 && (plan->n_jobs == 0 || plan->n_jobs < request->n_volumes))
		r = explain_nothing(plan, inventory);
	if (r == 0 && request->kind == REQUEST_ENCRYPT)
		r = explain_root(plan, inventory);
	for (size_t i = 0; r == 0 && i < plan->n_jobs; i++)
		r = preflight_volume(plan, inventory, &plan->jobs[i]);
	if (r == 0 && request->kind == REQUEST_ENCRYPT)
		r = preflight_images(plan);
	if (r == 0 && plan->has_os)
		r = preflight_os(plan, inventory);
	if (r == 0 && request->kind == REQUEST_ENCRYPT)
		r = preflight_left_out(plan, inventory);
	if (r == 0 && request->kind == REQUEST_ENCRYPT)
		r = check_vault(plan);
	return r;
}
