// One account, open in this worker: its user, the namespaces that a replica covers, mailboxes by GUID.
// Thread: the process's only one. Owns: all that it hands out, until close or its own end.
// Fails: Result; Code::gone = not there, retry = may work later, anything else needs an administrator.
// Limits: mailboxes_max mailboxes are kept open, the least recently used one is closed.
#pragma once
#include "agentd/apply/collection.hpp"
#include "lib/base/result.hpp"
#include "plugin/cbox/cbox.hpp"
#include "plugin/compat/service.hpp"
#include <list>

namespace replica {

// A namespace that a replica covers: private, of cbox, LAYOUT=index.
struct Covered {
    struct mail_namespace *ns;
    struct mailbox_list *list;
    const CboxApi *api;
    CboxStorage *storage;
};

class Account {
public:
    static constexpr size_t mailboxes_max = 16;

    explicit Account(compat::OpenedUser opened);
    ~Account(); // with the user's context and rights active
    Account(const Account &) = delete;

    struct mail_user *user() const {
        return opened_.user;
    }
    struct mail_storage_service_user *service_user() const {
        return opened_.service_user;
    }
    const std::string &site_plugins() const { return opened_.site_plugins; }

    struct mail_namespace *inbox_namespace() const;
    Result<Covered> covered(const std::string &ns_prefix) const;
    static Result<Covered> covered(struct mail_namespace *ns); // the error says why it is not
    const std::string &mail_root() const { return mail_root_; }
    std::string control_dir() const { return mail_root_ + "/.replica"; }
    Result<Role> role() const; // what the control dir says now

    // An open mailbox, which stays ours. gone: no mailbox has this GUID.
    Result<struct mailbox *> mailbox(const Object &object);
    void close(const Object &object);
    void close_mailboxes();

    Collections &collections() { return collections_; }

private:
    struct Open {
        Object object;
        struct mailbox *box;
    };
    compat::OpenedUser opened_;
    std::string mail_root_;
    std::list<Open> open_; // most recently used first
    Collections collections_;
};

// A mailbox by its GUID, allocated and not opened: the caller's to free. gone: there is none.
Result<struct mailbox *> find_mailbox(struct mailbox_list *list, const Guid &guid);

Error storage_error(struct mailbox *box, std::string_view what);
Error list_error(struct mailbox_list *list, std::string_view what);
Verdict verdict_of(Code code);

} // namespace replica
