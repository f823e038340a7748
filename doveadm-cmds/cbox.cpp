// The doveadm module of cbox: what `doveadm purge` would do of an account (`cbox unused`), and who is to do it (`cbox
// claim`). Thread: doveadm's only one.
#include "plugin/cbox/cbox.hpp"
#include "plugin/compat/doveadm.hpp"

namespace {

using namespace replica;

void print_found(void *, const Guid &blob, uint64_t since, const char *step) {
    doveadm_print(to_hex(blob).c_str());
    doveadm_print(unixdate2str(static_cast<time_t>(since)));
    doveadm_print(step);
}

CboxStorage *account_storage(struct mail_user *user) {
    for (struct mail_namespace *ns = user->namespaces; ns != nullptr; ns = ns->next)
        if (ns->type == MAIL_NAMESPACE_TYPE_PRIVATE && strcmp(ns->storage->name, cbox_storage_name) == 0)
            return reinterpret_cast<CboxStorage *>(ns->storage);
    return nullptr;
}

template <class Do> int run_with(struct doveadm_mail_cmd_context *ctx, struct mail_user *user, Do act) {
    CboxStorage *storage = account_storage(user);
    if (storage == nullptr) {
        i_error("the account's mail is not in cbox");
        ctx->exit_code = EX_DATAERR;
        return -1;
    }
    if (act(*storage) == 0) return 0;
    i_error("%s", mail_storage_get_last_internal_error(&storage->storage, nullptr));
    doveadm_mail_failed_storage(ctx, &storage->storage);
    return -1;
}

int run_unused(struct doveadm_mail_cmd_context *ctx, struct mail_user *user) {
    CboxSweep sweep;
    sweep.dry_run = true;
    sweep.found = print_found;
    return run_with(ctx, user, [&](CboxStorage &storage) { return storage.api->sweep(&storage.storage, sweep); });
}

int run_claim(struct doveadm_mail_cmd_context *ctx, struct mail_user *user) {
    return run_with(ctx, user, [](CboxStorage &storage) { return storage.api->claim(&storage.storage); });
}

struct doveadm_mail_cmd_context *alloc_unused() {
    auto *ctx = doveadm_mail_cmd_alloc(struct doveadm_mail_cmd_context);
    ctx->v.init = [](struct doveadm_mail_cmd_context *, auto...) { // 2.3 has the arguments, too
        for (const char *title : {"body", "since", "next"})
            doveadm_print_header_simple(title);
    };
    ctx->v.run = run_unused;
    doveadm_print_init(DOVEADM_PRINT_TYPE_TABLE);
    return ctx;
}

struct doveadm_mail_cmd_context *alloc_claim() {
    auto *ctx = doveadm_mail_cmd_alloc(struct doveadm_mail_cmd_context);
    ctx->v.run = run_claim;
    return ctx;
}

constexpr struct doveadm_cmd_param parameter(char option, const char *name, doveadm_cmd_param_t type) {
    return {.short_opt = option, .name = name, .type = type, .flags = CMD_PARAM_FLAG_NONE};
}
const struct doveadm_cmd_param parameters[] = {
    parameter('A', "all-users", CMD_PARAM_BOOL),     parameter('S', "socket-path", CMD_PARAM_STR),
    parameter('u', "user", CMD_PARAM_STR),           parameter('F', "user-file", CMD_PARAM_ISTREAM),
    parameter('\0', "trans-flags", CMD_PARAM_INT64), parameter('\0', nullptr, CMD_PARAM_BOOL),
};

void register_command(const char *name, struct doveadm_mail_cmd_context *(*alloc)()) {
    struct doveadm_cmd_ver2 command = {};
    command.mail_cmd = alloc;
    command.name = name;
    command.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX;
    command.parameters = parameters;
    doveadm_cmd_register_ver2(&command);
}

} // namespace

extern "C" {
const char *doveadm_cbox_plugin_version = DOVECOT_ABI_VERSION;
void doveadm_cbox_plugin_init(struct module *module);
void doveadm_cbox_plugin_deinit(void);

void doveadm_cbox_plugin_init(struct module *) {
    register_command("cbox unused", alloc_unused);
    register_command("cbox claim", alloc_claim);
}
void doveadm_cbox_plugin_deinit(void) {}
}
