// Mode apply: what the driver would tell the agent stays here. Only the applier's own calls change an object that has a
// mark.
#include "agentd/apply/accounts.hpp"

namespace replica {

namespace {

constexpr char refusal[] = "A replicated mailbox is changed by its log only";

int guard_clear(void *, struct mailbox *) { return 0; }
CalloutAnswer guard_commit(void *, CboxPending &pending, Number *) {
    if (pending.mark.number.none()) return CalloutAnswer::not_replicated;
    mail_storage_set_error(pending.box->storage, MAIL_ERROR_NOTPOSSIBLE, refusal);
    return CalloutAnswer::refused;
}
void guard_done(void *, struct mailbox *, bool) {}

const CboxCallout guard = {.clear = guard_clear, .commit = guard_commit, .done = guard_done};
bool guard_on = false;

void storage_created(struct mail_storage *storage) {
    if (guard_on && strcmp(storage->name, cbox_storage_name) == 0)
        reinterpret_cast<CboxStorage *>(storage)->callout = &guard;
}

const struct mail_storage_hooks hooks = {.mail_storage_created = storage_created};

} // namespace

void callout_guard_init() { mail_storage_hooks_add_internal(&hooks); }
void callout_guard_set(bool on) { guard_on = on; }

} // namespace replica
