// The doveadm module: registers one command for each verb, asks the agent over its control socket, prints what it
// answers through Dovecot's formatters. Thread: doveadm's only one.
#include "doveadm-cmds/request.hpp"
#include "plugin/compat/doveadm.hpp"

namespace {

using namespace replica;

constexpr char module_name[] = "replica";

void fail(int exit_code, const char *text) {
    i_error("%s", text);
    doveadm_exit_code = exit_code;
}

// One line of an answer; false at its end.
bool answered(const char *line) {
    const char *const *fields = t_strsplit_tabescaped(line);
    if (fields[0] == nullptr) return true;
    const char *text = fields[1] == nullptr ? "" : fields[1];
    switch (fields[0][0]) {
    case 'H':
        for (const char *const *name = fields + 1; *name != nullptr; name++)
            doveadm_print_header_simple(*name);
        return true;
    case 'R':
        for (const char *const *value = fields + 1; *value != nullptr; value++)
            doveadm_print(*value);
        return true;
    case 'P':
        i_info("%s", text);
        return true;
    case '+':
        if (*text != '\0') {
            doveadm_print_header("result", "result", DOVEADM_PRINT_HEADER_FLAG_HIDE_TITLE);
            doveadm_print(text);
        }
        return false;
    case '-':
        fail(EX_DATAERR, text);
        return false;
    default:
        fail(EX_PROTOCOL,
             "the agent's answer is not understood: the doveadm module and agentd are of different releases");
        return false;
    }
}

void ask(const Words &request) {
    const char *path = t_strdup_printf("%s/replica-control", doveadm_settings->base_dir);
    int fd = net_connect_unix_with_retries(path, 1000);
    if (fd < 0)
        return fail(
            EX_TEMPFAIL,
            t_strdup_printf(
                "the agent does not answer: connect(%s): %m: is Dovecot running, with conf.d/90-replica.conf?", path));
    net_set_nonblock(fd, false);
    std::string line = "VERSION\treplica-control\t1\t0\n";
    for (auto &word : request)
        line += std::string(str_tabescape(word.c_str())) + "\t";
    line.back() = '\n';
    struct istream *input = i_stream_create_fd_autoclose(&fd, SIZE_MAX);
    bool ended = false;
    // also where it fails: an agent that is not in use answers at once and closes
    (void)write_full(i_stream_get_fd(input), line.data(), line.size());
    for (const char *answer; !ended && (answer = i_stream_read_next_line(input)) != nullptr;)
        ended = !answered(answer);
    i_stream_destroy(&input);
    if (!ended)
        fail(
            EX_TEMPFAIL,
            "the agent went away before it answered: `doveadm replica operations` shows what it does, once it is back");
}

void run(struct doveadm_cmd_context *cctx) {
    const char *const *args = nullptr;
    Words words;
    if (doveadm_cmd_param_array(cctx, "argument", &args))
        for (; *args != nullptr; args++)
            words.emplace_back(*args);
    std::string_view name = cctx->cmd->name + sizeof(module_name); // behind "replica "
    for (auto &verb : verbs()) {
        if (name != verb.name) continue;
        auto request = verb.request(words);
        if (!request) return fail(EX_USAGE, request.error().message.c_str());
        doveadm_print_init(DOVEADM_PRINT_TYPE_TABLE);
        return ask(*request);
    }
}

const struct doveadm_cmd_param parameters[] = {
    {.short_opt = '\0', .name = "argument", .type = CMD_PARAM_ARRAY, .flags = CMD_PARAM_FLAG_POSITIONAL},
    {.short_opt = '\0', .name = nullptr, .type = CMD_PARAM_BOOL, .flags = CMD_PARAM_FLAG_NONE},
};

} // namespace

extern "C" {
const char *doveadm_replica_plugin_version = DOVECOT_ABI_VERSION;
void doveadm_replica_plugin_init(struct module *module);
void doveadm_replica_plugin_deinit(void);

void doveadm_replica_plugin_init(struct module *) {
    for (auto &verb : verbs()) {
        struct doveadm_cmd_ver2 command = {};
        command.cmd = run;
        command.name = i_strconcat(module_name, " ", verb.name, NULL); // for doveadm's life, as every command's name
        command.usage = verb.usage;
        command.flags = CMD_FLAG_NO_OPTIONS;
        command.parameters = parameters;
        doveadm_cmd_register_ver2(&command);
    }
}
void doveadm_replica_plugin_deinit(void) {}
}
