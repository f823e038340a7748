// The one door to Dovecot: the only file that includes Dovecot's headers and knows 2.3 from 2.4.
// Include it after every C++ and system header that a file needs: what a Dovecot header pulls in stands inside extern "C".
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
#define HASH_TABLE_UNION(key_type, value_type)                                                                         \
    {                                                                                                                  \
        struct hash_table *_table;                                                                                     \
        key_type _key;                                                                                                 \
        key_type *_keyp;                                                                                               \
        value_type _value;                                                                                             \
        value_type *_valuep;                                                                                           \
    }
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
}

#define REPLICA_DOVECOT_24 DOVECOT_PREREQ(2, 4, 0)
