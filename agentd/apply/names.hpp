// Names of mailboxes: components on the wire, Dovecot's vname here. And what a list holds now.
// Thread: the process's only one. Fails: Result.
#pragma once
#include "agentd/apply/account.hpp"

namespace replica {

Result<std::string> vname_of(struct mail_namespace *ns, const MailboxName &name); // invalid: no name here
MailboxName name_of(struct mail_namespace *ns, std::string_view vname);

struct Listed {
    Guid guid; // none: a directory, made as such or left without anything below it
    MailboxName name;
    std::string vname;
    uint32_t uid_validity = 0;
};
Result<std::vector<Listed>> list_mailboxes(const Covered &where);
Result<std::vector<MailboxName>> list_subscriptions(const Covered &where);

// A mailbox that may not exist, freed at the end.
class AllocatedBox {
public:
    AllocatedBox(struct mailbox_list *list, const std::string &vname)
        : box_(mailbox_alloc(list, vname.c_str(), MAILBOX_FLAG_IGNORE_ACLS)) {}
    explicit AllocatedBox(struct mailbox *box) : box_(box) {}
    AllocatedBox(const AllocatedBox &) = delete;
    ~AllocatedBox() { mailbox_free(&box_); }
    struct mailbox *get() const {
        return box_;
    }
    operator struct mailbox *() const { return box_; }

private:
    struct mailbox *box_;
};

} // namespace replica
