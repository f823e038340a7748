// What agentd needs of Dovecot: its settings without a user, and the master's service calls.
// Include it like dovecot.hpp, after every C++ and system header. Thread: the main one.
#pragma once
#include "plugin/compat/settings.hpp"
extern "C" {
#include "hostpid.h"
#include "mail-storage-settings.h"
#include "master-service-settings.h"
#include "master-service.h"
#include "restrict-access.h"
}

namespace replica::compat {

// All names and values in which ours may stand (2.3: the whole of plugin { }). The base dir too.
inline Result<std::map<std::string, std::string>> agent_settings(std::string *base_dir_r) {
    std::map<std::string, std::string> raw;
    const char *error;
#if REPLICA_DOVECOT_24
    if (master_service_settings_read_simple(master_service, &error) < 0) return Error{Code::invalid, error};
    const char *const *texts = settings_texts(master_service_get_event(master_service), &error);
    if (texts == nullptr) return Error{Code::invalid, error};
    for (size_t i = 0; i < setting_rows().size(); i++)
        raw.emplace(setting_rows()[i].name, texts[i]);
    *base_dir_r = master_service_get_service_settings(master_service)->base_dir;
#else
    static const struct setting_parser_info *roots[] = {&mail_user_setting_parser_info, nullptr};
    struct master_service_settings_input input = {};
    struct master_service_settings_output output;
    input.roots = roots;
    input.module = "mail";
    input.service = "agentd";
    if (master_service_settings_read(master_service, &input, &output, &error) < 0) return Error{Code::invalid, error};
    auto *set = static_cast<const struct mail_user_settings *>(master_service_settings_get_others(master_service)[0]);
    if (array_is_created(&set->plugin_envs)) {
        unsigned int count;
        auto *envs = static_cast<const char *const *>(array_get_i(&set->plugin_envs.arr, &count));
        for (unsigned int i = 0; i + 1 < count; i += 2)
            raw.emplace(envs[i], envs[i + 1]);
    }
    *base_dir_r = master_service_settings_get(master_service)->base_dir;
#endif
    return raw;
}

} // namespace replica::compat
