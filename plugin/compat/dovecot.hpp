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
#include "array.h"
#include "mail-storage-private.h"
#include "mail-storage-hooks.h"
#include "index-storage.h"
#include "index-mail.h"
#include "mail-user.h"
#include "fs-api.h"
}

#define REPLICA_DOVECOT_24 DOVECOT_PREREQ(2, 4, 0)
