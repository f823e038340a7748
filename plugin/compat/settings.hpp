// Our settings as a mail process sees them: on 2.3 from plugin { }, on 2.4 top-level names, made known by
// plugin/settings. Both come from the table in lib/settings, so a new row needs nothing here. Thread: Dovecot's only
// one.
#pragma once
#include "lib/settings/settings.hpp"
#include <string>
#include <vector>
#include "plugin/compat/dovecot.hpp"
#if REPLICA_DOVECOT_24
extern "C" {
#include "settings.h"
}
#endif

namespace replica {

#if REPLICA_DOVECOT_24

// The table in the words of lib-settings: a struct of one pool and one string for each row, in the table's order.
struct SettingsInfo {
    std::vector<const char *> defaults{nullptr}; // the pool's place comes first
    std::vector<struct setting_define> defines;
    struct setting_parser_info info {};

    SettingsInfo() {
        for (const SettingRow &row : setting_rows()) {
            struct setting_define define {};
            define.type = SET_STR;
            define.key = row.name;
            define.offset = defaults.size() * sizeof(const char *);
            defines.push_back(define);
            defaults.push_back(row.default_text);
        }
        defines.push_back({}); // the end
        info.name = "replica";
        info.defines = defines.data();
        info.defaults = defaults.data();
        info.struct_size = defaults.size() * sizeof(const char *);
        info.pool_offset1 = 1;
    }
    SettingsInfo(const SettingsInfo &) = delete;
};

inline const struct setting_parser_info &settings_info() {
    static const SettingsInfo settings;
    return settings.info;
}

// The rows' texts as they are in force for this user, on the data stack. Null and error_r if they cannot be had.
inline const char *const *settings_texts(struct event *event, const char **error_r) {
    const void *set;
    if ((settings_get)(event, &settings_info(), static_cast<enum settings_get_flags>(0), __FILE__, __LINE__, &set,
                       error_r) < 0)
        return nullptr;
    auto *fields = static_cast<const char *const *>(set);
    auto **texts = t_new(const char *, setting_rows().size());
    for (size_t i = 0; i < setting_rows().size(); i++)
        texts[i] = t_strdup(fields[i + 1]);
    pool_t pool = *static_cast<const pool_t *>(set);
    pool_unref(&pool);
    return texts;
}

#endif

// Parsed and checked, with the defaults for what is not set.
inline Result<Settings> user_settings(struct mail_user *user) {
    std::map<std::string, std::string> raw;
#if REPLICA_DOVECOT_24
    const char *error;
    const char *const *texts = settings_texts(user->event, &error);
    if (texts == nullptr) return Error{Code::invalid, error};
    for (size_t i = 0; i < setting_rows().size(); i++)
        raw.emplace(setting_rows()[i].name, texts[i]);
#else
    for (const SettingRow &row : setting_rows())
        if (const char *text = mail_user_plugin_getenv(user, row.name); text != nullptr) raw.emplace(row.name, text);
#endif
    return parse_settings(raw);
}

} // namespace replica
