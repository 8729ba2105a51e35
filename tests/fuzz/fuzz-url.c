/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An accepted address is one of ours and nothing else: written out from its parts it parses to the
 * same, and no part holds a letter with which a URL could mean another host. */
#include "fuzz.h"
#include "key/url.h"

static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";

static void check(const char *text, enum key_url_kind kind)
{
	const char *collection = kind == KEY_URL_SECRET ? "/secrets/" : "/keys/";
	struct key_url url, again;
	char written[KEY_URL_MAX_BYTES];
	size_t vault_letters;
	int r = key_url_parse(text, kind, &url);

	must(key_url_problem(r)[0] != '\0');
	if (r != 0)
		return;
	vault_letters = strspn(url.vault, safe);
	must(vault_letters >= 3 && vault_letters <= 24 && url.vault[vault_letters] == '.');
	must(strcmp(url.vault + vault_letters + 1, url.suffix) == 0);
	must(strspn(url.name, safe) == strlen(url.name));
	must(strspn(url.version, safe) == strlen(url.version));
	must((url.name[0] == '\0') == (kind == KEY_URL_VAULT));
	if (kind == KEY_URL_VAULT)
		(void)snprintf(written, sizeof(written), "https://%s", url.vault);
	else
		(void)snprintf(written, sizeof(written), "https://%s%s%s/%s", url.vault, collection,
			       url.name, url.version);
	must(key_url_parse(written, kind, &again) == 0);
	must(memcmp(&url, &again, sizeof(url)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) char *text = text_from(data, size);

	check(text, KEY_URL_VAULT);
	check(text, KEY_URL_SECRET);
	check(text, KEY_URL_KEY);
	return 0;
}
