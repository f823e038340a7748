#include "lib/settings/units.hpp"
#include <charconv>

namespace replica {
namespace {

struct Unit {
    SettingType type;
    std::string_view name;
    uint64_t factor;
};
// The largest first; of two names for one unit the one to print first.
constexpr Unit units[] = {
    {SettingType::number, "", 1},
    {SettingType::duration, "h", 3600000},
    {SettingType::duration, "min", 60000},
    {SettingType::duration, "m", 60000},
    {SettingType::duration, "s", 1000},
    {SettingType::duration, "ms", 1},
    {SettingType::size, "G", 1 << 30},
    {SettingType::size, "M", 1 << 20},
    {SettingType::size, "k", 1 << 10},
    {SettingType::size, "K", 1 << 10},
    {SettingType::size, "", 1},
};

} // namespace

std::optional<uint64_t> parse_amount(SettingType type, std::string_view text) {
    uint64_t count = 0, amount = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
    if (error != std::errc()) return std::nullopt;
    std::string_view name = text.substr(static_cast<size_t>(end - text.data()));
    if (count == 0 && name.empty()) return 0; // of anything
    for (const Unit &unit : units)
        if (unit.type == type && unit.name == name && !__builtin_mul_overflow(count, unit.factor, &amount))
            return amount;
    return std::nullopt;
}

std::string amount_text(SettingType type, uint64_t amount) {
    for (const Unit &unit : units)
        if (unit.type == type && amount >= unit.factor && amount % unit.factor == 0)
            return std::to_string(amount / unit.factor) + std::string(unit.name);
    return std::to_string(amount);
}

} // namespace replica
