// agentd as a service of Dovecot's master: the main thread runs Dovecot's loop (signals, listeners, the master's pipe),
// one thread of ours runs the agent. Nothing of libdovecot is called on that thread; it logs by writing the master's
// log lines itself.
#include "agentd/io/agent.hpp"
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <sys/eventfd.h>
#include <sys/utsname.h>
#include <thread>
#include <unistd.h>
#include "plugin/compat/agent.hpp"

namespace {

using namespace replica;

Agent *agent;
int ended_fd = -1;
struct io *ended_io;

// Dovecot's log protocol on fd 2: a line that begins with byte 1 and the log type, in one write.
void write_log(Effects::Level level, const std::string &text) {
    constexpr size_t line_bytes_max = 4000; // below PIPE_BUF, so that lines never mix
    char type = level == Effects::Level::info      ? LOG_TYPE_INFO
                : level == Effects::Level::warning ? LOG_TYPE_WARNING
                                                   : LOG_TYPE_ERROR;
    std::string line = {'\1', static_cast<char>(type + 1)};
    line += std::to_string(getpid()) + " " + text.substr(0, line_bytes_max);
    for (size_t i = 2; i < line.size(); i++)
        if (line[i] == '\n' || line[i] == '\r') line[i] = ' ';
    line += '\n';
    (void)!write(STDERR_FILENO, line.data(), line.size());
}

Result<std::string> read_file(const std::string &setting, const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    if (!file || !(text << file.rdbuf()))
        return Error{Code::invalid, setting + ": " + path + ": " + std::strerror(errno) +
                                        ": the agent's user must be able to read it"};
    return text.str();
}

Result<AgentOptions> options() {
    AgentOptions o;
    auto raw = compat::agent_settings(&o.base_dir);
    if (!raw) return raw.error();
    o.host = my_hostname;
    auto settings = parse_settings(*raw, o.host);
    if (!settings) return settings.error();
    o.settings = *settings;
    if (settings->brokers.empty()) return o; // not in use: see idle()
    if (auto checked = check_for_agent(*settings); !checked) return checked.error();
    auto keys = read_file("replica_key_file", o.settings.key_file);
    if (!keys) return keys.error();
    auto ring = KeyRing::parse(*keys);
    if (!ring) return Error{Code::invalid, "replica_key_file: " + o.settings.key_file + ": " + ring.error().message};
    o.ring = *ring;
    if (!o.settings.kafka_config.empty()) {
        auto text = read_file("replica_kafka_config", o.settings.kafka_config);
        if (!text) return text.error();
        auto properties = parse_kafka_config(*text);
        if (!properties)
            return Error{Code::invalid,
                         "replica_kafka_config: " + o.settings.kafka_config + ": " + properties.error().message};
        o.kafka_properties = *properties;
    }
    o.version = REPLICA_VERSION;
    auto boot = read_file("boot", "/proc/sys/kernel/random/boot_id");
    if (!boot) return boot.error();
    o.boot = boot->substr(0, boot->find('\n'));
    o.worker_socket = o.base_dir + "/replica-apply";
    return o;
}

void client_connected(struct master_service_connection *connection) {
    std::string_view name = connection->name;
    SocketKind kind = name.ends_with("-control") ? SocketKind::control
                      : name.ends_with("-dict")  ? SocketKind::dict
                                                 : SocketKind::mail;
    master_service_client_connection_accept(connection);
    agent->handle_connection(kind, connection->fd);
    master_service_client_connection_destroyed(
        master_service); // the agent counts its own: the master is never to think us full
}

// Dovecot reloads or stops: another agent may wait for us to settle.
void master_is_gone() {
    master_service_stop_new_connections(master_service);
    agent->shut_down();
}

void agent_ended(void *) { master_service_stop(master_service); }

// conf.d/90-replica.conf is installed, but nothing is set: an agent that died would be started for ever.
int idle() {
    i_info("replica_brokers is not set: no account of this store can have a replica");
    master_service_run(master_service, [](struct master_service_connection *connection) {
        static constexpr char line[] = "-\treplica_brokers is not set: no account of this store can have a replica\n";
        master_service_client_connection_accept(connection);
        if (std::string_view(connection->name).ends_with("-control"))
            (void)!write(connection->fd, line, sizeof(line) - 1);
        close(connection->fd);
        master_service_client_connection_destroyed(master_service);
    });
    return 0;
}

int serve(AgentOptions chosen) {
    std::string failure;
    Agent served(std::move(chosen), write_log);
    agent = &served;
    ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ended_io = io_add(ended_fd, IO_READ, agent_ended, static_cast<void *>(nullptr));
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); // signals are the main thread's, also in librdkafka's threads
    std::thread thread([&] {
        if (auto ran = served.run(); !ran) failure = ran.error().message;
        uint64_t one = 1;
        (void)!write(ended_fd, &one, sizeof(one));
    });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    master_service_set_die_callback(master_service, master_is_gone);
    master_service_run(master_service, client_connected);
    served.shut_down();
    thread.join();
    io_remove(&ended_io);
    close(ended_fd);
    if (failure.empty()) return 0;
    i_error("%s", failure.c_str());
    return FATAL_DEFAULT;
}

} // namespace

int main(int argc, char *argv[]) {
    master_service = master_service_init("agentd", MASTER_SERVICE_FLAG_UPDATE_PROCTITLE, &argc, &argv, "");
    if (master_getopt(master_service) > 0) return FATAL_DEFAULT;
    auto chosen = options();
    master_service_init_log(master_service);
    int status = FATAL_DEFAULT;
    if (!chosen) {
        i_error("%s", chosen.error().message.c_str());
        master_service_init_finish(master_service);
    } else {
        // Settings and keys were read as root; from here on, before any thread, the process is its service's user.
        restrict_access_by_env(static_cast<enum restrict_access_flags>(0), nullptr);
        restrict_access_allow_coredumps(true);
        master_service_init_finish(master_service);
        status = chosen->settings.brokers.empty() ? idle() : serve(std::move(*chosen));
    }
    master_service_deinit(&master_service);
    return status;
}
