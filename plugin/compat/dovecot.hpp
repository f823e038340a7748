// The one door to Dovecot: the only file that includes Dovecot's headers and knows 2.3 from 2.4.
// Include it after every C++ and system header that a file needs: what a Dovecot header pulls in stands inside extern
// "C".
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

extern "C" {
#include "config.h"
#include "lib.h"
#include "hash-decl.h"
// HASH_TABLE(const char *, ...) says const twice in C++; without that member the layout is the same.
#undef HASH_TABLE_UNION
// NOLINTBEGIN(bugprone-macro-parentheses): these are types
#define HASH_TABLE_UNION(key_type, value_type)                                                                         \
    {                                                                                                                  \
        struct hash_table *_table;                                                                                     \
        key_type _key;                                                                                                 \
        key_type *_keyp;                                                                                               \
        value_type _value;                                                                                             \
        value_type *_valuep;                                                                                           \
    }
// NOLINTEND(bugprone-macro-parentheses)
#include "array.h"
#include "mail-storage-private.h"
#include "mail-storage-hooks.h"
#include "index-storage.h"
#include "index-mail.h"
#include "mail-user.h"
#include "fs-api.h"
#include "file-lock.h"
#include "unlink-directory.h"
#include "sha2.h"
#include "index-mailbox-size.h"
#include "mail-index-private.h"
#include "mail-cache.h"
#include "mail-index-modseq.h"
#include "mail-index-transaction-private.h"
#include "mail-index-view-private.h"
#include "mail-transaction-log-private.h"
#include "mailbox-list-private.h"
#include "mailbox-list-index.h"
#include "mail-namespace.h"
#include "mailbox-uidvalidity.h"
#include "master-service.h"
#include "module-context.h"
#include "istream.h"
#include "istream-crlf.h"
#include "istream-fs-file.h"
#include "ostream.h"
#include "ostream-hash.h"
#include "hash-method.h"
#include "crc32.h"
#include "randgen.h"
#include "guid.h"
#include "hex-binary.h"
#include "hostpid.h"
#include "read-full.h"
#include "write-full.h"
#include "seq-range-array.h"
#include "ioloop.h"
#include "sleep.h"
#include "str.h"
#include "fdatasync-path.h"
#include "mkdir-parents.h"
#include "dict.h"
#include "mail-copy.h"
#include "mail-storage-service.h"
#include "mail-search-build.h"
#include "index-pop3-uidl.h"
#include "index-rebuild.h"
#include "mailbox-recent-flags.h"
}

#define REPLICA_DOVECOT_24 DOVECOT_PREREQ(2, 4, 0)

namespace replica {

// The text of a setting of the user's, from plugin { } on 2.3 and from the settings module on 2.4. Null if it is not
// set.
const char *compat_setting(struct mail_user *user, const char *name);

// The root directory of a namespace's mails as configured, or "".
const char *compat_list_root(const struct mailbox_list *list);

// The file system that `text` names, "driver:args" as on 2.3; 2.4 takes one driver with key=value arguments, no
// wrappers. -1: error_r says why.
int compat_fs_init(struct mailbox_list *list, struct mail_user *user, struct event *event, const char *text,
                   struct fs **fs_r, const char **error_r);

// What clients want cached of mails, from one index's cache to another's.
void compat_cache_fields_copy(struct mail_cache *from, struct mail_cache *to);

} // namespace replica

// Members of struct mail_storage_vfuncs that only 2.3 has: what an empty layout means there. 2.4 has settings for that.
#if REPLICA_DOVECOT_24
#define COMPAT_GET_LIST_SETTINGS
#else
namespace replica {
void compat_get_list_settings(const struct mail_namespace *ns, struct mailbox_list_settings *set);
}
#define COMPAT_GET_LIST_SETTINGS .get_list_settings = replica::compat_get_list_settings,
#endif
