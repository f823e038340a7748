// The control dir: what this store is for the account, and the note that something was committed past the log.
#include "agentd/apply/file.hpp"
#include "agentd/apply/worker.hpp"
#include "plugin/replica/replica-control-dir.hpp"
#include <cstdio>

namespace replica {

namespace {

Result<void> write_durably(const std::string &dir, const std::string &name, const std::string &text) {
    std::string path = dir + "/" + name, fresh = path + ".new";
    {
        auto fd = UniqueFd::open(fresh, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (!fd) return fd.error();
        if (auto written = write_all(*fd, text, fresh); !written) return written;
        if (::fsync(fd->get()) < 0) return system_error("fsync", fresh);
    }
    if (::rename(fresh.c_str(), path.c_str()) < 0) return system_error("rename", path);
    return sync_directory(dir);
}

// 1 = something is unlogged, 0 = nothing, -1 = not known.
int anything_unlogged(Account &account) {
    auto facts = inspect(account, true);
    if (!facts) return -1;
    for (const ObjectState &object : facts->objects)
        if (object.mark.unlogged) return 1;
    return 0;
}

} // namespace

Result<void> write_role(Account &account, Role role, uint64_t epoch) {
    std::string dir = account.control_dir();
    if (account.mail_root().empty()) return Error{Code::invalid, "the account has no mail directory"};
    if (role == Role::none) {
        if (::unlink((dir + "/state").c_str()) < 0 && errno != ENOENT) return system_error("unlink", dir + "/state");
        return ::access(dir.c_str(), F_OK) < 0 ? Result<void>() : sync_directory(dir);
    }
    struct mailbox_list *list = account.inbox_namespace()->list;
    if (mailbox_list_mkdir_root(list, account.mail_root().c_str(), MAILBOX_LIST_PATH_TYPE_DIR) < 0)
        return list_error(list, "cannot make the mail directory");
    if (::mkdir(dir.c_str(), 0700) < 0 && errno != EEXIST) return system_error("mkdir", dir);
    if (auto synced = sync_directory(account.mail_root()); !synced) return synced;
    std::string line = "1 " + std::string(to_string(role)) + " " + std::to_string(epoch) + " " + current_boot() + "\n";
    return write_durably(dir, "state", line);
}

// The note steps aside first, so that one made meanwhile is not lost; it comes back unless nothing is unlogged.
void forget_unlogged(Account &account) {
    std::string note = account.control_dir() + "/unlogged", aside = note + ".checked";
    if (::rename(note.c_str(), aside.c_str()) < 0 && (errno != ENOENT || ::access(aside.c_str(), F_OK) < 0)) return;
    if (anything_unlogged(account) == 0)
        ::unlink(aside.c_str());
    else
        (void)::rename(aside.c_str(), note.c_str());
}

} // namespace replica
