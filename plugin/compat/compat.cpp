#include "plugin/compat/settings.hpp"

namespace replica {

#if REPLICA_DOVECOT_24

const char *compat_setting(struct mail_user *user, const char *name) {
    const char *error, *const *texts = settings_texts(user->event, &error);
    if (texts == nullptr) {
        e_error(user->event, "%s cannot be read: %s", name, error);
        return nullptr;
    }
    const auto rows = setting_rows();
    for (size_t i = 0; i < rows.size(); i++)
        if (strcmp(rows[i].name, name) == 0) return strcmp(texts[i], rows[i].default_text) == 0 ? nullptr : texts[i];
    return nullptr;
}

const char *compat_list_root(const struct mailbox_list *list) { return list->mail_set->mail_path; }

// "driver:key=value:word" in 2.4's words: fs_<driver>_<key> = value, fs_<driver>_<word> = yes. What follows "s3:" is
// one value.
static void override_fs(struct settings_instance *instance, const char *text) {
    const char *const *parts = t_strsplit(text, ":");
    const char *driver = parts[0];
    settings_override(instance, "*/fs", "__cbox", SETTINGS_OVERRIDE_TYPE_CODE);
    settings_override(instance, "fs/__cbox/fs_driver", driver, SETTINGS_OVERRIDE_TYPE_CODE);
    if (strcmp(driver, "s3") == 0) {
        settings_override(instance, "fs_s3_url", parts[1] == nullptr ? "" : strchr(text, ':') + 1,
                          SETTINGS_OVERRIDE_TYPE_CODE);
        return;
    }
    for (parts++; *parts != nullptr; parts++) {
        const char *value = strchr(*parts, '=');
        const char *key = value == nullptr ? *parts : t_strdup_until(*parts, value);
        settings_override(instance, t_strdup_printf("fs_%s_%s", driver, key), value == nullptr ? "yes" : value + 1,
                          SETTINGS_OVERRIDE_TYPE_CODE);
    }
}

int compat_fs_init(struct mailbox_list *list, struct mail_user *user, struct event *event, const char *text,
                   struct fs **fs_r, const char **error_r) {
    auto *instance = settings_instance_dup(mail_storage_service_user_get_settings_instance(user->service_user));
    override_fs(instance, text);
    // The settings are read while the file system is made, and not later.
    struct event *fs_event = event_create(event);
    event_set_ptr(fs_event, SETTINGS_EVENT_INSTANCE, instance);
    const char *root = mailbox_list_get_root_forced(list, MAILBOX_LIST_PATH_TYPE_DIR);
    int ret = mailbox_list_init_fs(list, fs_event, root, fs_r, error_r);
    event_set_ptr(fs_event, SETTINGS_EVENT_INSTANCE, nullptr);
    event_unref(&fs_event);
    settings_instance_free(&instance);
    return ret > 0 ? 0 : -1;
}

#else

const char *compat_setting(struct mail_user *user, const char *name) { return mail_user_plugin_getenv(user, name); }

const char *compat_list_root(const struct mailbox_list *list) {
    return list->set.root_dir == nullptr ? "" : list->set.root_dir;
}

int compat_fs_init(struct mailbox_list *list, struct mail_user *, struct event *event, const char *text,
                   struct fs **fs_r, const char **error_r) {
    const char *args = strchr(text, ':');
    const char *driver = args == nullptr ? text : t_strdup_until(text, args);
    const char *root = mailbox_list_get_root_forced(list, MAILBOX_LIST_PATH_TYPE_DIR);
    return mailbox_list_init_fs(list, event, driver, args == nullptr ? "" : args + 1, root, fs_r, error_r);
}

void compat_get_list_settings(const struct mail_namespace *, struct mailbox_list_settings *set) {
    if (set->layout == nullptr) set->layout = MAILBOX_LIST_NAME_INDEX;
    if (set->subscription_fname == nullptr) set->subscription_fname = "subscriptions";
    if (*set->mailbox_dir_name == '\0') set->mailbox_dir_name = "mailboxes";
    // There a mailbox's directory may also hold its children.
    if (*set->maildir_name == '\0' && strcmp(set->layout, MAILBOX_LIST_NAME_FS) == 0) set->maildir_name = "cbox";
}

#endif

void compat_cache_fields_copy(struct mail_cache *from, struct mail_cache *to) {
    unsigned count;
    pool_t pool;
#if REPLICA_DOVECOT_24
    struct mail_cache_field *fields = mail_cache_register_get_list(from, &pool, &count);
    mail_cache_register_fields(to, fields, count, pool);
#else
    pool = pool_alloconly_create("cache fields", 1024);
    struct mail_cache_field *fields = mail_cache_register_get_list(from, pool, &count);
    mail_cache_register_fields(to, fields, count);
#endif
    pool_unref(&pool);
}

} // namespace replica
