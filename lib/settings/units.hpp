// Numbers, durations and sizes as settings write them. Internal to lib/settings.
#pragma once
#include "lib/settings/settings.hpp"
#include <optional>

namespace replica {

std::optional<uint64_t> parse_amount(SettingType type,
                                     std::string_view text); // none: not of this type, or beyond 64 bits
std::string amount_text(SettingType type, uint64_t amount);  // the shortest text that parses to it

} // namespace replica
