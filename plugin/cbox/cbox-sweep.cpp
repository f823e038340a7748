// The sweep of one account: a blob that no index names is noted; still so after the grace, condemned; and after the
// grace once more, deleted. What a killed sweep has done stands, and the next one goes on.
#include <sys/file.h>
#include <unistd.h>
#include <algorithm>
#include "plugin/cbox/cbox-sweep.hpp"
#include "plugin/compat/settings.hpp"

namespace replica {

namespace {

constexpr size_t noted_max = 250000; // under way at once, in an account: 6 MB; the rest comes after them
constexpr uint64_t keep_least = 24 * 3600;
constexpr time_t progress_seconds = 5;

int refuse(struct mail_storage *storage, const std::string &why) {
    mail_storage_set_error(storage, MAIL_ERROR_NOTPOSSIBLE, ("not swept: " + why).c_str());
    return -1;
}

// The storage that stands for the account: of its first namespace with bodies.
struct mail_storage *account_storage(struct mail_user *user) {
    for (struct mail_namespace *ns = user->namespaces; ns != nullptr; ns = ns->next)
        if (cbox_holds_bodies(ns)) return ns->storage;
    return nullptr;
}

// One at a time for an account: its lists of blobs have one writer.
class Alone {
public:
    explicit Alone(const std::string &dir) {
        if (mkdir_parents(dir.c_str(), 0700) == 0 || errno == EEXIST)
            fd_ = open((dir + "/sweep.lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        locked_ = fd_ != -1 && flock(fd_, LOCK_EX | LOCK_NB) == 0;
    }
    Alone(const Alone &) = delete;
    ~Alone() { i_close_fd(&fd_); }
    bool locked() const { return locked_; }

private:
    int fd_ = -1;
    bool locked_ = false;
};

class Sweep {
public:
    Sweep(struct mail_storage *storage, CboxSweep &out) : storage_(storage), cbox_(cbox_storage(storage)), out_(out) {}
    int run();

private:
    int may_sweep(); // 1, 0: there is nothing to sweep, -1
    int same_bodies();
    int read();
    int walk();
    int list(const std::string &path, int flags, const std::function<void(const char *)> &each);
    int walk_folder(const std::string &folder);
    void judge(const Guid &blob);
    bool is_due(uint64_t since) const { return since + grace_ <= now_; }
    void tell(const Guid &blob, uint64_t since, const char *step);
    int delete_blobs(const std::string &folder);
    int write();
    void progress();

    struct mail_storage *storage_;
    CboxStorage *cbox_;
    CboxSweep &out_;
    uint64_t grace_ = 0, now_ = static_cast<uint64_t>(ioloop_time), epoch_ = 0;
    CboxReferences references_;
    CboxBlobList candidates_, condemned_; // as they were
    CboxBlobList candidates_now_;
    std::vector<Guid> condemn_, release_, delete_; // delete_: of the folder under way
    std::vector<bool> present_;                    // of condemned_
    time_t told_ = ioloop_time;
};

// All namespaces' bodies are in one place, under one prefix.
int Sweep::same_bodies() {
    for (struct mail_namespace *ns = storage_->user->namespaces; ns != nullptr; ns = ns->next) {
        if (!cbox_holds_bodies(ns)) continue;
        const auto *other = cbox_storage(ns->storage);
        if (other->account_id != cbox_->account_id || strcmp(other->fs_settings, cbox_->fs_settings) != 0)
            return refuse(storage_, std::string("namespace '") + ns->prefix + "' keeps its bodies elsewhere");
    }
    return 0;
}

int Sweep::may_sweep() {
    auto settings = user_settings(storage_->user);
    if (!settings) return refuse(storage_, settings.error().message);
    grace_ = static_cast<uint64_t>(std::chrono::ceil<std::chrono::seconds>(settings->blob_grace).count());
    int standing = cbox_standing(storage_, &epoch_);
    if (standing < 0 || same_bodies() < 0) return -1;
    if (standing > 0) return refuse(storage_, "the bodies of an account with a replica are not deleted yet");
    int owner = cbox_owner_check(storage_, epoch_);
    if (owner != 0) return owner;
    bool bodies = false;
    if (list(to_hex(cbox_->account_id), FS_ITER_FLAG_DIRS, [&](const char *) { bodies = true; }) < 0) return -1;
    return bodies ? refuse(storage_, "its bodies have no owner: the next mail that is saved names one") : 0;
}

// The lists first: what they condemn was condemned before the indexes are read.
int Sweep::read() {
    if (cbox_candidates_read(storage_, &candidates_) < 0 || cbox_condemned_read(storage_, &condemned_) < 0) return -1;
    present_.resize(condemned_.size());
    return references_.read(storage_, epoch_ > 0);
}

void Sweep::progress() {
    if (time(nullptr) < told_ + progress_seconds) return;
    told_ = time(nullptr);
    e_info(storage_->event, "cbox sweep: looked at %" PRIu64 " bodies, %" PRIu64 " deleted", out_.blobs, out_.deleted);
}

int Sweep::list(const std::string &path, int flags, const std::function<void(const char *)> &each) {
    const char *error;
    if (cbox_each_name(cbox_, storage_->event, path, flags, each, &error) == 0) return 0;
    mail_storage_set_critical(storage_, "cbox sweep: %s", error);
    return -1;
}

int Sweep::walk() {
    std::vector<std::string> folders;
    std::string account = to_hex(cbox_->account_id);
    int ret = list(account, FS_ITER_FLAG_DIRS, [&](const char *name) {
        if (strlen(name) == 2) folders.emplace_back(name);
    });
    for (const auto &folder : folders) {
        if (ret == 0) ret = walk_folder(account + "/" + folder);
        progress();
    }
    return ret;
}

int Sweep::walk_folder(const std::string &folder) {
    delete_.clear();
    int ret = list(folder, 0, [&](const char *name) {
        guid_128_t blob;
        if (strlen(name) == 2 * sizeof(blob) && guid_128_from_string(name, blob) == 0) judge(Guid::from(blob));
    });
    return ret < 0 ? -1 : delete_blobs(folder);
}

void Sweep::tell(const Guid &blob, uint64_t since, const char *step) {
    if (out_.found != nullptr) out_.found(out_.context, blob, since, step);
}

void Sweep::judge(const Guid &blob) {
    out_.blobs++;
    const CboxListed *condemned = cbox_blob_list_find(condemned_, blob);
    const CboxListed *noted = condemned != nullptr ? nullptr : cbox_blob_list_find(candidates_, blob);
    if (condemned != nullptr) present_[static_cast<size_t>(condemned - condemned_.data())] = true;
    if (references_.has(blob)) {
        if (condemned != nullptr) release_.push_back(blob); // a commit was faster
    } else if (condemned != nullptr && is_due(condemned->since)) {
        delete_.push_back(blob);
        tell(blob, condemned->since, "delete");
    } else if (condemned != nullptr || (noted != nullptr && !is_due(noted->since))) {
        if (noted != nullptr) candidates_now_.push_back(*noted);
        out_.waiting++;
        tell(blob, condemned != nullptr ? condemned->since : noted->since, "wait");
    } else if (noted != nullptr) {
        condemn_.push_back(blob);
        out_.condemned++;
        tell(blob, noted->since, "condemn");
    } else if (candidates_now_.size() + condemn_.size() + condemned_.size() < noted_max) {
        candidates_now_.push_back({blob, now_});
        out_.noted++;
        tell(blob, now_, "note");
    }
}

int Sweep::delete_blobs(const std::string &folder) {
    if (delete_.empty() || out_.dry_run) return 0;
    if (cbox_owner_check(storage_, epoch_) <= 0) return -1;
    for (const Guid &blob : delete_) {
        std::string path = folder + "/" + to_hex(blob);
        struct fs_file *file = fs_file_init_with_event(cbox_->fs, storage_->event, path.c_str(), FS_OPEN_MODE_READONLY);
        int ret = fs_delete(file) < 0 && errno != ENOENT ? -1 : 0;
        if (ret < 0) mail_storage_set_critical(storage_, "cbox sweep: %s", fs_file_last_error(file));
        fs_file_deinit(&file);
        if (ret < 0) return -1;
        out_.deleted++;
    }
    return 0;
}

// Condemned first: a candidate that is in both lists after a crash is condemned.
int Sweep::write() {
    // The name of what was deleted stays for as long as anyone may still have it in hand.
    for (size_t i = 0; i < condemned_.size(); i++)
        if (!present_[i] && condemned_[i].since + 2 * std::max(grace_, keep_least) <= now_)
            release_.push_back(condemned_[i].blob);
    std::ranges::sort(condemn_);
    std::ranges::sort(release_);
    std::ranges::sort(candidates_now_);
    if (out_.dry_run) return 0;
    if (!condemn_.empty() || !release_.empty()) {
        struct mailbox_list *list = mail_namespace_find_inbox(storage_->user->namespaces)->list;
        if (cbox_owner_check(storage_, epoch_) <= 0) return -1;
        if (mailbox_list_lock(list) < 0) {
            mail_storage_copy_list_error(storage_, list);
            return -1;
        }
        int ret = cbox_condemned_change(storage_, condemn_, release_);
        mailbox_list_unlock(list);
        if (ret < 0) return -1;
    }
    return candidates_now_ == candidates_ ? 0 : cbox_candidates_write(storage_, candidates_now_);
}

int Sweep::run() {
    if (int ret = may_sweep(); ret <= 0) return ret;
    Alone alone(cbox_control_dir(storage_));
    if (!alone.locked()) return refuse(storage_, "another sweep of this account is under way");
    if (read() < 0) return -1;
    out_.mails = references_.mails();
    if (walk() < 0 || write() < 0) return -1;
    e_info(storage_->event,
           "cbox sweep: %" PRIu64 " mails, %" PRIu64 " bodies: %" PRIu64 " noted, %" PRIu64 " condemned, %" PRIu64
           " deleted, %" PRIu64 " wait%s",
           out_.mails, out_.blobs, out_.noted, out_.condemned, out_.deleted, out_.waiting,
           out_.dry_run ? " (dry run: nothing was done)" : "");
    return 0;
}

} // namespace

int cbox_sweep(struct mail_storage *storage, CboxSweep &sweep) { return Sweep(storage, sweep).run(); }

// Dovecot asks each namespace; the account is swept once.
int cbox_purge(struct mail_storage *storage) {
    CboxSweep sweep;
    return storage == account_storage(storage->user) ? cbox_sweep(storage, sweep) : 0;
}

int cbox_claim(struct mail_storage *storage) {
    uint64_t epoch;
    return cbox_standing(storage, &epoch) < 0 ? -1 : cbox_owner_claim(storage, epoch);
}

} // namespace replica
