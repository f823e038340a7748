#include "lib/settings/settings.hpp"
#include "plugin/cbox/cbox-sweep.hpp"

namespace replica {

static struct event_category cbox_event_category = {.parent = &event_category_storage, .name = "cbox"};

static struct mail_storage *storage_alloc() {
    pool_t pool = pool_alloconly_create("cbox storage", 1024);
    auto *inside = p_new(pool, CboxStorageInside, 1);
    inside->outside.storage = cbox_storage_class;
    inside->outside.storage.pool = pool;
    inside->outside.api = &cbox_api;
    return &inside->outside.storage;
}

static Guid account_id(const char *name) {
    uint8_t digest[32];
    hash_method_get_digest(hash_method_lookup("sha256"), name, strlen(name), digest);
    return Guid::from(digest);
}

// Ours alone: what else may be wrong is for those whose it is.
static Result<Settings> settings_of(struct mail_user *user) {
    std::map<std::string, std::string> raw;
    for (const SettingRow &row : setting_rows())
        if (const char *text; std::string_view(row.name).starts_with("cbox_") &&
                              (text = compat_setting(user, row.name)) != nullptr && *text != '\0')
            raw.emplace(row.name, text);
    return parse_settings(raw);
}

// Where the owner's bodies are, whoever reads: a shared namespace is opened by others. Null: a public one would be
// somewhere else for each of its readers.
static const char *blobs_setting(struct mail_storage *storage, struct mail_namespace *ns, const char *root) {
    struct mail_user *owner = ns->owner == nullptr ? storage->user : ns->owner;
    const char *home, *text = compat_setting(owner, "cbox_blobs");
    bool has_home = mail_user_get_home(owner, &home) > 0;
    if (text == nullptr || *text == '\0')
        return t_strdup_printf("posix:prefix=%s/blobs/", has_home && ns->owner != nullptr ? home : root);
    if (ns->owner == nullptr &&
        ((has_home && strstr(text, home) != nullptr) || strstr(text, owner->username) != nullptr))
        return nullptr;
    return text;
}

// In the mail root. maildir++ takes what begins with a dot for a mailbox.
static std::string control_dir_of(struct mailbox_list *list) {
    bool dots = strcmp(list->name, MAILBOX_LIST_NAME_MAILDIRPLUSPLUS) == 0;
    return std::string(mailbox_list_get_root_forced(list, MAILBOX_LIST_PATH_TYPE_DIR)) +
           (dots ? "/replica" : "/.replica");
}

static int storage_create(struct mail_storage *storage, struct mail_namespace *ns, const char **error_r) {
    auto *cbox = cbox_storage(storage);
    const char *root = mailbox_list_get_root_forced(ns->list, MAILBOX_LIST_PATH_TYPE_DIR);
    storage->unique_root_dir = p_strdup(storage->pool, compat_list_root(ns->list));
    auto *inside = cbox_storage_inside(storage);
    inside->mail_root = p_strdup(storage->pool, root);
    inside->control_dir = p_strdup(storage->pool, control_dir_of(ns->list).c_str());
    inside->own = ns->type == MAIL_NAMESPACE_TYPE_PRIVATE;
    // A public namespace has no owner: its root names it, whoever reads.
    cbox->account_id = account_id(ns->owner == nullptr ? root : ns->owner->username);

    const char *list_dir;
    if (mailbox_list_get_root_path(ns->list, MAILBOX_LIST_PATH_TYPE_LIST_INDEX, &list_dir))
        (void)cbox_log_mend(t_strconcat(list_dir, "/dovecot.list.index.log", nullptr), storage->set->parsed_lock_method,
                            storage->event);

    auto settings = settings_of(storage->user);
    if (!settings) {
        *error_r = p_strdup(storage->pool, settings.error().message.c_str());
        return -1;
    }
    inside->body_wait_ms = static_cast<unsigned>(settings->cbox_body_wait.count());
    inside->cache_bytes = settings->cbox_cache_size;
    if (!settings->cbox_cache.empty()) inside->cache_dir = p_strdup(storage->pool, settings->cbox_cache.c_str());

    const char *error, *text = blobs_setting(storage, ns, root);
    if (text == nullptr) {
        *error_r =
            "cbox_blobs names a place of each user's own: a public namespace, which all share, cannot be kept there";
        return -1;
    }
    cbox->fs_settings = p_strdup(storage->pool, text);
    if (compat_fs_init(ns->list, storage->user, storage->event, cbox->fs_settings, &cbox->fs, &error) < 0) {
        *error_r = t_strdup_printf("cbox_blobs: %s", error);
        return -1;
    }
    return 0;
}

static void storage_destroy(struct mail_storage *storage) {
    fs_unref(&cbox_storage(storage)->fs);
    index_storage_destroy(storage);
}

bool cbox_is(const struct mail_storage *storage) { return storage->storage_class == &cbox_storage_class; }

std::string cbox_control_dir(struct mail_storage *storage) {
    const auto *inside = cbox_storage_inside(storage);
    const struct mail_namespace *inbox = inside->own ? mail_namespace_find_inbox(storage->user->namespaces) : nullptr;
    return inbox == nullptr || inbox->list == nullptr ? inside->control_dir : control_dir_of(inbox->list);
}

int cbox_unlogged_file_create(struct mail_storage *storage) {
    const char *dir = t_strdup(cbox_control_dir(storage).c_str());
    const char *path = t_strconcat(dir, "/unlogged", nullptr);
    if (mkdir_parents(dir, 0700) < 0 && errno != EEXIST) {
        mail_storage_set_critical(storage, "mkdir(%s) failed: %m", dir);
        return -1;
    }
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd == -1) {
        mail_storage_set_critical(storage, "open(%s) failed: %m", path);
        return -1;
    }
    i_close_fd(&fd);
    if (storage->set->parsed_fsync_mode != FSYNC_MODE_NEVER && fdatasync_path(dir) < 0) {
        mail_storage_set_critical(storage, "fdatasync_path(%s) failed: %m", dir);
        return -1;
    }
    return 0;
}

struct mail_storage cbox_storage_class = {
    .name = cbox_storage_name,
    .class_flags = static_cast<enum mail_storage_class_flags>(
        MAIL_STORAGE_CLASS_FLAG_UNIQUE_ROOT | MAIL_STORAGE_CLASS_FLAG_FILE_PER_MSG |
        MAIL_STORAGE_CLASS_FLAG_HAVE_MAIL_GUIDS | MAIL_STORAGE_CLASS_FLAG_HAVE_MAIL_SAVE_GUIDS |
        MAIL_STORAGE_CLASS_FLAG_HAVE_MAIL_GUID128 | MAIL_STORAGE_CLASS_FLAG_BINARY_DATA),
    .event_category = &cbox_event_category,
    .v =
        {
            .alloc = storage_alloc,
            .create = storage_create,
            .destroy = storage_destroy,
            COMPAT_GET_LIST_SETTINGS.mailbox_alloc = cbox_mailbox_alloc,
            .purge = cbox_purge,
            .list_index_rebuild = mail_storage_list_index_rebuild,
        },
};

} // namespace replica
