/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptctl-recover.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "program/vmcryptctl-table.h"

#define MAPPING_PREFIX "vmcrypt-"
#define BOOT           "/boot"
#define ASIDE          "/run/boot" /* where the other machine mounts this one's /boot */
#define SHELL_PLAIN    "/._:-"     /* besides letters and digits */

/* What of a volume decides which paragraphs are for it. */
enum {
	IS_ROOT = 1 << 0,
	IS_OTHER = 1 << 1, /* not the root */
	IS_ATTACHED = 1 << 2,
	IS_DETACHED = 1 << 3,
	IS_VAULT = 1 << 4,
	IS_FILE = 1 << 5,
	IS_LVM = 1 << 6,
	IS_MD = 1 << 7,
	IS_MOVING = 1 << 8,
	IS_BTRFS = 1 << 9,
	IS_ONE_OF_MANY = 1 << 10,
	HAS_BOOT = 1 << 11, /* /boot is a filesystem of its own */
	HAS_EFI = 1 << 12,
	IS_KNOWN = 1 << 13, /* there was somebody to ask */
	IS_XFS = 1 << 14,
};

/* The words of a paragraph, as values or as what a person puts there. */
struct words {
	const char *uuid, *filesystem, *state, *header_uuid, *header, *here, *mapping, *key;
	const char *boot_uuid, *efi_uuid, *efi;
	char *mount, *device, *header_there; /* the last two on the other machine; owned */
	unsigned what;
};

static const struct words placeholders = {
	.uuid = "VOLUME",
	.filesystem = "FILESYSTEM",
	.state = "STATE",
	.header_uuid = "LUKS-UUID",
	.header = "HEADER",
	.here = "unknown",
	.mapping = "NAME",
	.key = "unknown; the token in its header says it",
	.boot_uuid = "BOOT-UUID",
	.efi_uuid = "EFI-UUID",
	.efi = "/boot/efi",
	.mount = (char *)"not mounted",
	.device = (char *)"DEVICE",
	.header_there = (char *)"HEADER",
};

/* clang-format off */
static const struct {
	const char *name;
	size_t offset;
} names[] = {
	{ "@uuid@",        offsetof(struct words, uuid) },
	{ "@mount@",       offsetof(struct words, mount) },
	{ "@filesystem@",  offsetof(struct words, filesystem) },
	{ "@state@",       offsetof(struct words, state) },
	{ "@header_uuid@", offsetof(struct words, header_uuid) },
	{ "@header@",      offsetof(struct words, header) },
	{ "@here@",        offsetof(struct words, here) },
	{ "@mapping@",     offsetof(struct words, mapping) },
	{ "@key@",         offsetof(struct words, key) },
	{ "@boot_uuid@",   offsetof(struct words, boot_uuid) },
	{ "@efi_uuid@",    offsetof(struct words, efi_uuid) },
	{ "@efi@",         offsetof(struct words, efi) },
	{ "@device@",      offsetof(struct words, device) },
	{ "@header_there@", offsetof(struct words, header_there) },
};

/* A paragraph is printed for a volume that is all of what it says. */
static const struct {
	unsigned what;
	const char *text;
} paragraphs[] = {
	{ IS_KNOWN,
	  "Volume @uuid@ (@mount@, @filesystem@, @state@)\n" },
	{ IS_KNOWN | IS_ATTACHED,
	  "    LUKS2 header  @header_uuid@, on the volume itself\n" },
	{ IS_KNOWN | IS_DETACHED,
	  "    LUKS2 header  @header_uuid@, in @header@\n" },
	{ IS_KNOWN,
	  "    device        @here@ on this machine\n"
	  "    mapping       @mapping@\n"
	  "    passphrase    @key@\n"
	  "\n" },
	{ IS_ROOT,
	  "Is the machine waiting at its console? Press a key there and type the recovery key: nothing\n"
	  "else is needed. It goes on asking the vault meanwhile, and boots when that answers.\n"
	  "\n" },

	{ 0,
	  "1. Attach the disk to another machine as a data disk. That machine needs cryptsetup, of this\n"
	  "   machine's version or newer.\n" },
	{ IS_LVM,
	  "       vgchange --activate y       # on a machine of another image: names and UUIDs meet else\n" },
	{ IS_MD,
	  "       mdadm --assemble --scan\n" },
	{ IS_DETACHED,
	  "   The header is not on it but on the filesystem of /boot: attach the disk with that, too.\n" },
	{ IS_DETACHED | HAS_BOOT,
	  "       mkdir -p " ASIDE "\n"
	  "       mount /dev/disk/by-uuid/@boot_uuid@ " ASIDE "\n" },
	{ IS_DETACHED,
	  "       H=@header_there@\n" },
	{ 0,
	  "       D=@device@\n"
	  "       N=@mapping@\n"
	  "\n" },

	{ 0,
	  "2. Open it. The passphrase that is asked for is the recovery key, as it was printed:\n" },
	{ IS_ATTACHED,
	  "       cryptsetup open $D $N\n" },
	{ IS_DETACHED,
	  "       cryptsetup open --header $H $D $N\n" },
	{ IS_VAULT,
	  "   Without one, ask the vault, from a machine with the Azure CLI (az login) whose user may read\n"
	  "   the secret and unwrap with the key. The token says where they are; its number is in what\n"
	  "   luksDump prints:\n" },
	{ IS_VAULT | IS_ATTACHED,
	  "       unlock() { cryptsetup open --key-file=- $D $N; }\n"
	  "       cryptsetup luksDump $D\n"
	  "       cryptsetup token export --token-id 0 $D > token.json\n" },
	{ IS_VAULT | IS_DETACHED,
	  "       unlock() { cryptsetup open --key-file=- --header $H $D $N; }\n"
	  "       cryptsetup luksDump $H\n"
	  "       cryptsetup token export --token-id 0 $H > token.json\n" },
	{ IS_VAULT,
	  "   No \"kek\" in it: the secret's value is the passphrase.\n"
	  "       az keyvault secret show --id \"$(jq -r .secret token.json)\" --query value --output tsv |\n"
	  "           tr -d '\\n' | unlock\n"
	  "   With \"kek\" in it, the secret's value is no passphrase: it is the passphrase as that key has\n"
	  "   wrapped it, the same letters as \"wrapped\" in the token. The vault unwraps it:\n"
	  "       service=$(jq -r .kek token.json | cut -d/ -f3 | cut -d. -f2-)\n"
	  "       access=$(az account get-access-token --resource \"https://$service\" \\\n"
	  "           --query accessToken --output tsv)\n"
	  "       jq '{alg: .algorithm, value: .wrapped}' token.json |\n"
	  "           curl -sS --data @- -H 'Content-Type: application/json' \\\n"
	  "               -H \"Authorization: Bearer $access\" \\\n"
	  "               \"$(jq -r .kek token.json)/unwrapkey?api-version=7.4\" |\n"
	  "           jq -r .value | tr '_-' '/+' | sed 's/$/==/' | base64 -d | unlock\n" },
	{ IS_FILE,
	  "   Without one, with its key file, from this machine's OS disk; say where that is mounted:\n"
	  "       OS=/run/os\n" },
	{ IS_FILE | IS_ATTACHED,
	  "       cryptsetup open --key-file=$OS@key@ $D $N\n" },
	{ IS_FILE | IS_DETACHED,
	  "       cryptsetup open --key-file=$OS@key@ --header $H $D $N\n" },
	{ IS_MOVING,
	  "   When its data was still moving, opening it repairs what was in flight. Put no backup of the\n"
	  "   header back. On its own machine the rest goes on by itself.\n" },
	{ 0, "\n" },

	{ IS_OTHER,
	  "3. Mount it.\n"
	  "       mount /dev/mapper/$N /mnt\n"
	  "\n"
	  "4. Close it, and attach the disk to its machine again.\n"
	  "       umount /mnt\n"
	  "       cryptsetup close $N\n" },

	{ IS_ROOT,
	  "3. Mount it, and what belongs to it.\n"
	  "       mount /dev/mapper/$N /mnt\n" },
	{ IS_ROOT | IS_BTRFS,
	  "   Where the root is a subvolume (btrfs subvolume list /mnt), mount that instead:\n"
	  "       umount /mnt\n"
	  "       mount -o subvol=NAME /dev/mapper/$N /mnt\n" },
	{ IS_XFS,
	  "   On a machine made from the same image, xfs of the same UUID takes the option -o nouuid.\n" },
	{ IS_ROOT | IS_ONE_OF_MANY,
	  "   What lies on other encrypted volumes and is needed (/usr, /var) is opened likewise and mounted\n"
	  "   below /mnt.\n" },
	{ IS_ROOT | HAS_BOOT,
	  "   A machine made from the same image has a /boot of the same UUID: see with lsblk --fs that it is\n"
	  "   this one's.\n"
	  "       mount /dev/disk/by-uuid/@boot_uuid@ /mnt/boot\n" },
	{ IS_ROOT | HAS_EFI,
	  "       mount /dev/disk/by-uuid/@efi_uuid@ /mnt@efi@\n" },
	{ IS_ROOT,
	  "       for i in dev proc sys run; do mount --bind /$i /mnt/$i; done\n"
	  "\n"
	  "4. Repair what keeps it from booting. Make the initramfs of every kernel anew, and look into\n"
	  "   them: the last command says nothing when each can unlock the root.\n"
	  "       chroot /mnt\n"
	  "       update-initramfs -u -k all       # with dracut: dracut -f --regenerate-all\n"
	  "       /usr/lib/vmcrypt/vmcrypt-worker --kernel\n"
	  "       exit\n"
	  "\n"
	  "5. Close it, and make the disk the OS disk of its machine again. When that runs, \"vmcryptctl\n"
	  "   check\" with the words of \"enable\" looks into every initramfs and tries the vault, before the\n"
	  "   next reboot depends on them.\n"
	  "       umount --recursive /mnt\n"
	  "       cryptsetup close $N\n" },
	{ IS_DETACHED | HAS_BOOT,
	  "       umount " ASIDE "\n" },
};

/* where nobody is there to ask */
static const char general_words[] =
	"In capitals is what the machine itself would say:\n"
	"    DEVICE     the encrypted partition or disk; lsblk --fs shows it as crypto_LUKS\n"
	"    NAME       any; vmcrypt-VOLUME, with the UUID of the filesystem in it, is the machine's own\n"
	"    BOOT-UUID, EFI-UUID\n"
	"               of the filesystems on /boot and on /boot/efi, by lsblk --fs or /mnt/etc/fstab\n"
	"A header that is not on DEVICE is a file in vmcrypt/headers on the filesystem of /boot; then say\n"
	"cryptsetup open --header FILE DEVICE NAME, and FILE instead of DEVICE to luksDump and token export.\n"
	"\n";
/* clang-format on */

static void words_clear(struct words *words)
{
	free(words->mount);
	free(words->device);
	free(words->header_there);
	*words = (struct words){ 0 };
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static void print_word(const struct words *words, size_t i, FILE *out)
{
	const char *const *value = (const void *)((const char *)words + names[i].offset);
	const char *const *otherwise =
		(const void *)((const char *)&placeholders + names[i].offset);

	(void)fputs(*value ? *value : *otherwise, out);
}

static void print_text(const struct words *words, const char *text, FILE *out)
{
	while (*text) {
		size_t i = 0;

		while (i < ARRAY_SIZE(names) && !begins(text, names[i].name))
			i++;
		if (i == ARRAY_SIZE(names)) {
			(void)fputc(*text++, out);
			continue;
		}
		print_word(words, i, out);
		text += strlen(names[i].name);
	}
}

static void print_paragraphs(const struct words *words, FILE *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(paragraphs); i++)
		if ((paragraphs[i].what & words->what) == paragraphs[i].what)
			print_text(words, paragraphs[i].text, out);
}

/* A text that means nothing to a shell but itself, else NULL. */
static const char *plain(const char *text)
{
	for (const char *at = text; at && *at; at++)
		if (!isascii(*at) || (!isalnum(*at) && !strchr(SHELL_PLAIN, *at)))
			return NULL;
	return text && *text && *text != '-' ? text : NULL;
}

static const char *plain_of(struct json_object *object, const char *name)
{
	return plain(json_get_string(object, name));
}

static const char *path_of(struct json_object *object, const char *name)
{
	const char *path = plain_of(object, name);

	return path && *path == '/' ? path : NULL;
}

static bool is_mounted_at(struct json_object *volume, const char *target)
{
	struct json_object *mounts = json_get_array(volume, "mounts");

	for (size_t i = 0; mounts && i < json_object_array_length(mounts); i++) {
		const char *text = json_object_get_string(json_object_array_get_idx(mounts, i));

		if (text && strcmp(text, target) == 0)
			return true;
	}
	return false;
}

/* Encrypted by us, and not yet plain again. */
static bool is_ours(struct json_object *volume)
{
	const char *mapping = json_get_string(volume, "mapping"),
		   *state = json_get_string(volume, "state");

	return json_get_string(volume, "header_uuid") && mapping &&
	       begins(mapping, MAPPING_PREFIX) && state && strcmp(state, "NotEncrypted") != 0;
}

static bool is_wanted(struct json_object *volume, const char *wanted)
{
	const char *uuid = json_get_string(volume, "uuid"),
		   *header_uuid = json_get_string(volume, "header_uuid");

	if (!is_ours(volume))
		return false;
	return !wanted || (uuid && strcasecmp(uuid, wanted) == 0) ||
	       (header_uuid && strcasecmp(header_uuid, wanted) == 0);
}

static void take_boot(struct json_object *volumes, struct words *words)
{
	static const char *const efis[] = { "/boot/efi", "/efi", "/boot/firmware" };

	for (size_t i = 0; i < json_object_array_length(volumes); i++) {
		struct json_object *volume = json_object_array_get_idx(volumes, i);

		if (is_mounted_at(volume, BOOT))
			words->boot_uuid = plain_of(volume, "uuid");
		for (size_t k = 0; k < ARRAY_SIZE(efis); k++)
			if (is_mounted_at(volume, efis[k])) {
				words->efi_uuid = plain_of(volume, "uuid");
				words->efi = efis[k];
			}
	}
	words->what |= words->boot_uuid ? HAS_BOOT : 0;
	words->what |= words->efi_uuid ? HAS_EFI : 0;
}

static void take_what(struct json_object *volume, struct words *words)
{
	const char *provider = json_get_string(volume, "provider"),
		   *kind = json_get_string(volume, "kind");

	words->what |= is_mounted_at(volume, "/") ? IS_ROOT : IS_OTHER;
	words->what |= words->header ? IS_DETACHED : IS_ATTACHED;
	words->what |= strcmp(json_get_string(volume, "state"), "Encrypted") != 0 ? IS_MOVING : 0;
	if (words->filesystem && strcmp(words->filesystem, "btrfs") == 0)
		words->what |= IS_BTRFS;
	if (words->filesystem && strcmp(words->filesystem, "xfs") == 0)
		words->what |= IS_XFS;
	if (kind && strcmp(kind, "lvm") == 0)
		words->what |= IS_LVM;
	if (kind && strcmp(kind, "md") == 0)
		words->what |= IS_MD;
	if (provider && strcmp(provider, "keyvault") == 0)
		words->what |= IS_VAULT;
	if (provider && strcmp(provider, "file") == 0 && words->key && *words->key == '/')
		words->what |= IS_FILE;
}

/* How it is reached there: by its own UUID, or by what names the device below a header elsewhere.
 */
static int take_device(struct json_object *volume, struct words *words)
{
	const char *link = path_of(volume, "link");
	int r = 0;

	if (!words->header)
		return words->header_uuid ? text_format(&words->device, "/dev/disk/by-uuid/%s",
							words->header_uuid)
					  : 0;
	if (link && (begins(link, "/dev/disk/by-partuuid/") ||
		     begins(link, "/dev/disk/by-id/dm-uuid-LVM-")))
		r = text_copy(link, &words->device);
	if (r == 0 && words->boot_uuid && begins(words->header, BOOT "/"))
		r = text_format(&words->header_there, ASIDE "%s", words->header + strlen(BOOT));
	return r;
}

static int take_words(struct json_object *volumes, struct json_object *volume, struct words *words)
{
	struct json_object *mounts = json_get_array(volume, "mounts");
	const char *mount =
		mounts ? json_object_get_string(json_object_array_get_idx(mounts, 0)) : NULL;
	size_t n = 0;

	*words = (struct words){
		.uuid = plain_of(volume, "uuid"),
		.filesystem = plain_of(volume, "filesystem"),
		.state = plain_of(volume, "state"),
		.header_uuid = plain_of(volume, "header_uuid"),
		.header = path_of(volume, "header"),
		.here = path_of(volume, "device"),
		.mapping = plain_of(volume, "mapping"),
		.key = plain_of(volume, "key"),
		.what = IS_KNOWN,
	};
	for (size_t i = 0; i < json_object_array_length(volumes); i++)
		n += is_ours(json_object_array_get_idx(volumes, i));
	words->what |= n > 1 ? IS_ONE_OF_MANY : 0;
	take_boot(volumes, words);
	take_what(volume, words);
	if (mount && text_clean(mount, TABLE_CELL_MAX, &words->mount) < 0)
		return -ENOMEM;
	return take_device(volume, words);
}

/**
 * recover_print() - what to do with each volume
 * @reply:  of Show
 * @volume: only this one, by the UUID of its filesystem or of its LUKS2 header; NULL = all
 *
 * Return: 0, RECOVER_E_UNKNOWN (nothing was printed) or -ENOMEM.
 */
int recover_print(struct json_object *reply, const char *volume, FILE *out)
{
	struct json_object *volumes = json_get_array(reply, "volumes");
	size_t n = volumes ? json_object_array_length(volumes) : 0, printed = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		_cleanup_(words_clear) struct words words = { 0 };
		struct json_object *one = json_object_array_get_idx(volumes, i);

		if (!is_wanted(one, volume))
			continue;
		r = take_words(volumes, one, &words);
		if (r < 0)
			break;
		if (printed++ > 0)
			(void)fputs("\n\n", out);
		print_paragraphs(&words, out);
	}
	if (r == 0 && printed == 0 && volume)
		return RECOVER_E_UNKNOWN;
	if (r == 0 && printed == 0)
		(void)fputs("No volume of this machine is encrypted.\n", out);
	return r;
}

/** recover_print_general() - the same where nobody can be asked, with words to be filled in */
void recover_print_general(FILE *out)
{
	static const struct words words = {
		.what = IS_ROOT | IS_ATTACHED | IS_VAULT | IS_MOVING | HAS_BOOT | HAS_EFI,
	};

	(void)fputs(general_words, out);
	print_paragraphs(&words, out);
}

static int volume_to_json(struct json_object *reply, struct json_object *volume,
			  struct json_object **ret)
{
	static const char *const kept[] = { "uuid",   "header_uuid", "header",   "mapping",
					    "device", "link",        "kind",     "filesystem",
					    "mounts", "state",       "provider", "key" };
	_cleanup_(json_putp) struct json_object *object = json_object_new_object();
	_cleanup_(freep) char *text = NULL;
	size_t size_bytes = 0;
	struct json_object *value;
	FILE *memory;
	int r;

	if (!object)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		if (json_object_object_get_ex(volume, kept[i], &value) &&
		    json_set(object, kept[i], json_object_get(value)) < 0)
			return -ENOMEM;
	memory = open_memstream(&text, &size_bytes);
	if (!memory)
		return -ENOMEM;
	r = recover_print(reply, json_get_string(volume, "header_uuid"), memory);
	if (fclose(memory) != 0 || r != 0)
		return -ENOMEM;
	r = json_set_string(object, "text", text);
	if (r == 0)
		*ret = steal(object);
	return r;
}

/**
 * recover_to_json() - the same for programs: {"volumes": [what Show says, and "text"]}
 * @ret: owned by the caller
 *
 * Return: 0, RECOVER_E_UNKNOWN or -ENOMEM.
 */
int recover_to_json(struct json_object *reply, const char *volume, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *object = json_object_new_object();
	struct json_object *volumes = json_get_array(reply, "volumes"),
			   *array = json_object_new_array();
	size_t n = volumes ? json_object_array_length(volumes) : 0;

	if (!object) {
		json_object_put(array);
		return -ENOMEM;
	}
	if (json_set(object, "volumes", array) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct json_object *one = json_object_array_get_idx(volumes, i), *described = NULL;

		if (!is_wanted(one, volume))
			continue;
		if (volume_to_json(reply, one, &described) < 0)
			return -ENOMEM;
		if (json_object_array_add(array, described) < 0) {
			json_object_put(described);
			return -ENOMEM;
		}
	}
	if (volume && json_object_array_length(array) == 0)
		return RECOVER_E_UNKNOWN;
	*ret = steal(object);
	return 0;
}
