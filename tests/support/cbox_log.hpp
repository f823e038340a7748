// Test support: the log of one account. It numbers each change at the call-out and keeps it, in a file if it has one.
// Thread: one. Fails: it ends the program, with the reason.
#pragma once
#include "lib/base/bytes.hpp"
#include "plugin/cbox/cbox.hpp"

namespace replica::test {

[[noreturn]] void fail(const std::string &why);

struct Caught { // a change as the log carries it
    Number number, previous;
    ChangeKind kind;
    std::string payload; // an encoded MailboxChange, or nothing
};

class Log {
public:
    ~Log();
    void keep_in(const char *path); // what stands there already is read first
    CboxCallout callout();

    std::vector<Caught> changes;
    uint64_t sequence = 1;
    bool doubt = false; // the log has the change, but the source is not told

private:
    static CalloutAnswer answer(void *context, CboxPending &pending, Number *number_r);
    void add(Caught caught);
    int fd_ = -1;
};

} // namespace replica::test
