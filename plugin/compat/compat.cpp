#include "plugin/compat/dovecot.hpp"
#if REPLICA_DOVECOT_24
extern "C" {
#include "settings.h"
}
#endif

namespace replica {

#if REPLICA_DOVECOT_24

const char *compat_list_root(const struct mailbox_list *list) { return list->mail_set->mail_path; }

int compat_fs_init(struct mailbox_list *list, struct mail_user *, struct event *event, const char *name, const char *,
                   struct fs **fs_r, const char **text_r, const char **error_r) {
    struct event *fs_event = event_create(event);
    settings_event_add_filter_name(fs_event, name);
    const char *root = mailbox_list_get_root_forced(list, MAILBOX_LIST_PATH_TYPE_DIR);
    int ret = mailbox_list_init_fs(list, fs_event, root, fs_r, error_r);
    event_unref(&fs_event);
    if (ret == 0) *error_r = t_strdup_printf("%s { fs ... { } } is missing", name);
    if (ret <= 0) return -1;
    *text_r = fs_get_root_driver(*fs_r);
    return 0;
}

#else

const char *compat_setting(struct mail_user *user, const char *name) { return mail_user_plugin_getenv(user, name); }

const char *compat_list_root(const struct mailbox_list *list) {
    return list->set.root_dir == nullptr ? "" : list->set.root_dir;
}

int compat_fs_init(struct mailbox_list *list, struct mail_user *user, struct event *event, const char *name,
                   const char *default_fs, struct fs **fs_r, const char **text_r, const char **error_r) {
    const char *text = mail_user_plugin_getenv(user, name);
    if (text == nullptr || *text == '\0') text = default_fs;
    const char *args = strchr(text, ':');
    const char *driver = args == nullptr ? text : t_strdup_until(text, args);
    *text_r = text;
    return mailbox_list_init_fs(list, event, driver, args == nullptr ? "" : args + 1,
                                mailbox_list_get_root_forced(list, MAILBOX_LIST_PATH_TYPE_DIR), fs_r, error_r);
}

void compat_get_list_settings(const struct mail_namespace *, struct mailbox_list_settings *set) {
    if (set->layout == nullptr) set->layout = MAILBOX_LIST_NAME_INDEX;
    if (set->subscription_fname == nullptr) set->subscription_fname = "subscriptions";
    if (*set->mailbox_dir_name == '\0') set->mailbox_dir_name = "mailboxes";
    // In other layouts a mailbox's directory may also hold its children.
    if (*set->maildir_name == '\0' && strcmp(set->layout, MAILBOX_LIST_NAME_INDEX) != 0) set->maildir_name = "cbox";
}

#endif

} // namespace replica
