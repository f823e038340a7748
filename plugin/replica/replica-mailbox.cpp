#include "plugin/replica/replica-plugin.hpp"

namespace replica {

namespace {

MODULE_CONTEXT_DEFINE_INIT(replica_mailbox_module, &mail_storage_module_register);

CboxStorage *cbox_of(struct mailbox *box) { return reinterpret_cast<CboxStorage *>(box->storage); }

int refuse(struct mailbox *box, const char *text) {
    mail_storage_set_error(box->storage, MAIL_ERROR_TEMP, text);
    return -1;
}

int object_of(struct mailbox *box, Object *object_r) {
    struct mailbox_metadata metadata;
    if (mailbox_get_metadata(box, MAILBOX_METADATA_GUID, &metadata) < 0) return -1;
    *object_r = list_object(box->list);
    object_r->mailbox = Guid::from(metadata.guid);
    return 0;
}

// All but a change of the GUID is an ordinary change of the mailbox: cbox calls out for it.
int mailbox_update_hook(struct mailbox *box, const struct mailbox_update *update) {
    auto &super = replica_mailbox(box)->module_ctx.super;
    if (our_storage(box->storage) == nullptr) return super.update_box(box, update);
    Standing standing = look(box->list, box->event);
    if (standing.kind == Standing::Kind::refused) return refuse(box, standing.user_error);
    if (standing.kind == Standing::Kind::source && !guid_128_is_empty(update->mailbox_guid)) {
        Object object;
        if (object_of(box, &object) < 0) return -1;
        if (object.mailbox != Guid::from(update->mailbox_guid)) {
            mail_storage_set_error(box->storage, MAIL_ERROR_NOTPOSSIBLE,
                                   "The GUID of a replicated mailbox cannot be changed.");
            return -1;
        }
    }
    return super.update_box(box, update);
}

std::string payload_of(CboxPending &pending) {
    if (pending.kind == ChangeKind::snapshot)
        return encode(SnapshotChange{cbox_of(pending.box)->api->snapshot_id(pending), pending.mark.unlogged});
    return encode(pending.describe(pending));
}

} // namespace

ReplicaMailbox *replica_mailbox(struct mailbox *box) {
    return static_cast<ReplicaMailbox *>(MODULE_CONTEXT(box, replica_mailbox_module));
}

void mailbox_hooks_set(struct mailbox *box) {
    if (our_storage(box->storage) == nullptr) return;
    struct mailbox_vfuncs *v = box->vlast;
    auto *replica = p_new(box->pool, ReplicaMailbox, 1);
    replica->module_ctx.super = *v;
    box->vlast = &replica->module_ctx.super;
    v->update_box = mailbox_update_hook;
    v->create_box = list_create_box;
    v->delete_box = list_delete_box;
    v->rename_box = list_rename_box;
    v->set_subscribed = list_set_subscribed;
    MODULE_CONTEXT_SET(box, replica_mailbox_module, replica);
    if (mailbox_is_autocreated(box)) list_note_autocreated(box->list, box->name);
}

int callout_clear(void *, struct mailbox *box) {
    Standing standing = look(box->list, box->event);
    if (standing.kind == Standing::Kind::refused) return refuse(box, standing.user_error);
    if (standing.kind == Standing::Kind::not_replicated) return 0;
    Object object;
    Mark mark;
    if (object_of(box, &object) < 0 || cbox_of(box)->api->mark_get(box, &mark) < 0) return -1;
    AgentClient &client = agent(box->storage->user);
    AgentReply reply = client.clear(account_name(box->list), object, mark, client.ack_timeout());
    return reply.reason == Reason::none ? 0 : refuse(box, refusal(box->event, reply));
}

CalloutAnswer callout_commit(void *, CboxPending &pending, Number *number_r) {
    struct mailbox *box = pending.box;
    Standing standing = look(box->list, box->event); // again: a replica may have been set up since
    if (standing.kind == Standing::Kind::refused) {
        refuse(box, standing.user_error);
        return CalloutAnswer::refused;
    }
    if (standing.kind == Standing::Kind::not_replicated) return CalloutAnswer::not_replicated;
    Change change;
    if (object_of(box, &change.object) < 0) return CalloutAnswer::refused;
    change.kind = pending.kind;
    change.payload = payload_of(pending);
    AgentReply reply = offer(box->list, pending.mark, std::move(change));
    if (reply.reason != Reason::none) {
        refuse(box, refusal(box->event, reply));
        return reply.in_doubt ? CalloutAnswer::in_doubt : CalloutAnswer::refused;
    }
    replica_mailbox(box)->ticket = reply.ticket;
    *number_r = reply.number;
    return CalloutAnswer::numbered;
}

void callout_done(void *, struct mailbox *box, bool ok) {
    agent(box->storage->user).done(replica_mailbox(box)->ticket, ok);
}

} // namespace replica
