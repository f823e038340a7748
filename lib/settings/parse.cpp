#include "lib/settings/settings.hpp"
#include "lib/settings/units.hpp"
#include <algorithm>
#include <numeric>
#include <type_traits>
#include <vector>

namespace replica {
namespace {

constexpr std::string_view our_prefix = "replica_";

size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), 0);
    for (size_t i = 0; i < a.size(); i++) {
        size_t diagonal = std::exchange(row[0], i + 1);
        for (size_t j = 0; j < b.size(); j++) {
            size_t replaced = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
        }
    }
    return row.back();
}

bool known(std::string_view name) {
    auto rows = setting_rows();
    return std::any_of(rows.begin(), rows.end(), [&](const SettingRow &row) { return name == row.name; });
}

Error unknown(std::string_view name) {
    auto rows = setting_rows();
    std::string_view begin = name.substr(0, 64); // no setting is longer
    const SettingRow &nearest =
        *std::min_element(rows.begin(), rows.end(), [&](const SettingRow &a, const SettingRow &b) {
            return edit_distance(begin, a.name) < edit_distance(begin, b.name);
        });
    return Error{Code::invalid, std::string(name) + " is not a setting; the nearest is " + nearest.name};
}

Error wrong(const SettingRow &row, std::string_view text, const std::string &remedy) {
    return Error{Code::invalid, std::string(row.name) + " = " + std::string(text) + ": " + remedy};
}

Result<void> set(Settings &settings, const SettingRow &row, const std::string &text) {
    bool is_text = row.type == SettingType::text || row.type == SettingType::path;
    auto amount = is_text ? std::optional<uint64_t>(text.size()) : parse_amount(row.type, text);
    if (is_text && (*amount < row.least || *amount > row.most))
        return wrong(row, text,
                     "write " + std::to_string(row.least) + " to " + std::to_string(row.most) + " characters");
    if (!amount || *amount < row.least || *amount > row.most)
        return wrong(row, text, "write " + amount_text(row.type, row.least) + " to " + amount_text(row.type, row.most));
    if (row.type == SettingType::path && !text.empty() && text[0] != '/')
        return wrong(row, text, "write a path that begins with /");
    if (const char *problem = row.problem == nullptr ? nullptr : row.problem(text)) return wrong(row, text, problem);
    std::visit(
        [&](auto member) {
            using Value = std::remove_reference_t<decltype(settings.*member)>;
            if constexpr (std::is_same_v<Value, std::string>)
                settings.*member = text;
            else
                settings.*member = Value(*amount);
        },
        row.member);
    return {};
}

} // namespace

Result<Settings> parse_settings(const std::map<std::string, std::string> &raw, std::string_view host_name) {
    Settings settings{};
    for (const SettingRow &row : setting_rows()) {
        auto given = raw.find(row.name);
        auto done = set(settings, row, given == raw.end() ? row.default_text : given->second);
        if (!done) return done.error();
    }
    for (const auto &[name, value] : raw)
        if (name.starts_with(our_prefix) && !known(name)) return unknown(name);
    if (settings.mailstore.empty()) settings.mailstore = host_name;
    if (settings.address.empty()) settings.address = settings.mailstore;
    if (settings.min_insync > settings.replication_factor)
        return Error{Code::invalid, "replica_min_insync = " + std::to_string(settings.min_insync) +
                                        ": write at most replica_replication_factor, which is " +
                                        std::to_string(settings.replication_factor)};
    return settings;
}

Result<void> check_for_agent(const Settings &settings) {
    if (settings.brokers.empty())
        return Error{Code::invalid, "replica_brokers is empty: name the Kafka brokers as host:port"};
    if (settings.mailstore.empty())
        return Error{Code::invalid, "replica_mailstore is empty: write this host's full name"};
    return {};
}

} // namespace replica
