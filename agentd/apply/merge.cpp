// A list snapshot: what the list has becomes what the snapshot says, merged by GUID.
#include "agentd/apply/lists.hpp"
#include <algorithm>
#include <set>

namespace replica {

namespace {

// Deeper names first, so that a directory is empty when its turn comes.
void deepest_first(std::vector<Listed> &listed) {
    std::stable_sort(listed.begin(), listed.end(),
                     [](const Listed &a, const Listed &b) { return a.name.size() > b.name.size(); });
}

std::set<Guid> guids_of(const std::vector<ListCreate> &mailboxes) {
    std::set<Guid> guids;
    for (const ListCreate &mailbox : mailboxes)
        guids.insert(mailbox.mailbox);
    guids.erase(Guid{});
    return guids;
}

} // namespace

Outcome ListChange::merge(const ListSnapshot &change) {
    Outcome outcome = remove_absent(change.mailboxes);
    if (outcome.verdict != Verdict::applied) return outcome;

    auto wanted = change.mailboxes;
    std::stable_sort(wanted.begin(), wanted.end(),
                     [](const ListCreate &a, const ListCreate &b) { return a.name.size() < b.name.size(); });
    std::set<Guid> guids = guids_of(wanted);
    for (const ListCreate &mailbox : wanted) {
        outcome = move_aside(mailbox, guids);
        if (outcome.verdict == Verdict::applied) outcome = place(mailbox);
        if (outcome.verdict != Verdict::applied) return outcome;
    }
    return subscribe_exactly(change.subscriptions);
}

Outcome ListChange::remove_absent(const std::vector<ListCreate> &wanted) {
    auto listed = list_mailboxes(where_);
    if (!listed) return Outcome::of(listed.error());
    std::set<Guid> guids = guids_of(wanted);
    std::set<MailboxName> names;
    for (const ListCreate &mailbox : wanted)
        names.insert(mailbox.name);

    deepest_first(*listed);
    for (const Listed &mailbox : *listed) {
        if (mailbox.guid.empty() ? names.contains(mailbox.name) : guids.contains(mailbox.guid)) continue;
        AllocatedBox box(where_.list, mailbox.vname);
        if (mailbox.guid.empty()) {
            where_.api->deleting_set(box, true);
            (void)mailbox_delete(box); // not, if something that is wanted is below it
            continue;
        }
        Mark mark;
        struct mailbox_status status;
        if (mailbox_open(box) < 0 || where_.api->mark_get(box, &mark) < 0 ||
            mailbox_get_status(box, STATUS_MESSAGES, &status) < 0)
            return Outcome::of(storage_error(box, "cannot open"));
        if (mark.unlogged || (mark.number.none() && status.messages > 0))
            return {Verdict::diverged, "the mailbox " + mailbox.vname + " has mails that the log does not have"};
        if (mark.number.none() && mailbox_is_any_inbox(box)) continue; // it becomes the wanted one
        account_.collections().drop(mailbox.guid);
        Outcome outcome = remove_box(box);
        if (outcome.verdict != Verdict::applied) return outcome;
    }
    return {};
}

// Another mailbox that is wanted too has the name as yet: out of the way, until its own turn.
Outcome ListChange::move_aside(const ListCreate &wanted, const std::set<Guid> &guids) {
    auto vname = vname_of(where_.ns, wanted.name);
    if (!vname) return Outcome::of(vname.error());
    AllocatedBox box(where_.list, *vname);
    enum mailbox_existence existence;
    struct mailbox_metadata metadata;
    if (mailbox_exists(box, false, &existence) < 0) return Outcome::of(storage_error(box, "cannot look for"));
    if (existence != MAILBOX_EXISTENCE_SELECT) return {};
    if (mailbox_get_metadata(box, MAILBOX_METADATA_GUID, &metadata) < 0)
        return Outcome::of(storage_error(box, "cannot open"));
    Guid occupant = Guid::from(metadata.guid);
    if (occupant == wanted.mailbox || !guids.contains(occupant)) return {};
    auto aside = vname_of(where_.ns, {"replica-aside-" + to_hex(occupant)});
    if (!aside) return Outcome::of(aside.error());
    return move(occupant, *vname, *aside);
}

Outcome ListChange::subscribe_exactly(const std::vector<MailboxName> &wanted) {
    auto now = list_subscriptions(where_);
    if (!now) return Outcome::of(now.error());
    std::set<MailboxName> have(now->begin(), now->end()), want(wanted.begin(), wanted.end());
    auto change_all = [&](const std::set<MailboxName> &names, const std::set<MailboxName> &but, bool subscribed) {
        for (const MailboxName &name : names) {
            if (but.contains(name)) continue;
            Outcome outcome = subscribe({name, subscribed});
            if (outcome.verdict != Verdict::applied) return outcome;
        }
        return Outcome{};
    };
    Outcome outcome = change_all(have, want, false);
    return outcome.verdict == Verdict::applied ? change_all(want, have, true) : outcome;
}

} // namespace replica
