// A mail plugin for tests of cbox alone: it answers the call-out in the agent's stead, as the files of plugin {
// callout_probe } say, and writes each call into its log, one JSON object a line. Files in that directory:
//   mode   `off` (as if no replica were set; also if missing), `number`, `refuse`, `doubt`,
//          `die` (the process dies after the number was given), `unclear` (clear? is refused)
//          `number-then-refuse`
//   hold   the first clear? that finds it renames it to `held` and waits until that is gone: a race can be made
//   forget  a UID: the next clear? wipes its record of cbox's, as a damage would
//   expunge  a UID: the next clear? writes a request to expunge it, as a foreign tool would
//   last   the last number given
//   log    what happened
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>
#include <cstdio>
#include <fstream>
#include <sstream>
#include "plugin/cbox/cbox.hpp"

namespace replica {
namespace {

std::string dir_of(struct mailbox *box) { return compat_setting(box->storage->user, "callout_probe"); }

std::string read_file(const std::string &path) {
    std::ifstream in(path);
    std::string text;
    std::getline(in, text);
    return text;
}

void log_line(const std::string &dir, const std::string &line) {
    int fd = open((dir + "/log").c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    std::string text = line + "\n";
    i_assert(fd != -1 && write(fd, text.data(), text.size()) == (ssize_t)text.size());
    close(fd);
}

uint64_t next_number(const std::string &dir) {
    int fd = open((dir + "/last").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    i_assert(fd != -1 && flock(fd, LOCK_EX) == 0);
    char text[32] = "";
    (void)!read(fd, text, sizeof(text) - 1);
    uint64_t next = strtoull(text, nullptr, 10) + 1;
    std::string out = std::to_string(next);
    i_assert(pwrite(fd, out.data(), out.size(), 0) == (ssize_t)out.size());
    close(fd);
    return next;
}

std::string quoted(std::string_view text) {
    std::string out = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + '"';
}

template <class T, class F> std::string list(const std::vector<T> &items, F &&one) {
    std::string out = "[";
    for (const auto &item : items)
        out += (out.size() > 1 ? "," : "") + one(item);
    return out + "]";
}

std::string range(const UidRange &r) { return "[" + std::to_string(r.first) + "," + std::to_string(r.last) + "]"; }

std::string json(const Append &a) {
    std::ostringstream out;
    out << "{\"uid\":" << a.uid << ",\"guid\":" << quoted(to_hex(a.guid)) << ",\"blob\":" << quoted(to_hex(a.blob))
        << ",\"physical\":" << a.physical_size << ",\"virtual\":" << a.virtual_size << ",\"received\":" << a.received
        << ",\"saved\":" << a.saved << ",\"flags\":" << int(a.flags) << ",\"keywords\":" << list(a.keywords, quoted)
        << ",\"uidl\":" << quoted(a.pop3_uidl) << ",\"order\":" << a.pop3_order << "}";
    return out.str();
}

std::string json(const MailboxChange &c) {
    std::ostringstream out;
    out << "\"base\":" << c.base_modseq << ",\"modseq\":" << c.modseq << ",\"uid_validity\":" << c.uid_validity
        << ",\"next_uid\":" << c.next_uid << ",\"appends\":" << list(c.appends, [](const Append &a) { return json(a); })
        << ",\"flags\":"
        << list(c.flags,
                [](const FlagUpdate &f) {
                    return "[" + range(f.uids) + "," + std::to_string(f.add) + "," + std::to_string(f.remove) + "]";
                })
        << ",\"keywords\":"
        << list(c.keywords,
                [](const KeywordUpdate &k) {
                    return "[" + quoted((k.add ? "+" : "-") + k.keyword) + "," + list(k.uids, range) + "]";
                })
        << ",\"expunges\":"
        << list(c.expunges,
                [](const Expunge &e) { return "[" + std::to_string(e.uid) + "," + quoted(to_hex(e.guid)) + "]"; })
        << ",\"attributes\":"
        << list(c.attributes,
                [](const Attribute &a) {
                    return "[" + quoted((a.shared ? "s:" : "p:") + a.key) + "," +
                           (a.value ? quoted(*a.value) : "null") + "]";
                })
        << ",\"header\":[" << c.header.uid_validity << "," << c.header.min_next_uid << ","
        << c.header.min_highest_modseq << "]";
    return out.str();
}

std::string head(const char *event, struct mailbox *box) {
    return std::string("{\"event\":\"") + event + "\",\"pid\":" + std::to_string(getpid()) +
           ",\"user\":" + quoted(box->storage->user->username) + ",\"mailbox\":" + quoted(box->vname);
}

int refuse(struct mailbox *box) {
    mail_storage_set_error(box->storage, MAIL_ERROR_TEMP, "[UNAVAILABLE] Refused by the probe");
    return -1;
}

void hold(const std::string &dir) {
    std::string held = dir + "/held";
    if (rename((dir + "/hold").c_str(), held.c_str()) < 0) return;
    while (access(held.c_str(), F_OK) == 0)
        usleep(5000);
}

// What something that knows no cbox might do to a mail.
template <class Tamper> void tamper(const std::string &dir, const char *name, struct mailbox *box, Tamper &&how) {
    std::string path = dir + "/" + name;
    uint32_t seq, uid = static_cast<uint32_t>(strtoul(read_file(path).c_str(), nullptr, 10));
    if (uid == 0) return;
    i_unlink(path.c_str());
    struct mail_index_view *view = mail_index_view_open(box->index);
    auto *trans = mail_index_transaction_begin(view, static_cast<enum mail_index_transaction_flags>(0));
    if (mail_index_lookup_seq(view, uid, &seq)) how(trans, seq);
    i_assert(mail_index_transaction_commit(&trans) == 0);
    mail_index_view_close(&view);
}

int clear(void *, struct mailbox *box) {
    std::string dir = dir_of(box);
    log_line(dir, head("clear", box) + "}");
    tamper(dir, "expunge", box, [](auto *trans, uint32_t seq) { mail_index_expunge(trans, seq); });
    tamper(dir, "forget", box, [box](auto *trans, uint32_t seq) {
        const char nothing[64] = {};
        mail_index_update_ext(trans, seq, mail_index_ext_register(box->index, "cbox", 0, 64, 8), nothing, nullptr);
    });
    hold(dir);
    return read_file(dir + "/mode") == "unclear" ? refuse(box) : 0;
}

CalloutAnswer commit(void *, CboxPending &pending, Number *number_r) {
    std::string dir = dir_of(pending.box), mode = read_file(dir + "/mode");
    if (mode.empty() || mode == "off") return CalloutAnswer::not_replicated;
    if (mode == "number-then-refuse") {
        std::ofstream(dir + "/mode") << "refuse";
        mode = "number";
    }
    bool numbered = mode == "number" || mode == "die";
    if (numbered) *number_r = {1, next_number(dir)};
    log_line(dir, head("commit", pending.box) + ",\"mode\":" + quoted(mode) +
                      ",\"mark\":" + quoted(to_string(pending.mark.number)) +
                      ",\"unlogged\":" + (pending.mark.unlogged ? "true" : "false") +
                      ",\"number\":" + quoted(to_string(*number_r)) + "," + json(pending.describe(pending)) + "}");
    if (mode == "die") kill(getpid(), SIGKILL);
    if (numbered) return CalloutAnswer::numbered;
    refuse(pending.box);
    return mode == "doubt" ? CalloutAnswer::in_doubt : CalloutAnswer::refused;
}

void done(void *, struct mailbox *box, bool ok) {
    log_line(dir_of(box), head("done", box) + ",\"ok\":" + (ok ? "true}" : "false}"));
}

const CboxCallout probe_callout = {.clear = clear, .commit = commit, .done = done};

void storage_created(struct mail_storage *storage) {
    if (strcmp(storage->name, cbox_storage_name) != 0) return;
    if (compat_setting(storage->user, "callout_probe") == nullptr) return;
    reinterpret_cast<CboxStorage *>(storage)->callout = &probe_callout;
}

struct mail_storage_hooks hooks = {.mail_storage_created = storage_created};

} // namespace
} // namespace replica

extern "C" {
extern const char *const callout_probe_plugin_version;
const char *const callout_probe_plugin_version = DOVECOT_ABI_VERSION;
void callout_probe_plugin_init(struct module *module);
void callout_probe_plugin_deinit(void);
void callout_probe_plugin_init(struct module *module) { mail_storage_hooks_add(module, &replica::hooks); }
void callout_probe_plugin_deinit(void) { mail_storage_hooks_remove(&replica::hooks); }
}
