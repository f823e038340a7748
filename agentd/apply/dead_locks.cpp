// Lock files of Dovecot's (dotlocks) that a process left behind when it was killed. They hold the new content and not
// the process's id, so Dovecot itself waits until they are a minute old.
#include "agentd/apply/worker.hpp"
#include "agentd/apply/file.hpp"
#include <thread>

namespace replica {

namespace {

constexpr std::chrono::milliseconds look_again_after{5};

bool is_named(const UniqueFd &file, const std::string &path) {
    struct stat held, named;
    return ::fstat(file.get(), &held) == 0 && ::stat(path.c_str(), &named) == 0 && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
}

// Whoever holds such a lock has the file open; the kernel grants a write lease only on what nobody else has open.
// False: somebody holds it. Where no lease can be had (NFS), Dovecot's wait stays.
bool remove_if_dead(const std::string &lock) {
    auto file = UniqueFd::open(lock, O_RDONLY | O_NONBLOCK);
    if (!file) return true;
    if (::fcntl(file->get(), F_SETLEASE, F_WRLCK) < 0) return errno != EAGAIN;
    if (is_named(*file, lock) && ::unlink(lock.c_str()) == 0)
        i_warning("%s: removed: the process that made it died", lock.c_str());
    return true;
}

} // namespace

Outcome remove_dead_locks(const Account &account) {
    auto give_up_at = std::chrono::steady_clock::now() + std::chrono::milliseconds(lock_ms);
    for (auto *ns = account.user()->namespaces; ns != nullptr; ns = ns->next) {
        if (!Account::covered(ns)) continue;
        for (auto &path : compat::dotlocked_files(ns))
            while (!remove_if_dead(path + ".lock")) { // who is being killed closes the agent's socket first
                if (std::chrono::steady_clock::now() > give_up_at)
                    return {Verdict::retry, path + ".lock is held by another process"};
                std::this_thread::sleep_for(look_again_after);
            }
    }
    return {};
}

} // namespace replica
