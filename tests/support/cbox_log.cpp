#include <cstdio>
#include <fcntl.h>
#include <unistd.h>
#include "tests/support/cbox_log.hpp"

namespace replica::test {

namespace {

std::string read_all(int fd) {
    std::string all;
    char buffer[65536];
    for (ssize_t n; (n = read(fd, buffer, sizeof(buffer))) > 0;)
        all.append(buffer, static_cast<size_t>(n));
    return all;
}

std::string to_bytes(const Caught &caught) {
    std::string bytes;
    Writer out(bytes);
    out.number(caught.number);
    out.number(caught.previous);
    out.u8(static_cast<uint8_t>(caught.kind));
    out.blob(caught.payload);
    return bytes;
}

int clear_all(void *, struct mailbox *) { return 0; }
void forget_done(void *, struct mailbox *, bool) {}

} // namespace

void fail(const std::string &why) {
    fprintf(stderr, "FAILED: %s\n", why.c_str());
    _exit(1); // not through Dovecot, which takes it for a bug
}

Log::~Log() {
    if (fd_ >= 0) close(fd_);
}

void Log::keep_in(const char *path) {
    fd_ = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd_ < 0) fail(std::string("open ") + path);
    const std::string all = read_all(fd_);
    for (Reader in(all); !in.at_end();) {
        Caught caught;
        caught.number = in.number();
        caught.previous = in.number();
        caught.kind = static_cast<ChangeKind>(in.u8());
        caught.payload = in.blob();
        if (!in.ok()) fail(std::string(path) + " is cut short");
        sequence = caught.number.sequence;
        changes.push_back(std::move(caught));
    }
}

void Log::add(Caught caught) {
    const std::string bytes = to_bytes(caught);
    if (fd_ >= 0 && write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) fail("write the log");
    changes.push_back(std::move(caught));
}

CboxCallout Log::callout() { return {clear_all, answer, forget_done}; }

CalloutAnswer Log::answer(void *context, CboxPending &pending, Number *number_r) {
    auto *log = static_cast<Log *>(context);
    Caught caught{{1, ++log->sequence}, pending.mark.number, pending.kind, {}};
    if (pending.kind == ChangeKind::mailbox) {
        const MailboxChange &change = pending.describe(pending);
        caught.payload = encode(change);
        auto decoded = decode<MailboxChange>(caught.payload);
        if (!decoded || *decoded != change) fail("a change does not survive its codec");
    }
    *number_r = caught.number;
    log->add(std::move(caught));
    if (!log->doubt) return CalloutAnswer::numbered;
    mail_storage_set_error(pending.box->storage, MAIL_ERROR_TEMP, "[UNAVAILABLE] the test says so");
    return CalloutAnswer::in_doubt;
}

} // namespace replica::test
