#include "agentd/apply/lists.hpp"
#include <cstdio>
#include <unistd.h>

namespace replica {

namespace {

class ListLock {
public:
    explicit ListLock(struct mailbox_list *list) : list_(list), held_(mailbox_list_lock(list) == 0) {}
    ~ListLock() {
        if (held_) mailbox_list_unlock(list_);
    }
    ListLock(const ListLock &) = delete;
    bool held() const { return held_; }

private:
    struct mailbox_list *list_;
    bool held_;
};

Outcome decide(const Mark &mark, Role role, const Number &number, const Change &change) {
    Chain chain = judge_chain(mark, change.previous, number);
    if (change.kind == ChangeKind::list_snapshot && mark.number < number) {
        if (role == Role::source && mark.number == change.previous) chain = Chain::apply; // clears `unlogged`
        if (role == Role::destination && !mark.unlogged) chain = Chain::apply;            // heals, whatever was missed
    }
    switch (chain) {
    case Chain::apply:
        return {};
    case Chain::skip:
        return {Verdict::skipped, {}};
    case Chain::wanted:
        return {Verdict::wanted, "the mailbox list is at " + to_string(mark.number) + ", the change follows " +
                                     to_string(change.previous)};
    case Chain::diverged:
        break;
    }
    return {Verdict::diverged, "the mailbox list has changes that the log does not have, at " + to_string(mark.number)};
}

template <class T, class Step> Outcome step_with(const Change &change, Step step) {
    auto decoded = decode<T>(change.payload);
    if (!decoded) return {Verdict::failed, "a list change cannot be decoded: " + decoded.error().message};
    return step(*decoded);
}

Outcome take_step(ListChange &list, const Change &change) {
    switch (change.kind) {
    case ChangeKind::list_create:
        return step_with<ListCreate>(change, [&](auto &c) { return list.create(c); });
    case ChangeKind::list_delete:
        return step_with<ListDelete>(change, [&](auto &c) { return list.remove(c); });
    case ChangeKind::list_rename:
        return step_with<ListRename>(change, [&](auto &c) { return list.rename(c); });
    case ChangeKind::list_subscription:
        return step_with<ListSubscription>(change, [&](auto &c) { return list.subscribe(c); });
    case ChangeKind::list_snapshot:
        return step_with<ListSnapshot>(change, [&](auto &c) { return list.merge(c); });
    default:
        return {Verdict::failed,
                "a list change of kind " + std::to_string(int(change.kind)) + " is not known to this version"};
    }
}

} // namespace

Outcome apply_list(Account &account, Role role, const Number &number, const Change &change) {
    auto where = account.covered(change.object.ns_prefix);
    if (!where) return {Verdict::failed, where.error().message};
    ListLock lock(where->list);
    if (!lock.held()) {
        Error error = list_error(where->list, "cannot lock the mailbox list");
        return {error.code == Code::full ? Verdict::failed : Verdict::retry, error.message};
    }
    Mark mark;
    if (where->api->list_mark_get(where->list, &mark) < 0)
        return Outcome::of(list_error(where->list, "cannot read the list's mark"));
    Outcome outcome = decide(mark, role, number, change);
    if (outcome.verdict != Verdict::applied) return outcome;

    bool only_mark = change.kind == ChangeKind::list_snapshot && role == Role::source;
    if (!only_mark) {
        account.close_mailboxes(); // names and GUIDs may change
        ListChange list(account, *where, number);
        outcome = take_step(list, change);
        mailbox_guid_cache_refresh(where->list);
        if (outcome.verdict != Verdict::applied) return outcome;
    }
    if (where->api->list_mark_set(where->list, number) < 0)
        return Outcome::of(list_error(where->list, "cannot set the list's mark"));
    return outcome;
}

Outcome ListChange::create(const ListCreate &change) {
    Outcome outcome = place(change);
    if (outcome.verdict != Verdict::applied || change.mailbox.empty()) return outcome;
    return mark(change.mailbox);
}

Outcome ListChange::place(const ListCreate &wanted) {
    auto vname = vname_of(where_.ns, wanted.name);
    if (!vname) return Outcome::of(vname.error());
    if (!wanted.mailbox.empty()) {
        auto found = find_mailbox(where_.list, wanted.mailbox);
        if (!found && found.error().code != Code::gone) return Outcome::of(found.error());
        if (found) {
            AllocatedBox box(*found);
            std::string now = mailbox_get_vname(box);
            return now == *vname ? finish(box, wanted) : move(wanted.mailbox, now, *vname);
        }
    }
    AllocatedBox box(where_.list, *vname);
    enum mailbox_existence existence;
    if (mailbox_exists(box, false, &existence) < 0) return Outcome::of(storage_error(box, "cannot look for"));
    if (wanted.mailbox.empty() && existence != MAILBOX_EXISTENCE_NONE) return {};
    bool placed = false;
    if (existence == MAILBOX_EXISTENCE_SELECT) {
        Outcome outcome = clear_way(box, wanted, &placed);
        if (outcome.verdict != Verdict::applied || placed) return outcome;
    }
    return make(*vname, wanted);
}

// It has its name. If its maker died before it had an index, opening it makes one, with a UIDVALIDITY of its own.
Outcome ListChange::finish(struct mailbox *box, const ListCreate &wanted) {
    Mark mark;
    struct mailbox_status status;
    if (mailbox_open(box) < 0 || where_.api->mark_get(box, &mark) < 0 ||
        mailbox_get_status(box, static_cast<enum mailbox_status_items>(STATUS_UIDVALIDITY | STATUS_UIDNEXT), &status) <
            0)
        return Outcome::of(storage_error(box, "cannot open"));
    if (!mark.number.none() || status.uidnext > 1 || status.uidvalidity == wanted.uid_validity) return {};
    struct mailbox_update update = {};
    update.uid_validity = wanted.uid_validity;
    return mailbox_update(box, &update) < 0 ? Outcome::of(storage_error(box, "cannot update")) : Outcome{};
}

// The name is taken. An empty mailbox without a mark was nobody's yet: it goes, or, the INBOX, becomes the wanted one.
Outcome ListChange::clear_way(struct mailbox *box, const ListCreate &wanted, bool *placed_r) {
    Mark mark;
    struct mailbox_status status;
    if (mailbox_open(box) < 0 || where_.api->mark_get(box, &mark) < 0 ||
        mailbox_get_status(box, STATUS_MESSAGES, &status) < 0)
        return Outcome::of(storage_error(box, "cannot open"));
    if (!mark.number.none() || status.messages > 0)
        return {Verdict::diverged,
                std::string("another mailbox with mails or a mark has the name ") + mailbox_get_vname(box)};
    if (!mailbox_is_any_inbox(box)) return remove_box(box);

    struct mailbox_update update = {};
    memcpy(update.mailbox_guid, wanted.mailbox.bytes.data(), sizeof(update.mailbox_guid));
    update.uid_validity = wanted.uid_validity;
    *placed_r = true;
    return mailbox_update(box, &update) < 0 ? Outcome::of(storage_error(box, "cannot update")) : Outcome{};
}

Outcome ListChange::make(const std::string &vname, const ListCreate &wanted) {
    AllocatedBox box(where_.list, vname);
    struct mailbox_update update = {};
    memcpy(update.mailbox_guid, wanted.mailbox.bytes.data(), sizeof(update.mailbox_guid));
    update.uid_validity = wanted.uid_validity;
    bool directory = wanted.mailbox.empty();
    if (mailbox_create(box, directory ? nullptr : &update, directory) == 0) return {};
    bool exists = !directory && mailbox_get_last_mail_error(box) == MAIL_ERROR_EXISTS;
    if (exists && set_orphan_aside(wanted.mailbox)) return make(vname, wanted);
    return Outcome::of(storage_error(box, "cannot create"));
}

// The directory of a mailbox whose maker died before the list had its name: nobody ever saw it. Put aside, not removed.
bool ListChange::set_orphan_aside(const Guid &guid) {
    std::string root = mailbox_list_get_root_forced(where_.list, MAILBOX_LIST_PATH_TYPE_MAILBOX);
    std::string path = root + "/" + to_hex(guid), aside = path + ".unlisted-" + std::to_string(::getpid());
    return ::rename(path.c_str(), aside.c_str()) == 0;
}

Outcome ListChange::mark(const Guid &guid) {
    auto found = find_mailbox(where_.list, guid);
    if (!found) return Outcome::of(found.error());
    AllocatedBox box(*found);
    Mark mark;
    if (mailbox_open(box) < 0 || where_.api->mark_get(box, &mark) < 0)
        return Outcome::of(storage_error(box, "cannot open"));
    if (mark.number.none() && where_.api->mark_set(box, number_, false) < 0)
        return Outcome::of(storage_error(box, "cannot mark"));
    return {};
}

Outcome ListChange::remove(const ListDelete &change) {
    if (!change.mailbox.empty()) {
        account_.collections().drop(change.mailbox);
        auto found = find_mailbox(where_.list, change.mailbox);
        if (!found) return found.error().code == Code::gone ? Outcome{} : Outcome::of(found.error());
        return remove_box(AllocatedBox(*found));
    }
    auto vname = vname_of(where_.ns, change.name);
    if (!vname) return Outcome::of(vname.error());
    AllocatedBox box(where_.list, *vname);
    enum mailbox_existence existence;
    if (mailbox_exists(box, false, &existence) < 0) return Outcome::of(storage_error(box, "cannot look for"));
    return existence == MAILBOX_EXISTENCE_NOSELECT ? remove_box(box) : Outcome{};
}

Outcome ListChange::remove_box(struct mailbox *box) {
    where_.api->deleting_set(box, true);
    if (mailbox_delete(box) < 0 && mailbox_get_last_mail_error(box) != MAIL_ERROR_NOTFOUND)
        return Outcome::of(storage_error(box, "cannot delete"));
    return {};
}

Outcome ListChange::rename(const ListRename &change) {
    auto to = vname_of(where_.ns, change.name);
    if (!to) return Outcome::of(to.error());
    if (!change.mailbox.empty()) {
        auto found = find_mailbox(where_.list, change.mailbox);
        if (!found && found.error().code == Code::gone)
            return {Verdict::wanted, "the list lacks a mailbox that was renamed"};
        if (!found) return Outcome::of(found.error());
        AllocatedBox box(*found);
        std::string now = mailbox_get_vname(box);
        return now == *to ? Outcome{} : move(change.mailbox, now, *to);
    }
    auto from = vname_of(where_.ns, change.old_name);
    if (!from) return Outcome::of(from.error());
    AllocatedBox box(where_.list, *from);
    enum mailbox_existence existence;
    if (mailbox_exists(box, false, &existence) < 0) return Outcome::of(storage_error(box, "cannot look for"));
    return existence == MAILBOX_EXISTENCE_NOSELECT ? move({}, *from, *to) : Outcome{};
}

Outcome ListChange::move(const Guid &guid, const std::string &from, const std::string &to) {
    AllocatedBox source(where_.list, from), target(where_.list, to);
    enum mailbox_existence existence;
    if (mailbox_exists(target, false, &existence) < 0) return Outcome::of(storage_error(target, "cannot look for"));
    if (existence == MAILBOX_EXISTENCE_SELECT) {
        bool placed = false;
        if (mailbox_is_any_inbox(target)) return {Verdict::diverged, "the INBOX is in the way of a renamed mailbox"};
        Outcome outcome = clear_way(target, {guid, {}, 0}, &placed);
        if (outcome.verdict != Verdict::applied) return outcome;
    }
    AllocatedBox fresh(where_.list, to);
    if (mailbox_rename(source, fresh) < 0) return Outcome::of(storage_error(source, "cannot rename"));
    return {};
}

Outcome ListChange::subscribe(const ListSubscription &change) {
    auto vname = vname_of(where_.ns, change.name);
    if (!vname) return Outcome::of(vname.error());
    AllocatedBox box(where_.list, *vname);
    if (mailbox_set_subscribed(box, change.subscribed) < 0)
        return Outcome::of(storage_error(box, "cannot change the subscription of"));
    return {};
}

} // namespace replica
