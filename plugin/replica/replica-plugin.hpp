// The mail plugin `replica`: what its files share. It answers cbox's call-out, does the same for the mailbox lists, and
// speaks to the agent. Accounts without a control dir pay one look at it and nothing else. Thread: Dovecot's only one.
// Fails: as Dovecot does, int -1 with the error set on the storage or list.
#pragma once
#include "plugin/replica/replica-agent-client.hpp"
#include "plugin/replica/replica-control-dir.hpp"
#include "plugin/cbox/cbox.hpp"

namespace replica {

// --- replica-account.cpp: whose account it is, and what its control dir says ---

extern const CboxCallout replica_callout;

// The driver's storage, if it is cbox and we answer its call-out (the apply worker answers for itself: no hook acts
// there).
CboxStorage *our_storage(struct mail_storage *storage);
// The namespace's storage and list are what a replica covers: private, cbox, LAYOUT=index.
bool is_covered(struct mailbox_list *list);
Object list_object(struct mailbox_list *list);
const char *account_name(struct mailbox_list *list);                  // of the owner
MailboxName components(struct mailbox_list *list, const char *vname); // below the namespace prefix

struct Standing {
    enum class Kind : uint8_t { not_replicated, source, refused } kind = Kind::not_replicated;
    const char *user_error = nullptr; // if refused
    uint64_t epoch = 0;               // if source
};
// Reads the control dir. What it refuses has been logged.
Standing look(struct mailbox_list *list, struct event *event);
void account_opened(struct mail_namespace *namespaces); // the check of the boot, and "clear?" for the lists

AgentClient &agent(struct mail_user *user); // one for the process, made when first needed
void agent_close();
// Under the object's lock: the change offered to the agent. An `unlogged` object takes none before its SNAPSHOT: a
// change in doubt on top of what no log has could not be rolled forward.
AgentReply offer(struct mailbox_list *list, const Mark &mark, Change change);
// The sentence for the client, beginning with a response code; the detail goes to the log, once.
const char *refusal(struct event *event, const AgentReply &reply);

int callout_standing(void *context, struct mailbox_list *list, uint64_t *epoch_r);

// --- replica-mailbox.cpp ---

struct ReplicaMailbox {
    union mailbox_module_context module_ctx;
    Ticket ticket; // of the commit under way
};
ReplicaMailbox *replica_mailbox(struct mailbox *box);
void mailbox_hooks_set(struct mailbox *box);

int callout_clear(void *context, struct mailbox *box);
CalloutAnswer callout_commit(void *context, CboxPending &pending, Number *number_r);
void callout_done(void *context, struct mailbox *box, bool ok);

// --- replica-list.cpp ---

void list_hooks_set(struct mailbox_list *list);
void list_note_autocreated(struct mailbox_list *list, const char *name); // Dovecot makes it when it is missed
CalloutAnswer callout_list_commit(void *context, struct mailbox_list *list, ChangeKind kind, const Guid &subject,
                                  std::string payload, Number *number_r);
void callout_list_done(void *context, struct mailbox_list *list, bool ok);

int list_create_box(struct mailbox *box, const struct mailbox_update *update, bool directory);
int list_delete_box(struct mailbox *box);
int list_rename_box(struct mailbox *src, struct mailbox *dest);
int list_set_subscribed(struct mailbox *box, bool set);

} // namespace replica
