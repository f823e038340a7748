// Who may sweep. The object `owner` beside the account's bodies names a store and its epoch; a file of the same name in
// the control dir says that this very mail root belongs to it. A second store without indexes, or a store that lost
// its own, has one of them only.
#include <unistd.h>
#include "plugin/cbox/cbox-sweep.hpp"

namespace replica {

namespace {

constexpr char owner_name[] = "owner", pending_name[] = "owner.pending", magic[] = "cbox-owner 1 ";
constexpr size_t owner_bytes_max = 4096;

std::string encode(const CboxOwner &owner) { return magic + std::to_string(owner.epoch) + " " + owner.store + "\n"; }

bool decode(std::string_view text, CboxOwner *owner_r) {
    const char *const *words = t_strsplit_spaces(t_strndup(text.data(), text.size()), " \n");
    if (!text.starts_with(magic) || str_array_length(words) < 4 || str_to_uint64(words[2], &owner_r->epoch) < 0)
        return false;
    owner_r->store = t_strarray_join(words + 3, " ");
    return true;
}

std::string this_store(struct mail_storage *storage) {
    const char *name = compat_setting(storage->user, "replica_mailstore");
    return name == nullptr || *name == '\0' ? my_hostdomain() : name;
}

// 1, 0: there is none, -1: the error is set.
int read_local(struct mail_storage *storage, CboxOwner *owner_r) {
    std::string text;
    int ret = cbox_control_read(storage, owner_name, &text);
    if (ret <= 0) return ret;
    if (decode(text, owner_r)) return 1;
    mail_storage_set_critical(storage, "%s/%s is damaged", cbox_control_dir(storage).c_str(), owner_name);
    return -1;
}

struct fs_file *open_object(struct mail_storage *storage, int mode) {
    auto *cbox = cbox_storage(storage);
    std::string path = to_hex(cbox->account_id) + "/" + owner_name;
    return fs_file_init_with_event(cbox->fs, storage->event, path.c_str(), mode);
}

int read_object(struct mail_storage *storage, CboxOwner *owner_r) {
    struct fs_file *file = open_object(storage, FS_OPEN_MODE_READONLY);
    char text[owner_bytes_max];
    ssize_t got = cbox_fs_read(file, text, sizeof(text));
    int ret = got >= 0 ? 1 : errno == ENOENT ? 0 : -1;
    if (ret < 0)
        mail_storage_set_critical(storage, "%s", fs_file_last_error(file));
    else if (ret > 0 && !decode({text, static_cast<size_t>(got)}, owner_r)) {
        mail_storage_set_critical(storage, "%s is damaged", fs_file_path(file));
        ret = -1;
    }
    fs_file_deinit(&file);
    return ret;
}

int write_object(struct mail_storage *storage, const CboxOwner &owner) {
    std::string text = encode(owner);
    struct fs_file *file = open_object(storage, int(FS_OPEN_MODE_REPLACE) | int(FS_OPEN_FLAG_FSYNC));
    int ret = fs_write(file, text.data(), text.size());
    if (ret < 0) mail_storage_set_critical(storage, "%s", fs_file_last_error(file));
    fs_file_deinit(&file);
    return ret;
}

// The object first, and the file as proof that it is ours. `pending` remembers that nobody's stood there before.
int write_both(struct mail_storage *storage, const CboxOwner &owner) {
    if (cbox_control_write(storage, pending_name, encode(owner), my_pid) < 0 || write_object(storage, owner) < 0)
        return -1;
    std::string dir = cbox_control_dir(storage);
    if (rename((dir + "/" + pending_name).c_str(), (dir + "/" + owner_name).c_str()) == 0 || errno == ENOENT) return 0;
    mail_storage_set_critical(storage, "rename(%s/%s) failed: %m", dir.c_str(), pending_name);
    return -1;
}

bool several(const CboxOwner &owner) { return owner.store.find(' ') != std::string::npos; }

// `local` and the object as they are. What ought to be written, if anything.
std::optional<CboxOwner> judge(struct mail_storage *storage, const CboxOwner &wanted) {
    CboxOwner object;
    std::string pending;
    int ret = read_object(storage, &object);
    if (ret < 0) return {};
    if (ret == 0) return wanted;
    if (several(object)) return {};
    // A log decides whose turn it is; without one the first keeps it, and a second makes that nobody sweeps.
    if (wanted.epoch > object.epoch || (wanted.epoch > 0 && wanted == object)) return wanted;
    if (wanted.epoch > 0 || object.epoch > 0) return {};
    if (object.store != wanted.store) return CboxOwner{object.store + " " + wanted.store, 0};
    if (cbox_control_read(storage, pending_name, &pending) > 0) return wanted;
    return {};
}

} // namespace

int cbox_standing(struct mail_storage *storage, uint64_t *epoch_r) {
    const auto *cbox = cbox_storage(storage);
    *epoch_r = 0;
    if (cbox->callout != nullptr && cbox->callout->standing != nullptr) {
        struct mail_namespace *inbox = mail_namespace_find_inbox(storage->user->namespaces);
        int ret = cbox->callout->standing(cbox->callout_context, inbox->list, epoch_r);
        if (ret < 0) mail_storage_copy_list_error(storage, inbox->list);
        return ret;
    }
    std::string path = cbox_control_dir(storage) + "/state";
    if (access(path.c_str(), F_OK) < 0 && errno == ENOENT) return 0;
    mail_storage_set_error(storage, MAIL_ERROR_NOTPOSSIBLE,
                           "the account has a replica, but the mail plugin replica is not loaded: add it to "
                           "mail_plugins");
    return -1;
}

void cbox_owner_note(struct mailbox *box) {
    struct mail_storage *storage = box->storage;
    auto *inside = cbox_storage_inside(storage);
    if (inside->owner_noted) return;
    inside->owner_noted = true;
    CboxOwner wanted{this_store(storage), 0}, local;
    mail_storage_last_error_push(storage);
    int standing = cbox_standing(storage, &wanted.epoch), known = standing < 0 ? -1 : read_local(storage, &local);
    if (known == 0 || (known > 0 && standing > 0 && local != wanted))
        if (auto owner = judge(storage, wanted))
            (void)(several(*owner) ? write_object(storage, *owner) : write_both(storage, *owner));
    mail_storage_last_error_pop(storage);
}

int cbox_owner_check(struct mail_storage *storage, uint64_t epoch) {
    CboxOwner object, local, wanted{this_store(storage), epoch};
    int ret = read_object(storage, &object);
    if (ret <= 0) return ret;
    int known = read_local(storage, &local);
    if (known < 0) return -1;
    if (known > 0 && object == local && object.store == wanted.store && (epoch == 0 || object.epoch == epoch)) return 1;
    const char *why = several(object)                ? "more than one store has saved mail to it"
                      : object.store != wanted.store ? "its bodies belong to another store"
                      : known == 0                   ? "this mail root has no file `owner`, so its indexes may be lost"
                                                     : "the control dir's file `owner` names another store or epoch";
    mail_storage_set_error(
        storage, MAIL_ERROR_NOTPOSSIBLE,
        t_strdup_printf("not swept: %s (owner is '%s', this store is '%s'): if the indexes here name "
                        "all mail of the account, `doveadm cbox claim` makes this store the owner",
                        why, object.store.c_str(), wanted.store.c_str()));
    return -1;
}

int cbox_owner_claim(struct mail_storage *storage, uint64_t epoch) {
    return write_both(storage, {this_store(storage), epoch});
}

} // namespace replica
