// What a service process of Dovecot's needs beyond a module: users by lookup, settings without a user, the sessions of
// a user. Include it like dovecot.hpp, after every C++ and system header.
#pragma once
#include "plugin/compat/dovecot.hpp"
#include <cerrno>
#include <csignal>
#include <cstring>
#include <set>
#include <span>
#include <unistd.h>

extern "C" {
#include "anvil-client.h"
#include "hostpid.h"
#include "ioloop.h"
#include "iso8601-date.h"
#include "istream.h"
#include "mail-storage-service.h"
#include "mailbox-guid-cache.h"
#include "mailbox-list-iter.h"
#include "master-service-settings.h"
#include "master-service.h"
#include "message-date.h"
#include "message-header-encode.h"
#include "net.h"
#include "ostream.h"
#include "smtp-address.h"
#include "smtp-submit.h"
#include "str.h"
#include "strescape.h"
#if REPLICA_DOVECOT_24
#include "settings.h"
#else
#include "settings-parser.h"
#include "var-expand.h"
#endif
}

namespace replica::compat {

inline constexpr auto user_service_flags = static_cast<enum mail_storage_service_flags>(
    MAIL_STORAGE_SERVICE_FLAG_USERDB_LOOKUP | MAIL_STORAGE_SERVICE_FLAG_TEMP_PRIV_DROP |
    MAIL_STORAGE_SERVICE_FLAG_NO_LOG_INIT | MAIL_STORAGE_SERVICE_FLAG_NO_CHDIR |
    MAIL_STORAGE_SERVICE_FLAG_NO_IDLE_TIMEOUT);

#if REPLICA_DOVECOT_24
inline constexpr auto service_flags = static_cast<enum master_service_flags>(0);
#else
inline constexpr auto service_flags = MASTER_SERVICE_FLAG_KEEP_CONFIG_OPEN; // read again for each user
#endif

inline struct mail_storage_service_ctx *user_service_init() {
#if REPLICA_DOVECOT_24
    return mail_storage_service_init(master_service, user_service_flags);
#else
    static const struct setting_parser_info *roots[] = {&smtp_submit_setting_parser_info, nullptr};
    return mail_storage_service_init(master_service, roots, user_service_flags);
#endif
}

// For a program that is started by hand and opens several users.
inline constexpr auto standalone_flags = static_cast<enum master_service_flags>(MASTER_SERVICE_FLAG_STANDALONE
#if !REPLICA_DOVECOT_24
                                                                                | MASTER_SERVICE_FLAG_KEEP_CONFIG_OPEN
#endif
);

inline int service_settings_read(const char **error_r) {
#if REPLICA_DOVECOT_24
    return master_service_settings_read_simple(master_service, error_r);
#else
    return master_service_settings_read_simple(master_service, nullptr, error_r);
#endif
}
// What such a program has to read itself. On 2.3 each look-up of a user reads all there is.
inline int standalone_settings_read([[maybe_unused]] const char **error_r) {
#if REPLICA_DOVECOT_24
    return service_settings_read(error_r);
#else
    return 0;
#endif
}

#if REPLICA_DOVECOT_24
// Settings of the site, no user's. Past the macro of that name, whose casts are C's.
template <class Settings>
int site_settings(const struct setting_parser_info *info, enum settings_get_flags flags, const Settings **settings_r,
                  const char **error_r) {
    const void *settings = nullptr;
    int ret =
        (settings_get)(master_service_get_event(master_service), info, flags, __FILE__, __LINE__, &settings, error_r);
    *settings_r = static_cast<const Settings *>(settings);
    return ret;
}
#endif

struct OpenedUser {
    struct mail_storage_service_user *service_user = nullptr;
    struct mail_user *user = nullptr;
    std::string site_plugins; // mail_plugins as the site has it
};

// `overrides`: key and value, in force for this user whatever the site says. mail_plugins there decides whose hooks
// run. As mail_storage_service_lookup_next: 1, 0 = no such user, -1, -2 = the user's own error. The user's context is
// active after 1.
inline int user_open(struct mail_storage_service_ctx *ctx, const char *username,
                     const std::vector<std::pair<const char *, const char *>> &overrides, OpenedUser *opened_r,
                     const char **error_r) {
    struct mail_storage_service_input input = {};
    input.service = master_service_get_name(master_service);
    input.username = username;
#if REPLICA_DOVECOT_24
    const struct mail_user_settings *site;
    if (site_settings(&mail_user_setting_parser_info, SETTINGS_GET_FLAG_NO_EXPAND, &site, error_r) < 0) return -1;
    for (const char *name : std::span(settings_boollist_get(&site->mail_plugins), array_count(&site->mail_plugins)))
        opened_r->site_plugins.append(name).append(" ");
    settings_free(site);
    std::vector<const char *> fields;
    for (auto [key, value] : overrides)
        fields.push_back(t_strconcat(key, "=", value, NULL));
    fields.push_back(nullptr);
    input.code_override_fields = fields.data();
#else
    input.module = "mail";
#endif
    struct mail_storage_service_user *user;
    int ret = mail_storage_service_lookup(ctx, &input, &user, error_r);
    if (ret <= 0) return ret;
#if !REPLICA_DOVECOT_24
    opened_r->site_plugins =
        static_cast<const struct mail_user_settings *>(mail_storage_service_user_get_set(user)[0])->mail_plugins;
    for (auto [key, value] : overrides)
        if (mail_storage_service_user_set_setting(user, key, value, error_r) < 0) ret = -2;
#endif
    if (ret > 0) ret = mail_storage_service_next(ctx, user, &opened_r->user, error_r);
    if (ret < 0) {
        mail_storage_service_user_unref(&user);
        return ret;
    }
    opened_r->service_user = user;
    return 1;
}

// Files of a namespace that Dovecot replaces under a lock file of its own: subscriptions, and METADATA where that is a
// file.
inline std::vector<std::string> dotlocked_files(const struct mail_namespace *ns) {
    std::vector<std::string> files;
    const char *root;
#if REPLICA_DOVECOT_24
    const char *subscriptions = ns->list->mail_set->mailbox_subscriptions_filename;
#else
    const char *subscriptions = ns->list->set.subscription_fname;
    std::string_view metadata = ns->storage->set->mail_attribute_dict;
    if (metadata.starts_with("file:")) {
        metadata.remove_prefix(strlen("file:"));
        files.emplace_back(metadata.substr(0, metadata.find(':')));
    }
#endif
    if (subscriptions != nullptr && mailbox_list_get_root_path(ns->list, MAILBOX_LIST_PATH_TYPE_CONTROL, &root))
        files.push_back(std::string(root) + "/" + subscriptions);
    return files;
}

// submission_host, sendmail_path and what belongs to them, without a user. null: error_r says why.
inline const struct smtp_submit_settings *submit_settings(struct mail_storage_service_ctx *ctx, pool_t pool,
                                                          const char **error_r) {
#if REPLICA_DOVECOT_24
    (void)ctx;
    (void)pool;
    const struct smtp_submit_settings *set;
    return site_settings(&smtp_submit_setting_parser_info, static_cast<settings_get_flags>(0), &set, error_r) < 0
               ? nullptr
               : set;
#else
    struct mail_storage_service_input input = {};
    input.module = "lda"; // whose settings these are
    input.service = master_service_get_name(master_service);
    const struct setting_parser_info *info;
    const struct setting_parser_context *parser;
    if (mail_storage_service_read_settings(ctx, &input, pool, &info, &parser, error_r) < 0) return nullptr;
    auto *set = static_cast<struct smtp_submit_settings *>(
        master_service_settings_parser_get_others(master_service, parser)[1]);
    static const struct var_expand_table no_variables[] = {{'\0', nullptr, nullptr}};
    if (settings_var_expand(&smtp_submit_setting_parser_info, set, pool, no_variables, error_r) <= 0) return nullptr;
    return set;
#endif
}

inline struct smtp_submit_input submit_input() {
    struct smtp_submit_input input = {};
#if !REPLICA_DOVECOT_24
    input.allow_root = true;
#endif
    return input;
}

// Ends the sessions of a user on this host, through anvil's socket in the service's working directory. The count, or
// -1.
#if REPLICA_DOVECOT_24
inline void kicked(const char *reply, int *count) {
    unsigned int n;
    *count = reply == nullptr || str_to_uint(reply, &n) < 0 ? -1 : static_cast<int>(n);
    io_loop_stop(current_ioloop);
}
inline int kick_sessions(const char *username, std::string *error_r) {
    struct ioloop *loop = io_loop_create();
    struct anvil_client *anvil = anvil_client_init("anvil", nullptr, static_cast<enum anvil_client_flags>(0));
    int count = -1;
    if (anvil_client_connect(anvil, false) == 0) {
        const char *command = t_strconcat("KICK-USER\t", str_tabescape(username), NULL);
        (anvil_client_query)(anvil, command, ANVIL_DEFAULT_KICK_TIMEOUT_MSECS,
                             reinterpret_cast<anvil_callback_t *>(kicked), &count);
        io_loop_run(loop);
    }
    anvil_client_deinit(&anvil);
    io_loop_destroy(&loop);
    if (count < 0) *error_r = "anvil did not end the sessions";
    return count;
}
#else
// A line of anvil's dump: "<service>/<ip>/<user>" or "<service>/<user>", then the process.
inline pid_t session_of(const char *line, const char *username) {
    const char *const *args = t_strsplit_tabescaped(line);
    pid_t pid;
    if (str_array_length(args) < 2 || str_to_pid(args[1], &pid) < 0) return 0;
    if (strncmp(args[0], "lmtp/", strlen("lmtp/")) == 0) return 0; // no session: it delivers to others too
    const char *user = strchr(args[0], '/');
    if (user == nullptr) return 0;
    if (const char *behind_ip = strchr(++user, '/'); behind_ip != nullptr) user = behind_ip + 1;
    return strcmp(user, username) == 0 ? pid : 0;
}
// A process that serves others too ends their sessions with it: their clients connect again.
inline int kick_sessions(const char *username, std::string *error_r) {
    static constexpr char ask[] = "VERSION\tanvil\t1\t0\nCONNECT-DUMP\n";
    int fd = net_connect_unix("anvil");
    if (fd < 0 || write(fd, ask, sizeof(ask) - 1) != static_cast<ssize_t>(sizeof(ask) - 1)) {
        *error_r = t_strdup_printf("anvil cannot be asked: %m");
        if (fd >= 0) i_close_fd(&fd);
        return -1;
    }
    net_set_nonblock(fd, false);
    struct istream *input = i_stream_create_fd_autoclose(&fd, SIZE_MAX);
    std::set<pid_t> pids;
    const char *line;
    while ((line = i_stream_read_next_line(input)) != nullptr && *line != '\0')
        if (pid_t pid = session_of(line, username); pid > 0) pids.insert(pid);
    if (line == nullptr) *error_r = "anvil's answer ended early";
    i_stream_destroy(&input);
    if (line == nullptr) return -1;
    for (pid_t pid : pids)
        if (kill(pid, SIGTERM) < 0 && errno != ESRCH) {
            *error_r = t_strdup_printf("kill(%ld) failed: %m", static_cast<long>(pid));
            return -1;
        }
    return static_cast<int>(pids.size());
}
#endif

} // namespace replica::compat
