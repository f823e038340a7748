// A list snapshot: what the list has becomes what the snapshot says, merged by GUID.
#include "agentd/apply/lists.hpp"
#include <algorithm>
#include <set>

namespace replica {

namespace {

const std::string aside_prefix = "replica-aside-"; // only while the list lock is held

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
    outcome = remove_directories(change.mailboxes);
    return outcome.verdict == Verdict::applied ? subscribe_exactly(change.subscriptions) : outcome;
}

Outcome ListChange::remove_absent(const std::vector<ListCreate> &wanted) {
    auto listed = list_mailboxes(where_);
    if (!listed) return Outcome::of(listed.error());
    std::set<Guid> guids = guids_of(wanted);
    for (const Listed &mailbox : *listed) {
        if (mailbox.guid.empty() || guids.contains(mailbox.guid)) continue;
        AllocatedBox box(where_.list, mailbox.vname);
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

// Directories with nothing below them, until there are only wanted ones: one that goes may leave another such above it.
Outcome ListChange::remove_directories(const std::vector<ListCreate> &wanted) {
    std::set<MailboxName> names;
    for (const ListCreate &mailbox : wanted)
        names.insert(mailbox.name);
    for (bool removed = true; removed;) {
        removed = false;
        auto listed = list_mailboxes(where_);
        if (!listed) return Outcome::of(listed.error());
        for (const Listed &directory : *listed) {
            if (!directory.guid.empty() || names.contains(directory.name)) continue;
            AllocatedBox box(where_.list, directory.vname);
            removed = mailbox_delete(box) == 0 || removed; // not, if something is below it
        }
    }
    return {};
}

// What has the name as yet goes out of the way: another mailbox that is wanted too, until its own turn, or a directory
// with the mailboxes below it, which leave it at theirs.
Outcome ListChange::move_aside(const ListCreate &wanted, const std::set<Guid> &guids) {
    auto vname = vname_of(where_.ns, wanted.name);
    if (!vname) return Outcome::of(vname.error());
    AllocatedBox box(where_.list, *vname);
    enum mailbox_existence existence;
    if (mailbox_exists(box, false, &existence) < 0) return Outcome::of(storage_error(box, "cannot look for"));
    if (existence == MAILBOX_EXISTENCE_NOSELECT && !wanted.mailbox.empty())
        return leave_directory(wanted.mailbox, *vname);
    if (existence != MAILBOX_EXISTENCE_SELECT) return {};

    struct mailbox_metadata metadata;
    if (mailbox_get_metadata(box, MAILBOX_METADATA_GUID, &metadata) < 0)
        return Outcome::of(storage_error(box, "cannot open"));
    Guid occupant = Guid::from(metadata.guid);
    if (occupant == wanted.mailbox || !guids.contains(occupant)) return {};
    auto aside = vname_of(where_.ns, {aside_prefix + to_hex(occupant)});
    return aside ? move(occupant, *vname, *aside) : Outcome::of(aside.error());
}

// `directory` is the name that the mailbox gets: it may itself stand below it.
Outcome ListChange::leave_directory(const Guid &guid, const std::string &directory) {
    auto found = find_mailbox(where_.list, guid);
    if (!found)
        return found.error().code == Code::gone ? Outcome{} : Outcome::of(found.error()); // made anew in its place
    AllocatedBox mailbox(*found);
    auto aside = vname_of(where_.ns, {aside_prefix + to_hex(guid)});
    auto aside_directory = vname_of(where_.ns, {aside_prefix + to_hex(guid) + "-below"});
    if (!aside || !aside_directory) return Outcome::of(aside ? aside_directory.error() : aside.error());
    Outcome outcome = move(guid, mailbox_get_vname(mailbox), *aside);
    if (outcome.verdict != Verdict::applied) return outcome;
    AllocatedBox rest(where_.list, directory);
    enum mailbox_existence existence;
    if (mailbox_exists(rest, false, &existence) < 0) return Outcome::of(storage_error(rest, "cannot look for"));
    return existence == MAILBOX_EXISTENCE_NONE ? Outcome{} : move({}, directory, *aside_directory);
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
