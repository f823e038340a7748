// Changes of a mailbox list, applied under its lock. Each states its outcome, so that applying twice is harmless.
// Promises: no mailbox with mails that the log does not know of is removed or renamed over: that is `diverged`.
// Fails: by verdict; `text` says why.
#pragma once
#include "agentd/apply/names.hpp"
#include <set>

namespace replica {

struct Outcome {
    Verdict verdict = Verdict::applied;
    std::string text;
    static Outcome of(const Error &error) { return {verdict_of(error.code), error.message}; }
};

// A change of one list kind. A list_snapshot leaves what it creates without a mark: wanted.
Outcome apply_list(Account &account, Role role, const Number &number, const Change &change);

// The steps, under the list lock.
class ListChange {
public:
    ListChange(Account &account, const Covered &where, const Number &number)
        : account_(account), where_(where), number_(number) {}
    Outcome create(const ListCreate &change); // with this change's number as the first mark
    Outcome remove(const ListDelete &change);
    Outcome rename(const ListRename &change);
    Outcome subscribe(const ListSubscription &change);
    Outcome merge(const ListSnapshot &change);

private:
    Outcome place(const ListCreate &wanted); // it exists under that name, or why not
    Outcome clear_way(struct mailbox *box, const ListCreate &wanted, bool *placed_r);
    Outcome make(const std::string &vname, const ListCreate &wanted);
    Outcome finish(struct mailbox *box, const ListCreate &wanted);
    bool set_orphan_aside(const Guid &guid);
    Outcome mark(const Guid &guid);
    Outcome move(const Guid &guid, const std::string &from, const std::string &to);
    Outcome remove_box(struct mailbox *box);
    Outcome move_aside(const ListCreate &wanted, const std::set<Guid> &guids);
    Outcome leave_directory(const Guid &guid, const std::string &directory);
    Outcome remove_absent(const std::vector<ListCreate> &wanted);
    Outcome remove_directories(const std::vector<ListCreate> &wanted);
    Outcome subscribe_exactly(const std::vector<MailboxName> &wanted);

    Account &account_;
    const Covered &where_;
    Number number_;
};

} // namespace replica
