#include "lib/settings/settings.hpp"
#include "lib/settings/units.hpp"

namespace replica {
namespace {

const char *type_name(SettingType type) {
    switch (type) {
    case SettingType::text:
        return "text";
    case SettingType::path:
        return "path";
    case SettingType::number:
        return "number";
    case SettingType::duration:
        return "duration";
    case SettingType::size:
        return "size";
    }
    return "";
}

std::string range(const SettingRow &row) {
    if (row.type == SettingType::text || row.type == SettingType::path) return {};
    return amount_text(row.type, row.least) + " to " + amount_text(row.type, row.most);
}

const char *takes(const SettingRow &row) { return row.takes == SettingTakes::reload ? "reload" : "restart"; }

} // namespace

std::string settings_as_conf(std::string_view prefix) {
    std::string out = "plugin {\n";
    for (const SettingRow &row : setting_rows()) {
        if (!std::string_view(row.name).starts_with(prefix)) continue;
        std::string bounds = range(row);
        out += std::string("  # ") + row.sentence + (bounds.empty() ? "" : " " + bounds + ".") +
               (row.takes == SettingTakes::restart ? " Takes a restart.\n" : "\n");
        out += std::string("  #") + row.name + " =" + (*row.default_text == '\0' ? "" : " ") + row.default_text + "\n";
    }
    return out + "}\n";
}

std::string settings_as_markdown() {
    std::string out = "| setting | type | default | range | takes | meaning |\n| --- | --- | --- | --- | --- | --- |\n";
    for (const SettingRow &row : setting_rows()) {
        std::string default_cell = *row.default_text == '\0' ? "" : "`" + std::string(row.default_text) + "`";
        out += "| `" + std::string(row.name) + "` | " + type_name(row.type) + " | " + default_cell + " | " +
               range(row) + " | " + takes(row) + " | " + row.sentence + " |\n";
    }
    return out;
}

} // namespace replica
