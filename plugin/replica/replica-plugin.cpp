#include "plugin/replica/replica-plugin.hpp"

namespace replica {

const CboxCallout replica_callout = {
    .clear = callout_clear,
    .commit = callout_commit,
    .done = callout_done,
    .list_commit = callout_list_commit,
    .list_done = callout_list_done,
    .standing = callout_standing,
};

namespace {

// Another driver's storage is none of our business: conversion tools open both.
void storage_created(struct mail_storage *storage) {
    if (strcmp(storage->name, cbox_storage_name) != 0) return;
    auto *cbox = reinterpret_cast<CboxStorage *>(storage);
    if (cbox->api->version == cbox_api_version && cbox->callout == nullptr) cbox->callout = &replica_callout;
}

const struct mail_storage_hooks hooks = {
    .mail_namespaces_created = account_opened,
    .mail_storage_created = storage_created,
    .mailbox_list_created = list_hooks_set,
    .mailbox_allocated = mailbox_hooks_set,
};

} // namespace

} // namespace replica

extern "C" {

const char *replica_plugin_version = DOVECOT_ABI_VERSION;
const char *replica_plugin_dependencies[] = {"cbox", nullptr};

void replica_plugin_init(struct module *module) { mail_storage_hooks_add(module, &replica::hooks); }

void replica_plugin_deinit(void) {
    mail_storage_hooks_remove(&replica::hooks);
    replica::agent_close();
}

} // extern "C"
